"""Reading real git repositories: what counts is the commit's content, and nothing in a repository is ever executed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from state.run import Completed, HostRunner, ReadError
from state.source import Reading, read_repository
from state.spec_child import as_user, git_environment
from tests.unit.fleets import domu, host
from tests.unit.repositories import FILES, Repository, reachable

pytestmark = pytest.mark.git

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners: needs root")


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(reachable(tmp_path_factory.mktemp("source")) / "repo")


def names(reading: Reading) -> list[str]:
    return [] if reading.desired is None else [domu.name for domu in reading.desired.domus]


def codes(reading: Reading) -> list[str]:
    return [diagnostic.code for diagnostic in reading.diagnostics]


def test_a_commit_is_read_with_who_made_it_and_what_it_wants(repository: Repository) -> None:
    first = repository.commit(FILES, "one")
    second = repository.commit({}, "two: \x1b[2J\n\nbody")

    reading = repository.read()

    assert (reading.revision, reading.parents) == (second, (first,))
    assert (reading.author, reading.committer) == ("Ann <ann@example.org>", "Carl <carl@example.org>")
    assert reading.subject == "two: \N{REPLACEMENT CHARACTER}[2J"
    assert (reading.valid, reading.refused, reading.hosts, reading.files) == (True, False, ("dom0-a",), 3)
    assert names(reading) == ["vm01"]


def test_the_commit_counts_and_not_the_work_tree(repository: Repository) -> None:
    repository.commit(FILES)
    repository.write(domu("vm02", "mac: 00:16:3e:7c:1f:6f"))

    assert names(repository.read("main")) == ["vm01"]
    assert names(repository.read("WORKTREE")) == ["vm01", "vm02"]


def test_a_revision_may_be_a_branch_a_tag_a_commit_id_or_an_ancestor(repository: Repository) -> None:
    first = repository.commit(FILES)
    repository.git("tag", "-a", "v1", "-m", "one")
    second = repository.commit({}, "two")

    assert [repository.read(name).revision for name in ("main", "v1", first, first[:12], "main~1", "HEAD^", None)] == [
        second, first, first, first, first, first, second
    ]  # fmt: skip


def test_a_tag_cannot_shadow_the_branch_of_its_name(repository: Repository) -> None:
    repository.commit(FILES)
    repository.git("tag", "main")
    second = repository.commit({}, "two")

    assert repository.read("main").revision == second


@pytest.mark.parametrize(
    "revision", ["gone", "--help", "-n", "main:hosts", "main@{1}", ":/x", "a b", "", "main..main", "^main"]
)
def test_what_is_no_revision_is_a_read_error(repository: Repository, revision: str) -> None:
    repository.commit(FILES)

    with pytest.raises(ReadError):
        repository.read(revision or "\n")


def test_descent_is_known_for_commits_of_the_repository_only(repository: Repository) -> None:
    first = repository.commit(FILES)
    second = repository.commit({}, "two")

    assert repository.read("main", applied=first).descends is True
    assert repository.read("main", applied=second).descends is True
    assert repository.read("main~1", applied=second).descends is False
    assert repository.read("main", applied="0" * 39 + "1").descends is None
    assert repository.read("main").descends is None


def test_bare_repositories_and_linked_work_trees_are_read_alike(repository: Repository) -> None:
    commit = repository.commit(FILES)
    bare, linked = repository.path.parent / "bare.git", repository.path.parent / "linked"
    repository.git("clone", "--quiet", "--bare", ".", str(bare))
    repository.git("worktree", "add", "--quiet", "-b", "other", str(linked))

    for path, revision in ((bare, "main"), (linked, "other"), (linked, "WORKTREE")):
        reading = read_repository(HostRunner(), repository=str(path), revision=revision, host="dom0-a")

        assert names(reading) == ["vm01"], path
        assert reading.revision == commit or revision == "WORKTREE"


def test_a_sha256_repository_is_read(repository: Repository) -> None:
    other = repository.path.parent / "sha256"
    other.mkdir()
    repository.path = other
    repository.git("init", "--quiet", "--initial-branch=main", "--object-format=sha256")

    assert len(repository.commit(FILES)) == 64
    assert names(repository.read()) == ["vm01"]


def test_a_replaced_object_changes_nothing(repository: Repository) -> None:
    repository.commit(FILES)
    blob = repository.git("rev-parse", "main:hosts/dom0-a/domus/vm01.yaml")
    other = repository.git("hash-object", "-w", "--stdin", stdin=b"nothing\n")
    repository.git("replace", blob, other)

    assert names(repository.read()) == ["vm01"]


def test_attributes_that_hide_or_convert_files_change_nothing(repository: Repository) -> None:
    attributes = "*.yaml export-ignore filter=evil diff=evil working-tree-encoding=UTF-16\n"
    blob = repository.git(
        "hash-object", "-w", "--no-filters", "--stdin", stdin=FILES["hosts/dom0-a/host.yaml"].encode()
    )
    repository.commit(FILES)
    repository.commit({".gitattributes": "# later\n"})
    (repository.path / ".git" / "info").mkdir(exist_ok=True)
    (repository.path / ".git" / "info" / "attributes").write_text(attributes)

    assert repository.git("rev-parse", "main:hosts/dom0-a/host.yaml") == blob
    assert names(repository.read()) == ["vm01"]


def test_nothing_that_a_repository_configures_is_executed(repository: Repository) -> None:
    repository.commit(FILES)
    marker = repository.path.parent / "executed"
    evil = repository.path.parent / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {marker}\n")
    evil.chmod(0o755)
    repository.path.parent.chmod(0o1777)  # whoever executes it could leave the marker
    for key in (
        "core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.gitProxy", "core.askPass",
        "core.alternateRefsCommand", "gpg.program", "gpg.ssh.program", "diff.external", "credential.helper",
        "uploadpack.packObjectsHook", "filter.evil.smudge", "filter.evil.process", "alias.log", "alias.cat-file",
    ):  # fmt: skip
        repository.git("config", key, str(evil) if not key.startswith("alias") else f"!{evil}")
    repository.git("config", "log.showSignature", "true")
    repository.git("config", "core.hooksPath", str(repository.path.parent))
    repository.git("config", "extensions.partialClone", "origin")
    repository.git("config", "remote.origin.url", f"ext::{evil}")
    repository.git("config", "remote.origin.promisor", "true")
    for hook in ("post-checkout", "post-index-change", "reference-transaction"):
        shutil.copy(evil, repository.path.parent / hook)

    names_read = names(repository.read("main")), names(repository.read("WORKTREE"))

    assert names_read == (["vm01"], ["vm01"])
    assert not marker.exists()
    # The trap does work: git as everybody has it falls into it.
    repository.git("status")
    assert marker.exists()


def test_reading_leaves_the_repository_byte_for_byte_as_it_was(repository: Repository) -> None:
    repository.commit(FILES)

    def state() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(repository.path.rglob("*"))
            if path.is_file()
        }

    before = state()
    repository.read("main")
    repository.read("WORKTREE")

    assert state() == before


@pytest.mark.parametrize("revision", ["main", "WORKTREE"])
def test_only_plain_files_are_specifications(repository: Repository, revision: str) -> None:
    repository.write(FILES)
    domus = repository.path / "hosts" / "dom0-a" / "domus"
    (domus / "link.yaml").symlink_to("/etc/shadow")
    (domus / "run.yaml").write_text("a: 1\n")
    (domus / "run.yaml").chmod(0o755)
    (domus / "large.yaml").write_text("# " + "x" * 65_000)
    (repository.path / "profiles").symlink_to("/etc")
    repository.commit({})

    reading = repository.read(revision)

    found = {diagnostic.file: diagnostic.code for diagnostic in reading.diagnostics}
    assert found == {
        "hosts/dom0-a/domus/large.yaml": "DG1006",
        "hosts/dom0-a/domus/link.yaml": "DG1504",
        "hosts/dom0-a/domus/run.yaml": "DG1504",
        "profiles": "DG1504",
    }
    assert reading.refused  # `profiles` concerns every domU
    assert "root:" not in json.dumps([str(diagnostic) for diagnostic in reading.diagnostics])


def test_a_submodule_in_a_known_folder_is_refused(repository: Repository) -> None:
    commit = repository.commit(FILES)
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},profiles/sub")
    repository.git("commit", "--quiet", "-m", "submodule")

    assert codes(repository.read()) == ["DG1504"]


def test_a_tree_that_names_a_file_twice_is_refused(repository: Repository) -> None:
    repository.commit(FILES)
    blob = repository.git("rev-parse", "main:networks/a.yaml")
    entry = b"100644 a.yaml\0" + bytes.fromhex(blob)
    networks = repository.git(
        "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=entry + entry
    )
    listing = repository.git("ls-tree", "main").splitlines()
    lines = [f"040000 tree {networks}\tnetworks" if line.endswith("\tnetworks") else line for line in listing]
    tree = repository.git("mktree", stdin="\n".join(lines).encode() + b"\n")
    commit = repository.git("commit-tree", tree, "-m", "twice")

    assert codes(repository.read(commit)) == ["DG1504"]


def test_a_file_name_with_control_characters_is_refused_and_printed_harmlessly(
    repository: Repository,
) -> None:
    repository.commit({**FILES, "networks/a\x1b[2J\n.yaml": "a: 1\n"})

    (diagnostic,) = repository.read().diagnostics

    assert diagnostic.code == "DG1501"
    assert str(diagnostic).isprintable()


def test_an_error_in_one_file_holds_back_that_domu_and_nothing_else(repository: Repository) -> None:
    repository.commit({**FILES, "hosts/dom0-a/domus/vm02.yaml": "a: [\n"})

    reading = repository.read()

    assert (reading.valid, reading.refused) == (False, False)
    assert reading.desired is not None
    assert reading.desired.held == ("vm02",)
    assert names(reading) == ["vm01"]


def test_an_error_of_the_host_refuses_the_whole_commit_for_it(repository: Repository) -> None:
    repository.commit({**FILES, "hosts/dom0-a/host.yaml": "a: 1\n"})

    reading = repository.read()

    assert (reading.refused, reading.desired) == (True, None)


def test_without_a_host_the_whole_repository_is_checked(repository: Repository) -> None:
    repository.commit({**FILES, **host("dom0-b"), "hosts/dom0-b/domus/x.yaml": "a: 1\n"})

    reading = repository.read(host=None)

    assert not reading.valid
    assert reading.hosts == ("dom0-a", "dom0-b")
    assert {diagnostic.file for diagnostic in reading.diagnostics} == {"hosts/dom0-b/domus/x.yaml"}


def test_an_empty_commit_refuses_the_host_instead_of_removing_everything(repository: Repository) -> None:
    repository.commit({})

    reading = repository.read()

    assert (reading.refused, reading.desired, reading.hosts) == (True, None, ())


def test_problems_are_bounded_however_many_there_are(repository: Repository) -> None:
    repository.commit({**FILES, **{f"networks/n{number}.txt": "" for number in range(2100)}})

    reading = repository.read()

    assert len(reading.diagnostics) == 2001
    assert reading.diagnostics[-1].code == "DG1506"


@pytest.mark.parametrize("path", ["/nonexistent", "/etc/passwd"])
def test_what_is_no_repository_is_a_read_error(path: str) -> None:
    with pytest.raises(ReadError):
        read_repository(HostRunner(), repository=path, revision="main", host=None)


def test_a_repository_that_its_owner_has_made_a_circle_of_links_is_a_read_error(tmp_path: Path) -> None:
    (tmp_path / "repo").symlink_to(tmp_path / "repo")

    with pytest.raises(ReadError, match="no such folder"):
        read_repository(HostRunner(), repository=str(tmp_path / "repo"), revision="main", host=None)


def test_a_folder_without_a_repository_is_a_read_error(repository: Repository) -> None:
    shutil.rmtree(repository.path / ".git")

    with pytest.raises(ReadError, match=f"^{repository.path}: not a git repository$"):
        repository.read()


def test_a_repository_without_a_commit_says_so(repository: Repository) -> None:
    with pytest.raises(ReadError, match="nothing is committed yet: no branch, tag or commit 'main'"):
        repository.read("main")
    repository.commit(FILES)
    with pytest.raises(ReadError, match=r"repo: no branch, tag or commit 'mian'$"):
        repository.read("mian")


def test_two_readings_of_the_same_work_tree_have_the_same_revision(repository: Repository) -> None:
    repository.write(FILES)

    one, two = repository.read("WORKTREE"), repository.read("WORKTREE")
    repository.write(domu("vm02", "mac: 00:16:3e:7c:1f:6f"))

    assert one.revision == two.revision != repository.read("WORKTREE").revision


def test_what_is_taken_is_told_over_all_hosts_for_a_new_domu(repository: Repository) -> None:
    repository.write({**FILES, **host("dom0-b"), **domu("Far", "mac: 00:16:3e:7c:1f:70", host="dom0-b")})

    taken = repository.read("WORKTREE").taken

    assert taken is not None
    assert taken.names == {"vm01", "far"}
    assert taken.macs == {"00:16:3e:7c:1f:6e", "00:16:3e:7c:1f:70"}
    assert [str(address) for address in taken.addresses] == ["172.16.39.105/32"]


def give(path: Path, owner: int) -> None:
    for each in (path, *path.rglob("*")):
        os.chown(each, owner, owner, follow_symlinks=False)


@root_only
@pytest.mark.parametrize("owner", [0, 12345])
def test_a_repository_is_read_whoever_owns_it(repository: Repository, owner: int) -> None:
    repository.commit(FILES)
    (repository.path / "hosts").chmod(0o700)
    give(repository.path, owner)

    assert names(repository.read("main")) == names(repository.read("WORKTREE")) == ["vm01"]


@root_only
@pytest.mark.parametrize(("keep", "capabilities"), [(False, 0), (True, 1 << 2)])
def test_the_child_is_never_root_and_at_most_reads_everything(keep: bool, capabilities: int) -> None:
    """Capability 2 is CAP_DAC_READ_SEARCH; kept only where root owns the repository, so that nobody may read it."""
    program = (
        f"from state.confined import confine; confine(keep_capabilities={keep}); "
        "print(open('/proc/self/status').read())"
    )
    argv = [*as_user(12345, 12345), sys.executable, "-P", "-c", program]
    status = dict(
        line.split(":\t", 1)
        for line in HostRunner().run(argv, environment=git_environment()).stdout.splitlines()
        if ":\t" in line
    )

    assert status["Uid"].split() == status["Gid"].split() == ["12345"] * 4
    assert status["Groups"].strip() == ""
    assert status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapAmb", "CapBnd")} <= {
        capabilities,
        1 << 2,
    }
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == capabilities


def test_the_parent_believes_nothing_that_no_repository_can_say(repository: Repository) -> None:
    repository.commit({**FILES, **domu("vm02", "mac: 00:16:3e:7c:1f:6f, ips: [172.16.39.106]")})
    path = str(repository.path)
    recording = Recording()
    read_repository(recording, repository=path, revision="main", host="dom0-a")

    read_repository(Told(recording.stdout), repository=path, revision="main", host="dom0-a")
    for forgery in FORGERIES:
        answer = json.loads(recording.stdout)
        first = answer["view"]["domus"][0]
        document = json.loads(first["document"])
        forgery(answer, document)
        first["document"] = json.dumps(document)
        with pytest.raises(ReadError):
            read_repository(Told(json.dumps(answer)), repository=path, revision="main", host="dom0-a")


class Recording(HostRunner):
    """A runner that keeps what the child said."""

    stdout = ""

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        completed = super().run(argv, **options)
        self.stdout = completed.stdout
        return completed


class Told:
    """A runner whose child says what it is told to say."""

    def __init__(self, stdout: str) -> None:
        self.stdout = stdout

    def run(self, argv: Sequence[str], **_: Any) -> Completed:
        return Completed(tuple(argv), 0, self.stdout, "", 1, 0.0)


# (answer, the first domU's document in it) → a lie.
FORGERIES: tuple[Callable[[Any, Any], object], ...] = (
    lambda answer, _: answer.pop("view"),
    lambda answer, _: answer["source"].update(revision="main"),
    lambda answer, _: answer["view"]["host"]["metadata"].update(name="dom0-b"),
    lambda answer, _: answer["view"]["domus"][0].update(file="/etc/passwd"),
    lambda answer, _: answer["view"]["domus"].append(answer["view"]["domus"][0]),
    lambda _, first: first["metadata"].update(name="../../x"),
    lambda _, first: first["spec"].update(memory=256),
    lambda _, first: first["spec"].update(memroy="1GiB"),
    lambda _, first: first["spec"].pop("memory"),
    lambda _, first: first["spec"]["vifs"][0].update(mac="00:16:3e:7c:1f:6f"),
    lambda _, first: first["spec"]["vifs"][0].update(ips=["172.16.39.106"]),
    lambda _, first: first["spec"]["vifs"][0].update(ips=["172.16.39.1"]),
    lambda _, first: first["spec"]["disks"][0].update(path="/etc/shadow"),
)
