"""The look beside the passes: what it writes, what it leaves alone, and that it ends."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import disk_history, disk_record
from reconciler.disk_look import guests, look
from reconciler.disk_watch import DiskWatch, watched
from state.desired import Desired
from state.inside import MODULE
from state.insides import Inside, look_into
from state.run import Completed, ReadError, Runner
from tests.model.strategies import desired_of
from tests.model.world import World, make_world
from tests.unit.test_refusals import FILES

EXT4 = {
    "size_bytes": 1000,
    "free_bytes": 50,
    "available_bytes": 40,
    "inodes": 10,
    "inodes_free": 5,
    "mounted": True,
    "superblock_free_bytes": 900,
    "superblock_inodes_free": 9,
    "written_s": 5,
    "generation": None,
}
VOLUME = {"name": "1", "start_bytes": 512, "size_bytes": 2000, "kind": "ext4", "use": EXT4, "why": ""}
LOGIN = {
    "volume": "1",
    "init": "sysvinit",
    "gettys": [{"file": "/etc/inittab", "line": 3, "device": "xvc0", "ident": "co", "untrusted_text": ""}],
    "automatic": False,
    "securetty": ["hvc0"],
    "why": "",
}
ANSWER = {
    "disk": {"size_bytes": 4096, "table": "mbr", "volumes": [VOLUME], "truncated": False},
    "block": False,
    "changed_s": 7,
    "login": LOGIN,
}


class Looker:
    """A host whose child says this of every disk; it counts how often it was asked."""

    def __init__(self, others: Runner, answer: object = ANSWER) -> None:
        self.others, self.answer = others, answer
        self.asked: list[list[Mapping[str, object]]] = []
        self.looked = threading.Event()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        if MODULE not in argv:
            return self.others.run(argv, stdin=stdin, timeout_s=timeout_s, environment=environment)
        self.asked.append(json.loads(stdin))
        self.looked.set()
        said = self.answer if isinstance(self.answer, str) else json.dumps(self.answer)
        lines = (
            json.dumps({"index": index, "said": said, "error": None}) for index in range(len(self.asked[-1]))
        )
        return Completed(tuple(argv), 0, "\n".join(lines), "", 1, 0.1)


def wanted() -> Desired:
    """vm01 without a disk, and vm02 with one that can be looked into and nobody asks of its console."""
    spec: Any = FILES["hosts/dom0-a/domus/vm01.yaml"][2]
    disk = {"vdev": "xvda", "path": "/srv/xen/images/vm01.img", "size": "8MiB"}
    other = {**spec, "vifs": [], "disks": [disk], "console": {"login": "ignore"}}
    specs = {**FILES, "hosts/dom0-a/domus/vm02.yaml": ("DomU", "vm02", other)}
    documents = {
        path: json.dumps({"apiVersion": "domgit/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        for path, (kind, name, spec) in specs.items()
    }
    return desired_of(documents)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A host on which both run."""
    made = make_world(tmp_path)
    made.apply(wanted())
    return made


def ended() -> None:
    """Wait for watches that were told to end."""
    for thread in threading.enumerate():
        if thread.name == "disks":
            thread.join(30)
            assert not thread.is_alive()


def test_a_look_is_left_for_passes_for_the_trend_and_for_monitoring(world: World) -> None:
    looker = Looker(world.dom0.runner)
    dom0 = replace(world.dom0, runner=looker)

    watched(dom0, 90)

    assert looker.asked == [[{"path": "/srv/xen/images/vm01.img", "login": False}]]
    looked = disk_record.load(world.paths.disks, now_s=world.dom0.now().timestamp())
    assert looked is not None
    (filled,) = looked.filled
    assert (filled.domu, filled.volume, filled.used_percent, filled.over(90)) == ("vm02", "xvda1", 96, True)
    assert looked.login_of(filled.uuid) is not None
    assert looked.login_of("another") is None
    assert [*disk_history.load(world.paths.disk_history)] == [(filled.uuid, "xvda1")]
    assert "domgit_disk_over_warn_at{" in world.paths.disk_metrics.read_text(encoding="utf-8")
    # A pass reads it. Of its console nothing is told: `login: ignore`.
    assert [(note.address, note.reason) for note in world.plan(wanted()).notes] == [
        ("domu.vm02", "disk_full")
    ]


def test_a_name_that_nobody_has_is_refused(world: World) -> None:
    with pytest.raises(ReadError, match="no domU 'vm99', neither last applied here nor alive"):
        look(replace(world.dom0, runner=Looker(world.dom0.runner)), ["vm99"])


def test_who_was_never_applied_and_lives_has_disks_too(world: World) -> None:
    world.paths.last_good.unlink()

    assert {guest.name: guest.running for guest in guests(world.dom0)} == {"vm01": True, "vm02": True}


@pytest.mark.parametrize(
    "answer",
    [
        "{",
        "[" * 100_000,
        {},
        {**ANSWER, "block": 1, "changed_s": -1},
        {**ANSWER, "login": {**LOGIN, "init": "launchd"}},
        {**ANSWER, "login": {**LOGIN, "gettys": [{}]}},
        {**ANSWER, "disk": {**ANSWER["disk"], "table": "bsd"}},  # type: ignore[dict-item]
        *(
            {**ANSWER, "disk": {"size_bytes": 1, "table": "none", "truncated": False, "volumes": [volume]}}
            for volume in (
                {**VOLUME, "kind": "\x1b[2J"},
                {**VOLUME, "why": "x" * 300},
                {**VOLUME, "size_bytes": 1 << 64},
                {**VOLUME, "use": {**EXT4, "free_bytes": 1001}},
                {**VOLUME, "use": {**EXT4, "size_bytes": None}},
                {**VOLUME, "use": {**EXT4, "inodes_free": 11}},
                {**VOLUME, "use": {**EXT4, "mounted": 2}},
                {**VOLUME, "use": {**EXT4, "inodes": True}},
            )
        ),
    ],
)
def test_what_no_reader_says_is_not_believed(world: World, answer: object) -> None:
    found = look_into(Looker(world.dom0.runner, answer), ["/srv/xen/images/vm01.img"])

    assert found == {"/srv/xen/images/vm01.img": "its reader handed over what no disk can be"}


def test_what_it_says_of_itself_is_told(world: World) -> None:
    assert look_into(Looker(world.dom0.runner, {"error": "it is gone"}), ["/a"]) == {"/a": "it is gone"}
    assert look_into(Looker(world.dom0.runner), []) == {}
    assert isinstance(look_into(Looker(world.dom0.runner), ["/a"])["/a"], Inside)


class Talker:
    """A child that says this, and ends so."""

    def __init__(self, out: str, rc: int = 0) -> None:
        self.out, self.rc = out, rc

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        return Completed(tuple(argv), self.rc, self.out, "", 1, 0.1)


@pytest.mark.parametrize(
    ("out", "rc"),
    [("", 0), ("nonsense", 0), ("", 1), ('{"index": 5, "said": null, "error": "x"}', 0), ('{"index": 0}', 0), ("[]", 0)],
)  # fmt: skip
def test_a_child_that_does_not_work_is_a_reading_that_failed(out: str, rc: int) -> None:
    with pytest.raises(ReadError):
        look_into(Talker(out, rc), ["/srv/xen/images/vm01.img"])


def test_the_watch_looks_once_begun_outlives_a_failure_and_ends(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    looker = Looker(world.dom0.runner)
    watch = DiskWatch(replace(world.dom0, runner=looker))
    assert not looker.looked.wait(0)

    watch.begin()
    watch.begin()
    assert looker.looked.wait(30)
    watch.end()
    ended()
    assert [record.message for record in caplog.records] == ["disks looked into"]

    caplog.clear()
    failing = DiskWatch(replace(world.dom0, runner=Talker("", 1)))
    failing.begin()
    failing.end()
    ended()
    assert {record.message for record in caplog.records} <= {"disks not looked into"}
