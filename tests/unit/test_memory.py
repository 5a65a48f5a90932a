"""A reading that remembers says what one says that looks at everything, and looks at little."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from state.processes import LEAST_SHARE, shared_out
from state.run import HostRunner
from state.source import Reading, read_repository
from tests.unit.fleets import domu, host, network
from tests.unit.repositories import Repository
from tests.unit.test_source import Recording, repository

__all__ = ["repository"]
pytestmark = pytest.mark.git

PROFILE = """apiVersion: domgit/v1
kind: Profile
metadata: {name: small}
spec: {type: pv, memory: 256MiB, boot: {run: {kernel: /srv/xen/vmlinuz}}}
"""
INHERITS = """apiVersion: domgit/v1
kind: DomU
metadata: {{name: {name}}}
spec: {{profile: small, vifs: [{{mac: "{mac}", bridge: xenbr0}}]}}
"""
FILES = {
    **host(),
    **host("dom0-b"),
    **network("a", "172.16.39.0/24", "172.16.39.1"),
    "profiles/small.yaml": PROFILE,
    **domu("vm01", "mac: 00:16:3e:00:00:01, ips: [172.16.39.101]"),
    **domu("vm02", "name: vm02, mac: 00:16:3e:00:00:02, ips: [172.16.39.102]"),
    **domu("vm03", "mac: 00:16:3e:00:00:03, ips: [172.16.39.103]", host="dom0-b"),
    "hosts/dom0-a/domus/vm04.yaml": INHERITS.format(name="vm04", mac="00:16:3e:00:00:04"),
}
# What a commit may do to the files, each a name and its new text; None: gone.
CHANGES: tuple[dict[str, str | None], ...] = (
    dict(domu("vm01", "mac: 00:16:3e:00:00:01, ips: [172.16.39.111]")),
    dict(domu("vm01", "mac: 00:16:3e:00:00:02")),  # vm02's MAC
    dict(domu("vm03", "mac: 00:16:3e:00:00:03, ips: [172.16.39.102]", host="dom0-b")),  # vm02's address
    dict(domu("vm02", "name: xenbr0, mac: 00:16:3e:00:00:02")),
    {"hosts/dom0-a/domus/vm02.yaml": "a: [\n"},
    {"hosts/dom0-a/domus/vm02.yaml": None},
    {"profiles/small.yaml": PROFILE.replace("256MiB", "1GiB")},
    {"profiles/small.yaml": PROFILE.replace("kernel", "kernal")},
    {"profiles/small.yaml": None},
    dict(network("a", "172.16.40.0/24", "172.16.40.1")),
    dict(network("b", "172.16.39.0/26", "172.16.39.1")),
    {"hosts/dom0-a/host.yaml": host()["hosts/dom0-a/host.yaml"].replace("xenbr0", "xenbr1")},
    {"hosts/dom0-b/host.yaml": None},
    {"hosts/dom0-a/domus/vm05.yaml": INHERITS.format(name="vm05", mac="00:16:3e:00:00:05")},
    {},
)


def reading(repository: Repository, memory: str | None, name: str = "dom0-a") -> Reading:
    return read_repository(
        HostRunner(), repository=str(repository.path), revision="main", host=name, memory=memory
    )


def committed(repository: Repository, files: dict[str, str | None]) -> None:
    for name, text in files.items():
        if text is None:
            (repository.path / name).unlink(missing_ok=True)
    repository.commit({name: text for name, text in files.items() if text is not None})


@pytest.mark.parametrize("seed", range(3))
def test_whatever_commits_do_remembering_changes_nothing_that_is_said(
    repository: Repository, seed: int
) -> None:
    dice, memory = random.Random(seed), ""  # noqa: S311
    committed(repository, dict(FILES))
    for _ in range(8):
        change: dict[str, str | None] = dict(dice.choice(CHANGES))
        change.update(dice.choice((*CHANGES, dict(FILES))))
        committed(repository, change)

        remembered, anew = reading(repository, memory), reading(repository, None)

        assert replace(remembered, memory=None) == anew
        memory = str(remembered.memory)


def test_what_has_not_changed_is_not_checked_again(repository: Repository) -> None:
    committed(repository, dict(FILES))
    memory = reading(repository, "").memory
    committed(repository, CHANGES[0])
    recording = Recording()

    read_repository(recording, repository=str(repository.path), revision="main", host="dom0-a", memory=memory)

    learnt = [line.partition("\t")[0] for line in json.loads(recording.stdout)["learnt"]]
    assert learnt == ["hosts/dom0-a/domus/vm01.yaml"]


def test_what_was_checked_for_one_host_does_for_no_other(repository: Repository) -> None:
    committed(repository, dict(FILES))
    memory = reading(repository, "", "dom0-a").memory

    assert replace(reading(repository, memory, "dom0-b"), memory=None) == reading(repository, None, "dom0-b")


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda memory: memory[: len(memory) // 2],
        lambda memory: memory.replace("[", "]"),
        lambda memory: memory.replace("\t", " "),
        lambda memory: memory.replace('"', ""),
        lambda memory: "\n".join(line.rpartition("\t")[0] + "\t7" for line in memory.splitlines()),
        lambda memory: "\n".join(line.rpartition("\t")[0] + "\t[1,2]" for line in memory.splitlines()),
        lambda memory: "\n" * 9 + memory,
        lambda _: "\x00\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    ],
)
def test_a_damaged_memory_is_forgotten(repository: Repository, spoilt: Callable[[str], str]) -> None:
    committed(repository, dict(FILES))
    memory = str(reading(repository, "").memory)

    assert replace(reading(repository, spoilt(memory)), memory=None) == reading(repository, None)


def test_a_memory_holds_what_the_repository_holds_and_nothing_that_is_gone(repository: Repository) -> None:
    committed(repository, dict(FILES))
    memory = reading(repository, "").memory
    committed(repository, {"hosts/dom0-a/domus/vm02.yaml": None, **CHANGES[0]})

    later = reading(repository, memory).memory

    assert sorted(str(later).splitlines()) == sorted(str(reading(repository, "").memory).splitlines())


ITEMS = [str(number) for number in range(3 * LEAST_SHARE)]


def test_work_that_is_shared_out_comes_back_in_order() -> None:
    def work(part: Sequence[str]) -> list[tuple[str, int]]:
        return [(each, int(each)) for each in part]

    assert shared_out(work, ITEMS) == [(each, int(each)) for each in ITEMS]
    assert shared_out(work, ITEMS[:1]) == [("0", 0)]
    assert shared_out(work, []) == []


def test_what_another_process_leaves_undone_this_one_does(tmp_path: Path) -> None:
    """A part whose process dies is done once more, here."""
    own = os.getpid()

    def work(part: Sequence[str]) -> list[str]:
        if os.getpid() != own:
            (tmp_path / "died").touch()
            os.kill(os.getpid(), 9)
        return list(part)

    assert shared_out(work, ITEMS) == ITEMS
    assert (tmp_path / "died").exists()
