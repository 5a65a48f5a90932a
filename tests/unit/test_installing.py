"""An installer is started once: what a pass knows of an installation, and what it tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.diff import make_plan
from reconciler.installing import as_installed, installation, is_installer, settings_digest, started, told
from reconciler.ledger import Owned
from reconciler.plan import Plan
from reconciler.policy import Policy
from state.desired import DomU
from state.observed import Domain
from tests.unit.deviations import situation
from tests.unit.worlds import desired, settled

INSTALL = {"kernel": "/srv/xen/install.gz", "cdrom": "/srv/xen/cd.iso"}
RUN = {"kernel": "/srv/xen/vmlinuz"}


def words(**boot: Any) -> dict[str, Any]:
    return {"boot": {"phase": "install", "install": INSTALL, "run": RUN, **boot}}


def domu(**boot: Any) -> DomU:
    return desired({"vm01": words(**boot)}).domus[0]


def living(spec: DomU) -> Domain:
    return settled(replace(desired({"vm01": {}}), domus=(spec,))).domains["vm01"]


def planned(git: Any, live: Any, *, applied: Any = None, by_hand: bool = False) -> Plan:
    before = git if applied is None else applied
    found = situation({"git": {"vm01": git}, "applied": {"vm01": before}, "live": {"vm01": live}})
    return make_plan(found, Policy(by_hand=by_hand, disruption="reboot"))


def installers_started(plan: Plan) -> int:
    """How many installers a plan starts or stages; one writes the installer's kernel into the file that is started."""
    written = any("install.gz" in str(change.after) for change in plan.due)
    given = [change for change in plan.due if change.actions == ("create",) and not change.part]
    staged = [
        change for change in plan.due if change.when == "next_guest_reboot" and "kernel" in change.after
    ]
    return len(given) + len(staged) if written else 0


def test_a_domu_in_phase_run_has_no_installation() -> None:
    spec = desired({"vm01": {}}).domus[0]

    assert installation(spec, living(spec), Owned("vm01"), None) is None
    assert started(spec, None) == "runs -"
    assert started(spec, Owned("vm01", install="begun 12")) == "runs 12"
    assert started(spec, Owned("vm01", install="runs 12")) is None


def test_an_installer_is_known_by_what_the_toolstack_does_when_it_reboots() -> None:
    assert is_installer(living(domu()))
    assert not is_installer(living(desired({"vm01": {}}).domus[0]))
    assert not is_installer(replace(living(domu()), saved=None))
    assert not is_installer(None)


@pytest.mark.parametrize("key", ["kernel", "ramdisk", "cmdline", "cdrom"])
def test_every_setting_of_the_installer_tells_one_installation_from_another(key: str) -> None:
    one, other = domu().boot, domu(install={**INSTALL, key: "/srv/xen/other"}).boot
    assert one is not None
    assert other is not None

    assert settings_digest(one) == settings_digest(replace(one))
    assert settings_digest(one) != settings_digest(other)


def test_a_setting_of_the_installed_system_is_none_of_the_installers() -> None:
    one, other = domu().boot, domu(run={"kernel": "/srv/xen/vmlinuz-2"}).boot
    assert one is not None
    assert other is not None

    assert settings_digest(one) == settings_digest(other)


@pytest.mark.parametrize("how", ["begun", "reboot", "poweroff", "runs"])
@pytest.mark.parametrize("then", [{}, {"then": "run"}])
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("live", [{"gone": "yes"}, {"shutdown": "reboot", "monitor": "dead"}, {}])
def test_what_has_begun_once_is_never_begun_again_by_a_pass(
    how: str, then: dict[str, str], live: dict[str, str], changed: bool
) -> None:
    install = {**INSTALL, "cdrom": "/srv/xen/cd-2.iso"} if changed else INSTALL
    plan = planned(words(**then, install=install), {**live, "install": how}, applied=words(**then))

    assert installers_started(plan) == 0


@pytest.mark.parametrize("live", [{"gone": "yes"}, {"shutdown": "crash", "monitor": "dead"}, {}])
@pytest.mark.parametrize("known", [{}, {"install": "none"}])
def test_no_installer_is_started_for_a_guest_that_has_run(live: Any, known: Any) -> None:
    assert installers_started(planned(words(), {**live, **known}, applied={})) == 0


def test_one_that_never_ran_may_still_be_installed() -> None:
    plan = planned(words(), {"up": "3", "gone": "yes"}, applied={"state": "halted"})

    assert installers_started(plan) == 1


def test_what_git_said_when_it_began_stays_until_it_has_ended() -> None:
    before, now = domu(), domu(install={**INSTALL, "cdrom": "/srv/xen/cd-2.iso"})
    assert before.boot is not None
    owned = Owned("vm01", install=f"begun {settings_digest(before.boot)}")

    found = installation(now, living(before), owned, before)

    assert found is not None
    assert (found.stage, found.changed) == ("running", True)
    assert as_installed(now, found, before).boot == before.boot
    assert as_installed(now, found, None).boot == now.boot


def test_one_that_git_wants_halted_has_not_ended_by_itself() -> None:
    """It may have been our own shutdown that ended it, halfway through."""
    spec = replace(domu(), state="halted")
    owned = Owned("vm01", install=started(spec, None) or "")

    found = installation(spec, replace(living(domu()), shutdown="poweroff"), owned, spec)

    assert found is not None
    assert found.stage == "running"


def test_one_that_is_being_torn_down_or_made_has_not_ended() -> None:
    spec = domu()
    owned = Owned("vm01", install=started(spec, None) or "")

    dying = installation(spec, replace(living(spec), dying=True), owned, spec)
    made = installation(spec, replace(living(spec), saved=None), None, None)

    assert dying is not None
    assert made is not None
    assert (dying.stage, made.stage) == ("running", "due")


def test_what_begins_again_is_told_by_its_changes_alone() -> None:
    spec = domu()

    found = installation(spec, None, Owned("vm01", install="runs -"), spec, anew=True)

    assert found is not None
    assert told("vm01", found) is None
    assert as_installed(spec, found, spec) == spec
