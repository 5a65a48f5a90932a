"""Somebody else flushes rules while guests send: what the port lock still stops, and the guard that comes back by itself."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.guard import nftables
from reconciler.guard_record import Record
from reconciler.guard_restore import Restored, Restorer
from reconciler.only_writer import only_writer
from reconciler.watch_kernel import KernelWatch
from state.events import listen_to_ports
from state.nft import Features, read_table
from tests.packets import frames as f
from tests.packets.cases import CASES, udp4
from tests.packets.lab import Lab
from tests.packets.parties import GATEWAY, GUARD, UPLINK, A, B
from tests.packets.test_frames import complaint

pytestmark = pytest.mark.netns
WAKES_WITHIN_S = 10.0  # of which it takes some hundredths
FORGED = udp4(B.v4, GATEWAY)
# What `systemctl restart nftables` loads on Debian, what Docker and firewalld load when they start, and plain accidents.
NFTABLES_CONF = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter;\n\t}\n}\n"
FIREWALLD = "table inet firewalld\ndelete table inet firewalld\ntable inet firewalld {\n\tchain filter_FORWARD {\n\t\ttype filter hook forward priority filter + 10;\n\t\tct state established,related accept\n\t}\n}\n"
DOCKER = "*filter\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n-A FORWARD -j DOCKER\nCOMMIT\n"
TAKES_IT: dict[str, tuple[tuple[str, ...], str]] = {
    "nft flush ruleset": (("nft", "flush", "ruleset"), ""),
    "nft flush ruleset bridge": (("nft", "flush", "ruleset", "bridge"), ""),
    "systemctl restart nftables": (("nft", "-f", "-"), NFTABLES_CONF),
    "nft delete table": (("nft", "delete", "table", "bridge", "domgit"), ""),
    "nft flush table": (("nft", "flush", "table", "bridge", "domgit"), ""),
    "nft flush chain": (("nft", "flush", "chain", "bridge", "domgit", "prerouting"), ""),
    "nft flush set": (("nft", "flush", "map", "bridge", "domgit", "ports"), ""),
    "another verdict for a port": (
        ("nft", "-f", "-"),
        f'delete element bridge domgit ports {{ "{A.port}" }}\nadd element bridge domgit ports {{ "{A.port}" : accept }}\n',
    ),
}
LEAVES_IT: dict[str, tuple[tuple[str, ...], str]] = {
    "iptables -F": (("iptables-nft", "-F"), ""),
    "iptables-legacy -F": (("iptables-legacy", "-F"), ""),
    "iptables -t raw -F": (("iptables-nft", "-t", "raw", "-F"), ""),
    "ebtables -F": (("ebtables-nft", "-F"), ""),
    "ebtables -t nat -F": (("ebtables-nft", "-t", "nat", "-F"), ""),
    "firewalld starts": (("nft", "-f", "-"), FIREWALLD),
    "docker starts": (("iptables-nft-restore", "--noflush"), DOCKER),
}


@dataclass(frozen=True, slots=True)
class Watched:
    """The guard of the bench, kept and watched as by `domgit run`."""

    lab: Lab
    record: Record
    features: Features
    reasons: queue.SimpleQueue[str]

    def wakes(self) -> str:
        """Why the daemon would start a pass."""
        return self.reasons.get(timeout=WAKES_WITHIN_S)

    def whole(self) -> bool:
        return nftables.script(read_table(self.lab.dom0), GUARD, self.features) == ("", "elements")


def keep(lab: Lab, features: Features, folder: Path) -> Record:
    record = Record(folder / "guard", folder / "run", "this-boot")
    lab.load(nftables.full(GUARD, features))
    record.save(lab.dom0, frozenset())
    return record


@pytest.fixture
def watched(lab: Lab, features: Features, tmp_path: Path) -> Iterator[Watched]:
    record = keep(lab, features, tmp_path)
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    restorer = Restorer(lab.dom0, record, lambda: "2026-11-28T00:00:00Z")
    watch = KernelWatch(reasons, restorer)
    with lab.dom0.inside():
        listening = watch.listening()
        listening.__enter__()
    yield Watched(lab, record, features, reasons)
    listening.__exit__(None, None, None)


@pytest.mark.parametrize("command", [*TAKES_IT, *LEAVES_IT])
def test_without_any_rule_a_locked_port_still_sends_from_its_own_mac_alone(
    lab: Lab, features: Features, tmp_path: Path, command: str
) -> None:
    keep(lab, features, tmp_path)
    lab.lock(A)
    argv, stdin = {**TAKES_IT, **LEAVES_IT}[command]

    lab.dom0.must(*argv, stdin=stdin)

    spoofed = [
        f.ethernet(to.mac, mac, f.IPV4, udp4(A.v4, to)[14:])
        for to in (B, GATEWAY)
        for mac in (B.mac, GATEWAY.mac, "02:00:00:00:00:99")
        if mac != to.mac
    ]
    assert [frame for frame in spoofed if not lab.send(frame).nothing] == []
    assert UPLINK in lab.send(udp4(A.v4, GATEWAY)).where


@pytest.mark.parametrize("command", TAKES_IT)
def test_a_guard_that_was_taken_away_is_back_before_any_pass_begins(watched: Watched, command: str) -> None:
    argv, stdin = TAKES_IT[command]

    watched.lab.dom0.must(*argv, stdin=stdin)

    assert watched.wakes() == "guard changed"
    assert watched.whole()
    assert watched.lab.send(FORGED).nothing
    [told] = watched.record.take_restored()
    assert (told["type"], told["outcome"]) == ("guard", "restored")
    assert list(watched.record.take_restored()) == []


@pytest.mark.parametrize("command", LEAVES_IT)
def test_a_guard_that_others_leave_alone_is_left_as_it_is(watched: Watched, command: str) -> None:
    argv, stdin = LEAVES_IT[command]
    count = ("nft", "add", "element", "bridge", "domgit", "count_mac", '{ "vm01" }')
    watched.lab.dom0.must(*count)

    watched.lab.dom0.must(*argv, stdin=stdin)

    assert watched.whole()
    assert '"vm01"' in watched.lab.dom0.must("nft", "list", "set", "bridge", "domgit", "count_mac")
    assert list(watched.record.take_restored()) == []


def test_what_comes_back_guards_like_what_was_taken(watched: Watched) -> None:
    watched.lab.dom0.must("nft", "flush", "ruleset")
    watched.wakes()

    wrong = [found for case in CASES if (found := complaint(case, watched.lab.send(case.frame, case.sender)))]

    assert wrong == [], "\n".join(wrong)


def test_a_binding_that_the_hotplug_script_has_added_is_not_taken_for_damage_and_survives_it(
    watched: Watched,
) -> None:
    added = '"vif7.0" . 00:16:3e:00:00:07'
    watched.lab.dom0.must("nft", "add", "element", "bridge", "domgit", "own_mac", f"{{ {added} }}")
    assert watched.wakes() == "guard changed"  # for a pass to look at
    assert list(watched.record.take_restored()) == []

    watched.lab.dom0.must("nft", "flush", "chain", "bridge", "domgit", "prerouting")

    assert watched.wakes() == "guard changed"
    table = read_table(watched.lab.dom0)
    assert table is not None
    assert added in table.elements["own_mac"]
    assert watched.lab.send(FORGED).nothing


def test_rules_of_others_wake_a_pass_and_members_of_their_sets_do_not(watched: Watched) -> None:
    watched.lab.dom0.must("nft", "add", "table", "inet", "other")
    assert watched.wakes() == "rules of others changed"
    watched.lab.dom0.must(
        "nft", "add", "element", "bridge", "domgit", "own_mac", '{ "x" . 02:00:00:00:00:01 }'
    )

    # What comes next is what happened next: it was said in this order.
    assert watched.wakes() == "guard changed"


@pytest.mark.parametrize(
    "change",
    [
        ("ip", "link", "set", "vm01", "name", "renamed"),
        ("bridge", "link", "set", "dev", "vm01", "learning", "on", "locked", "off"),
        ("ip", "link", "set", "vm01", "nomaster"),
    ],
)
def test_a_port_that_is_renamed_unlocked_or_taken_off_its_bridge_wakes_a_pass(
    watched: Watched, change: tuple[str, ...]
) -> None:
    lab = watched.lab
    lab.lock(A)
    assert watched.wakes().startswith("port changed")  # the locking of it
    try:
        lab.dom0.must(*change)

        assert watched.wakes().startswith("port changed")
    finally:
        lab.dom0.run(("ip", "link", "set", "renamed", "name", "vm01"))
        lab.dom0.must("ip", "link", "set", "vm01", "master", "xenbr0")


def test_reading_a_host_makes_no_events(lab: Lab, features: Features, tmp_path: Path) -> None:
    """Else a pass would wake the next one, for ever."""
    keep(lab, features, tmp_path)
    with lab.dom0.inside():
        ports = listen_to_ports()
    with ports:
        ports.setblocking(False)
        for argv in (
            ("ip", "-j", "-d", "link"),
            ("bridge", "-j", "-d", "link", "show"),
            ("bridge", "-j", "fdb", "show"),
        ):
            lab.dom0.must(*argv)
        with pytest.raises(BlockingIOError):
            ports.recv(65536)


class TestWhoMustNotBringItBack:
    """What is on disk is only loaded when it is what was last loaded, by anybody."""

    @pytest.fixture
    def record(self, lab: Lab, features: Features, tmp_path: Path) -> Record:
        record = keep(lab, features, tmp_path)
        lab.dom0.must("nft", "flush", "ruleset")
        return record

    def restored(self, lab: Lab, record: Record) -> str:
        said = Restorer(lab.dom0, record, lambda: "", lambda _: None)()
        assert (read_table(lab.dom0) is None) == (said != "restored")
        return said

    def test_nobody_when_a_change_was_begun_and_not_ended(self, lab: Lab, record: Record) -> None:
        record.mark()

        assert self.restored(lab, record) == "left"

    @pytest.mark.parametrize("state", ["new", "armed", "reverting", "reverted"])
    def test_nobody_while_a_change_is_on_trial_or_was_taken_back(
        self, lab: Lab, record: Record, state: str
    ) -> None:
        (record.folder / f"20261128T000000-abc.{state}").touch()

        assert self.restored(lab, record) == "left"

    def test_nobody_while_somebody_else_changes_the_guard(self, lab: Lab, record: Record) -> None:
        with only_writer(record.run / "guard-lock"):
            assert self.restored(lab, record) == "left"

        assert self.restored(lab, record) == "restored"

    def test_nobody_from_a_file_that_is_damaged(self, lab: Lab, record: Record) -> None:
        text = record.path.read_text(encoding="utf-8")
        record.path.write_text(text.replace(A.v4, B.v4), encoding="utf-8")

        assert self.restored(lab, record) == "left"

    def test_nobody_from_a_file_of_another_boot(self, lab: Lab, record: Record) -> None:
        later = Record(record.folder, record.run, "another-boot")

        assert self.restored(lab, later) == "left"
        assert self.restored(lab, record) == "restored"


def test_under_a_stream_no_forged_mac_gets_through_and_nothing_legal_is_lost(watched: Watched) -> None:
    """Whatever is loaded just then: of forged MACs the port lets in none, and a reload is one transaction."""
    lab, flushes, between = watched.lab, 20, 50
    lab.lock(A)
    lab.restore()
    lab.drain()
    legal = udp4(A.v4, GATEWAY)
    forged = f.ethernet(GATEWAY.mac, B.mac, f.IPV4, legal[14:])
    sent, ended = threading.Semaphore(0), threading.Event()
    counted = 0

    def send() -> None:
        nonlocal counted
        while not ended.is_set():
            lab.sockets[A.port].send(forged)
            lab.sockets[A.port].send(legal)
            counted += 1
            sent.release()

    sender, heard = threading.Thread(target=send), list[bytes]()
    sender.start()
    try:
        for _ in range(flushes):
            lab.dom0.must("nft", "flush", "ruleset")
            watched.wakes()
            for _ in range(between):
                assert sent.acquire(timeout=WAKES_WITHIN_S)
            heard += lab.heard(UPLINK)  # a socket holds so many, and a busy machine takes its time
    finally:
        ended.set()
        sender.join()

    heard += lab.heard(UPLINK)
    assert watched.whole()
    assert counted >= flushes * between
    assert len([frame for frame in heard if frame == forged]) == 0
    assert len([frame for frame in heard if frame == legal]) == counted


def test_a_defect_in_bringing_it_back_wakes_a_pass_and_ends_nothing(
    lab: Lab, features: Features, caplog: pytest.LogCaptureFixture
) -> None:
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()

    def fails() -> Restored:
        raise ZeroDivisionError

    with lab.dom0.inside():
        listening = KernelWatch(reasons, fails).listening()
        listening.__enter__()
    for _ in range(2):
        assert reasons.get(timeout=WAKES_WITHIN_S) == "guard changed"
        lab.load(nftables.full(GUARD, features))
    listening.__exit__(None, None, None)

    assert "ZeroDivisionError" in caplog.text
