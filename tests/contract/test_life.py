"""How domUs end and come back: by their own doing, by their monitor's, and when somebody does not answer.

What takes the toolstack a minute to give up on is begun first and looked at last.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from state.run import CLEAN_ENVIRONMENT, Completed
from state.xl import SavedDomain
from tests.contract.here import marks
from tests.contract.host import CONFIGURATIONS, MEMORY_MIB, Host, mac_of, uuid_of

pytestmark = [*marks(120), pytest.mark.long]

NUMBER = 160
USERDATA = Path("/var/lib/xen")
SCRIPT_S, ANSWER_S, RESTART_S = 40.0, 60.0, 2.0
SLACK_S = 5.0
DEAF, STUBBORN = "ct-deaf", "ct-stubborn"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the toolstack waits for while the other tests run."""

    hung: Future[Completed]
    unanswered: Mapping[int, Future[Completed]]


@pytest.fixture(scope="module", autouse=True)
def waiting(host: Host) -> Iterator[Waiting]:
    """A create whose hotplug script hangs; requests to a domain that never got to run, and to one that has ignored one."""
    script = host.script("vif-hang", '[ "$1" = offline ] || exec sleep 100')  # else it takes twice as long
    path = host.write("ct-hang", NUMBER, vif=f'["mac={mac_of(NUMBER)},bridge=xenbr0,script={script}"]')
    stubborn = host.create(STUBBORN, NUMBER + 11)
    host.boot(STUBBORN).ignore_shutdown()
    assert host.xl("shutdown", stubborn).rc == 0
    deaf = host.create(DEAF, NUMBER + 1, "-p")
    with ThreadPoolExecutor() as pool:
        yield Waiting(
            pool.submit(host.xl, "create", "-q", "-f", path),
            {domid: pool.submit(host.xl, "shutdown", domid) for domid in (stubborn, deaf)},
        )


def test_a_domain_whose_script_hangs_is_there_and_nothing_more_is_known(host: Host) -> None:
    host.wait(lambda: any(row.name == "ct-hang" for row in host.rows().values()), "there")
    domid = host.domid("ct-hang")
    host.wait(lambda: host.vifs(domid), "its vif")
    domain = host.domain(domid)

    assert host.state(domid) == "--p---"
    assert domain is not None
    assert (domain.uuid, domain.saved, domain.staged) == (uuid_of("ct-hang"), None, None)
    assert domain.vifs[0].hotplug_status == ""
    listed = host.xl("list", "--long", domid)
    assert (listed.rc, listed.stdout.split()) == (0, ["[", "]"])
    assert "Fail to get domain configuration" in listed.stderr
    assert host.monitors("ct-hang") == 1


# ---- what becomes of a domain that ends by itself ----

LETTERS = {"poweroff": "---s--", "reboot": "---sr-", "crash": "---sc-"}
REACTIONS = ("destroy", "preserve", "restart", "rename-restart")


@dataclass(frozen=True, slots=True)
class Ended:
    """Domains that have all done the same, by the reaction that was asked for; `before` are their domids then."""

    act: str
    before: Mapping[str, int]

    def name(self, reaction: str) -> str:
        """Of the domain with that reaction."""
        return f"ct-{self.act}-{reaction}"


@pytest.fixture(scope="module", params=[*LETTERS])
def ended(request: pytest.FixtureRequest, host: Host) -> Iterator[Ended]:
    act = str(request.param)
    found = Ended(act, {})
    wanted = {
        found.name(reaction): (
            number,
            {f"on_{act}": f'"{reaction}"', "vif": f'["mac={mac_of(number)},bridge=xenbr0"]'},
        )
        for number, reaction in enumerate(REACTIONS, NUMBER + 2)
    }
    domids = host.create_all(wanted)
    for name in wanted:
        getattr(host.machine.guest(name), act)()
    yield replace(found, before={reaction: domids[found.name(reaction)] for reaction in REACTIONS})
    for row in host.rows().values():
        if row.name.startswith(f"ct-{act}-"):
            host.xl("destroy", row.domid)


def test_it_is_gone_where_it_is_to_be_destroyed(host: Host, ended: Ended) -> None:
    name, domid = ended.name("destroy"), ended.before["destroy"]

    host.wait(lambda: domid not in host.rows() and not host.monitors(name), f"gone after its {ended.act}")
    assert host.userdata(domid) == frozenset()
    assert host.nodes(f"/libxl/{domid}") == frozenset()
    host.wait(lambda: host.loops(host.image(name)) == 0, "its loop device is let go")


def test_it_stays_with_the_reason_where_it_is_to_be_preserved(host: Host, ended: Ended) -> None:
    name, domid = ended.name("preserve"), ended.before["preserve"]
    host.wait(lambda: host.rows()[domid].shutdown, f"shut down by its {ended.act}")
    host.wait(lambda: host.monitors(name) == 0, "nobody watches over it any more")

    assert host.rows()[domid].shutdown == ended.act
    assert host.state(domid)[2:] == LETTERS[ended.act][2:]
    domain = host.domain(domid)
    assert domain is not None
    assert domain.saved is not None
    assert not domain.running
    # Its name and its devices are still its own.
    assert host.xl("create", "-q", "-f", CONFIGURATIONS / f"{name}.cfg").rc == 3
    assert f"vif{domid}.0" in host.network().links
    assert host.xl("destroy", domid).rc == 0
    assert domid not in host.rows()


def test_it_comes_back_where_it_is_to_be_restarted(host: Host, ended: Ended) -> None:
    name, domid = ended.name("restart"), ended.before["restart"]
    host.wait(
        lambda: any(row.name == name and row.domid != domid for row in host.rows().values()), "a new domain"
    )
    host.wait(lambda: host.saved(host.domid(name)), "made whole")
    after = host.domid(name)

    assert after > domid
    assert host.uuids()[after] == uuid_of(name)
    assert domid not in host.rows()
    assert host.monitors(name) == 1
    host.boot(name)


def test_it_stays_under_another_name_where_it_is_to_be_renamed_and_restarted(
    host: Host, ended: Ended
) -> None:
    name, domid = ended.name("rename-restart"), ended.before["rename-restart"]
    host.wait(
        lambda: any(row.name == name and row.domid != domid for row in host.rows().values()), "a new domain"
    )
    host.wait(lambda: host.saved(host.domid(name)), "made whole")
    kept, uuids = host.rows()[domid], host.uuids()

    assert kept.name.startswith(f"{name}-")
    assert kept.shutdown == ended.act
    # Both have the uuid, in spite of libxl's own words: it gives what it keeps a new folder below /vm, and no new handle.
    assert uuids[domid] == uuids[host.domid(name)] == uuid_of(name)
    assert host.node(f"/local/domain/{domid}/vm") != f"/vm/{uuid_of(name)}"
    # What is kept keeps its devices, and so both have the image.
    assert [vif.mac for vif in host.vifs(domid).values()] == [
        vif.mac for vif in host.vifs(host.domid(name)).values()
    ]
    assert host.loops(host.image(name)) == 2
    host.boot(name)


# ---- a reboot in detail ----


@dataclass(slots=True)
class Watch:
    """What xenstore tells of domains that come and go, each with the moment when it was told."""

    events: list[tuple[str, float]] = field(default_factory=list)

    def listen(self, stream: Iterator[str]) -> None:
        """Until the stream ends."""
        for line in stream:
            self.events.append((line.strip(), time.monotonic()))


@dataclass(frozen=True, slots=True)
class Rebooted:
    """One reboot by a guest, with what was changed of it live before."""

    before: int
    after: int
    saved_before: SavedDomain
    events: tuple[tuple[str, float], ...]
    monitors_between: int


REBOOTING, REBOOTING_NUMBER = "ct-again", NUMBER + 6
ATTACHED = mac_of(NUMBER + 7)


@pytest.fixture(scope="module")
def rebooted(host: Host) -> Iterator[Rebooted]:
    name = REBOOTING
    domid = host.create(name, REBOOTING_NUMBER)
    guest = host.boot(name)
    assert host.xl("mem-set", domid, MEMORY_MIB + 16).rc == 0
    assert host.xl("network-attach", domid, f"mac={ATTACHED}", "bridge=xenbr0", "vifname=ct-again2").rc == 0
    assert host.xl("network-detach", domid, "0").rc == 0
    saved = host.saved(domid)
    assert saved is not None
    watch = Watch()
    process = subprocess.Popen(
        ["xenstore-watch", "@introduceDomain", "@releaseDomain"],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(CLEAN_ENVIRONMENT),
    )
    assert process.stdout is not None
    ear = threading.Thread(target=watch.listen, args=(process.stdout,))
    ear.start()
    host.wait(lambda: len(watch.events) >= 2, "a watch fires at once, each")
    watch.events.clear()
    guest.reboot()
    host.wait(lambda: domid not in host.rows(), "the old domain gone")
    between = host.monitors(name)
    host.wait(lambda: any(row.name == name for row in host.rows().values()), "the new domain")
    after = host.domid(name)
    host.wait(lambda: host.saved(after), "made whole")
    process.terminate()
    ear.join()
    process.wait()
    yield Rebooted(domid, after, saved, tuple(watch.events), between)
    host.xl("destroy", host.domid(name))


def test_a_guests_reboot_is_a_new_domain_of_the_same_name_and_uuid(host: Host, rebooted: Rebooted) -> None:
    assert rebooted.after > rebooted.before
    assert rebooted.before not in host.rows()
    assert host.uuids()[rebooted.after] == uuid_of(REBOOTING)
    assert host.node(f"/local/domain/{rebooted.before}/name") is None
    assert host.userdata(rebooted.before) == frozenset()
    assert f"vif{rebooted.before}.1" not in host.network().links


def test_between_the_two_there_is_no_domain_and_a_monitor(host: Host, rebooted: Rebooted) -> None:
    kinds = [kind for kind, _ in rebooted.events]
    released = [when for kind, when in rebooted.events if kind == "@releaseDomain"]
    introduced = [when for kind, when in rebooted.events if kind == "@introduceDomain"]

    assert rebooted.monitors_between == 1
    assert host.monitors(REBOOTING) == 1
    # Once when it shuts down and once when it is gone; xenstored may tell of both at once.
    assert kinds[0] == "@releaseDomain"
    assert len(introduced) == 1
    assert (
        introduced[0] - max(when for when in released if when < introduced[0]) >= RESTART_S - 0.5
    )  # as we hear of it


def test_what_was_changed_while_it_ran_is_so_after_its_reboot(host: Host, rebooted: Rebooted) -> None:
    saved = host.saved(rebooted.after)

    assert saved is not None
    assert replace(saved, domid=rebooted.before) == rebooted.saved_before
    assert saved.memory_mib == MEMORY_MIB + 16
    assert [(vif.index, vif.mac) for vif in saved.vifs] == [(1, ATTACHED)]
    vifs = host.vifs(rebooted.after)
    assert [(vif.index, vif.mac, vif.hotplug_status) for vif in vifs.values()] == [(1, ATTACHED, "connected")]
    assert host.network().ports["ct-again2"].bridge == "xenbr0"


def test_it_is_reached_again_after_its_reboot(host: Host, rebooted: Rebooted) -> None:
    guest = host.boot(REBOOTING)
    guest.configure([f"{host.machine.address.rpartition('.')[0]}.{REBOOTING_NUMBER}/24"], device="eth1")

    host.wait(lambda: guest.ping(host.machine.address), f"an answer in domain {rebooted.after}")


def test_a_staged_configuration_is_used_once_when_the_guest_is_asked_to_reboot(
    host: Host, rebooted: Rebooted
) -> None:
    host.boot(REBOOTING)
    path = host.write(REBOOTING, REBOOTING_NUMBER, memory=str(MEMORY_MIB + 8), maxvcpus="1")
    saved = host.saved(rebooted.after)

    updated = host.xl("config-update", rebooted.after, path)
    staged, kinds = host.domain(rebooted.after), host.userdata(rebooted.after)
    asked = host.xl("reboot", rebooted.after)
    host.wait(lambda: rebooted.after not in host.rows(), "the old domain gone")
    host.wait(lambda: any(row.name == REBOOTING for row in host.rows().values()), "the new domain")
    after = host.domid(REBOOTING)
    host.wait(lambda: host.saved(after), "made whole")

    assert (updated.rc, asked.rc) == (0, 0)
    assert staged is not None
    assert staged.staged == path.read_text()
    assert staged.saved == saved
    assert kinds == {"libxl-json", "xl"}
    now = host.domain(after)
    assert now is not None
    assert now.saved is not None
    assert (now.saved.memory_mib, now.saved.max_vcpus) == (MEMORY_MIB + 8, 1)
    assert now.staged is None
    assert host.userdata(after) == {"libxl-json"}
    assert now.uuid == uuid_of(REBOOTING)


# ---- left-overs and lost monitors ----

ALONE, ALONE_NUMBER = "ct-alone", NUMBER + 8


def test_what_was_staged_for_an_older_domain_is_used_by_a_later_one_of_its_domid_and_uuid(host: Host) -> None:
    """As after a host reboot: domids begin at 1 again, and the files of libxl are still there."""
    name = "ct-stale"
    first = host.create(name, NUMBER + 9, "-p")
    assert host.xl("destroy", first).rc == 0
    text = host.write(name, NUMBER + 9, memory=str(MEMORY_MIB + 8)).read_text()
    stale = [USERDATA / f"userdata-d.{first + later}.{uuid_of(name)}.xl" for later in range(1, 5)]
    for each in stale:
        each.write_text(text)
    try:
        domid = host.create(name, NUMBER + 9)
        guest = host.boot(name)
        domain = host.domain(domid)
        guest.reboot()
        host.wait(lambda: domid not in host.rows(), "the old domain gone")
        host.wait(lambda: any(row.name == name for row in host.rows().values()), "the new domain")
        host.wait(lambda: host.saved(host.domid(name)), "made whole")
        saved = host.saved(host.domid(name))

        assert first < domid <= first + len(stale)
        assert domain is not None
        assert domain.saved is not None
        assert domain.saved.memory_mib == MEMORY_MIB
        assert domain.staged == text
        assert saved is not None
        assert saved.memory_mib == MEMORY_MIB + 8
        host.xl("destroy", host.domid(name))
    finally:
        for each in stale:
            each.unlink(missing_ok=True)


def test_without_its_monitor_a_domain_that_shuts_down_stays(host: Host) -> None:
    domid = host.create(ALONE, ALONE_NUMBER)
    host.boot(ALONE)
    os.kill(monitor_of(ALONE), signal.SIGKILL)
    host.wait(lambda: host.monitors(ALONE) == 0, "its monitor is gone")

    done = host.xl("shutdown", "-w", domid)

    assert done.rc == 0
    assert host.rows()[domid].shutdown == "poweroff"
    assert host.xl("destroy", domid).rc == 0
    assert domid not in host.rows()


def monitor_of(name: str) -> int:
    """The process that watches over the domain made from this name's file."""
    wanted = f"{CONFIGURATIONS}/{name}.cfg".encode()
    found = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if wanted in words_of(path)]
    assert len(found) == 1, found
    return int(found[0])


def words_of(command_line: Path) -> list[bytes]:
    """The words of a process's command line, none when it has ended."""
    try:
        return command_line.read_bytes().split(b"\0")
    except OSError:
        return []


def test_a_domain_that_cannot_go_is_dying_and_its_name_and_uuid_are_free(host: Host) -> None:
    name = "ct-undead"
    domid = host.create(name, NUMBER + 10, "-p")

    with host.machine.undying(domid):
        host.xl("destroy", domid)
        host.wait(lambda: host.rows()[domid].dying, "dying")
        domain, row = host.domain(domid), host.rows()[domid]
        again = host.create(name, NUMBER + 10, "-p")
        both = host.uuids()
    host.wait(lambda: domid not in host.rows(), "gone when it is let go")

    assert row.name == "(null)"
    assert domain is not None
    assert (domain.dying, domain.running, domain.saved, domain.vifs) == (True, False, None, ())
    assert both[domid] == both[again] == uuid_of(name)
    assert host.xl("destroy", again).rc == 0


# ---- the end of waiting ----


def test_a_script_that_hangs_is_killed_after_40_s_and_nothing_stays(host: Host, waiting: Waiting) -> None:
    done = waiting.hung.result()

    assert done.rc == 3
    assert "because of timeout" in done.stderr
    assert SCRIPT_S <= done.duration_s < SCRIPT_S + SLACK_S * host.machine.slower
    assert not any(row.name == "ct-hang" for row in host.rows().values())
    assert host.monitors("ct-hang") == 0
    host.wait(lambda: host.loops(host.image("ct-hang")) == 0, "its loop device is let go")


@pytest.mark.parametrize("name", [DEAF, STUBBORN], ids=["paused", "that has ignored one before"])
def test_a_request_that_is_not_acknowledged_is_given_up_after_60_s_by_a_guest(
    host: Host, waiting: Waiting, name: str
) -> None:
    """Linux takes one request in a boot. Whoever has not ended then does not even acknowledge the next."""
    domid = host.domid(name)
    done = waiting.unanswered[domid].result()

    assert done.rc == 1
    assert "shutdown failed" in done.stderr
    assert ANSWER_S <= done.duration_s < ANSWER_S + SLACK_S * host.machine.slower
    assert host.rows()[domid].shutdown is None
