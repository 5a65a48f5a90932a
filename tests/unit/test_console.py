"""Where a guest's console is, who may be attached to, and what `get` says of how a guest starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from reconciler.console import NoConsoleError, console_argv, console_of
from reconciler.diff import make_plan
from reconciler.policy import Policy
from reconciler.scope import Situation
from reconciler.status import domu_facts, domu_lines, host_facts, host_lines
from state.run import Completed, ReadError
from state.xenstore import Console, read_console
from tests.unit.deviations import situation

VNC = {"console": {"vnc": {"listen": "127.0.0.1", "display": "5", "passwordSecret": "vm01-vnc"}}}
INSTALL = {
    "boot": {
        "phase": "install",
        "then": "run",
        "install": {"kernel": "/srv/xen/install.gz", "cdrom": "/srv/xen/cd.iso"},
        "run": {"kernel": "/srv/xen/vmlinuz"},
    }
}


class Nodes:
    """A xenstore with these nodes."""

    def __init__(self, nodes: Mapping[str, str], stderr: str = "") -> None:
        self.nodes, self.stderr = nodes, stderr

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        del stdin, timeout_s, environment
        tool, path = argv
        assert tool == "xenstore-read"
        if path in self.nodes:
            return Completed(tuple(argv), 0, f"{self.nodes[path]}\n", "", 1, 0.0)
        told = self.stderr or f"xenstore-read: couldn't read path {path}\n"
        return Completed(tuple(argv), 1, "", told, 1, 0.0)


def one(**words: Any) -> Situation:
    return situation({"git": {"vm01": words.pop("git", {})}, "live": {"vm01": words}})


def shown(found: Situation, console: Console | None = None) -> str:
    facts = domu_facts("vm01", found, make_plan(found, Policy(by_hand=False)), console)
    assert facts is not None
    return "\n".join([*domu_lines(facts), ""])


def test_a_console_is_where_xenstore_says() -> None:
    base = "/local/domain/7"
    nodes = {
        f"{base}/console/tty": "/dev/pts/3",
        f"{base}/console/type": "xenconsoled",
        f"{base}/serial/0/tty": "/dev/pts/4",
        f"{base}/console/vnc-port": "5905",
    }

    assert read_console(Nodes(nodes), 7) == Console("/dev/pts/3", "xenconsoled", "5905")
    assert read_console(Nodes(nodes), 7, serial=True) == Console("/dev/pts/4", "xenconsoled", "5905")
    assert read_console(Nodes({}), 7) == Console("", "")
    with pytest.raises(ReadError, match="xenstore-read"):
        read_console(Nodes({}, "xenstore-read: could not connect"), 7)


@pytest.mark.parametrize(("kind", "type_"), [("pv", "pv"), ("pvh", "pv"), ("hvm", "serial")])
def test_a_guest_is_attached_to_by_its_domid_where_its_getty_is(kind: str, type_: str) -> None:
    domain = console_of("vm01", one(git={"type": kind}))

    assert console_argv(domain) == ("xl", "console", "-t", type_, "1")


@pytest.mark.parametrize(
    ("live", "why"),
    [
        ({"gone": "yes"}, r"vm01 does not run: there is no console \(`domgit get vm01` says why\)"),
        ({"dying": "yes"}, "vm01 is being torn down: there is no console"),
        ({"unsaved": "yes"}, "vm01 is being made: there is no console"),
    ],
)
def test_there_is_nobody_to_talk_to_where_nobody_runs(live: dict[str, str], why: str) -> None:
    with pytest.raises(NoConsoleError, match=f"^{why}$"):
        console_of("vm01", one(**live))


def test_a_name_that_nobody_has_is_said_to_be_one() -> None:
    with pytest.raises(NoConsoleError, match="no domU 'vm09', neither in git nor alive"):
        console_of("vm09", one())


def test_one_that_has_crashed_and_is_kept_still_has_its_last_words() -> None:
    assert console_of("vm01", one(git={"onCrash": "preserve"}, shutdown="crash")).domid == 1


def test_a_former_name_leads_to_the_same_guest() -> None:
    found = situation(
        {
            "applied": {"vm01": {"uuid": "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11"}},
            "git": {"web01": {"uuid": "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11"}},
        }
    )

    assert console_of("vm01", found) == console_of("web01", found)


def test_get_shows_the_console_as_it_is_wanted_and_as_it_is() -> None:
    found = one(git=VNC, password="(another)")  # noqa: S106  # none

    text = shown(found, Console("/dev/pts/3", "xenconsoled", "5905"))

    assert (
        "console       hvc0, screen 127.0.0.1 display 5 (password vm01-vnc); live: xenconsoled /dev/pts/3, "
        "screen 127.0.0.1 display 5 (password (another))\n"
    ) in text
    assert "PendingReboot the guest's own next reboot brings vncPassword\n" in text
    assert "console       hvc0, no screen\n" in shown(one(gone="yes"))
    assert "console       hvc0, no screen; live: nowhere, no screen\n" in shown(one(), Console("", ""))
    assert "(no password)" in shown(one(git={"console": {"vnc": {"listen": "127.0.0.1", "display": "5"}}}))


def test_get_shows_how_a_guest_starts_and_how_far_its_installation_has_come() -> None:
    runs = one(git={"boot": {"run": {"kernel": "/srv/xen/vmlinuz", "cmdline": "ro"}}})

    assert "boot          run  kernel=/srv/xen/vmlinuz  cmdline=ro\n" in shown(runs)
    assert (
        "boot          install, then run  installation running  kernel=/srv/xen/install.gz  cdrom=/srv/xen/cd.iso\n"
        in shown(one(git=INSTALL))
    )
    assert "boot          install, then run  installation ended  kernel=/srv/xen/vmlinuz\n" in shown(
        one(git=INSTALL, installed="2")
    )


def test_status_names_every_field_that_waits_for_a_reboot() -> None:
    found = situation(
        {"applied": {"vm01": {}}, "git": {"vm01": {"onCrash": "destroy", "type": "pvh", "maxMemory": "1GiB"}}}
    )
    facts = host_facts(make_plan(found, Policy(by_hand=False)))

    assert facts["pending_reboot"] == [{"address": "domu.vm01", "fields": ["maxMemory", "onCrash", "type"]}]
    assert "PendingReboot domu.vm01: the guest's own next reboot brings maxMemory, onCrash, type" in [
        *host_lines(facts)
    ]


def test_what_is_not_staged_waits_for_no_reboot() -> None:
    found = situation(
        {"git": {"vm01": {"onCrash": "destroy"}}, "applied": {"vm01": {}}, "live": {"vm01": {"gone": "yes"}}}
    )

    assert host_facts(make_plan(replace(found), Policy(by_hand=False)))["pending_reboot"] == []
