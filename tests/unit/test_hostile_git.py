"""Repositories that nobody makes by accident: crafted trees, bombs, names, attributes, and a branch that moves while it is read."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import zlib
from pathlib import Path

import pytest

from state.run import ReadError
from tests.unit.fleets import domu, network
from tests.unit.repositories import FILES, Repository, reachable
from tests.unit.test_source import codes, names

pytestmark = pytest.mark.git

VM01 = "hosts/dom0-a/domus/vm01.yaml"
Entry = tuple[str, str, str]  # mode, name, object id


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(reachable(tmp_path_factory.mktemp("hostile")) / "repo")


class Crafted:
    """Objects that git would not write, written as git stores them."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.head = repository.commit(FILES)

    def put(self, kind: str, data: bytes) -> str:
        """The id of an object; stored as it is, whatever git thinks of it."""
        whole = f"{kind} {len(data)}\0".encode() + data
        name = hashlib.sha1(whole).hexdigest()  # noqa: S324  # git's own ids
        path = self.repository.path / ".git" / "objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(zlib.compress(whole, 1))
        return name

    def tree(self, *entries: Entry) -> str:
        data = b"".join(
            f"{mode} ".encode() + os.fsencode(name) + b"\0" + bytes.fromhex(sha)
            for mode, name, sha in entries
        )
        return self.put("tree", data)

    def entries(self, folder: str = "") -> list[Entry]:
        """The entries of a folder of the good commit."""
        listing = self.repository.git("ls-tree", "-z", f"{self.head}:{folder}").split("\0")
        found = [re.fullmatch(r"(\d+) \w+ (\w+)\t(.+)", line) for line in listing if line]
        return [(match[1].lstrip("0"), match[3], match[2]) for match in found if match]

    def commit(self, tree: str) -> str:
        """A commit of that tree on the branch main."""
        text = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
        return self.at("main", self.put("commit", text.encode()))

    def at(self, branch: str, commit: str) -> str:
        (self.repository.path / ".git" / "refs" / "heads" / branch).write_text(f"{commit}\n")
        return commit

    def with_networks(self, *entries: Entry) -> str:
        """The good commit with another folder of networks."""
        kept = [entry for entry in self.entries() if entry[1] != "networks"]
        return self.commit(self.tree(*kept, ("40000", "networks", self.tree(*entries))))

    def blob(self, path: str = "networks/a.yaml") -> str:
        return self.repository.git("rev-parse", f"{self.head}:{path}")


@pytest.fixture
def crafted(repository: Repository) -> Crafted:
    return Crafted(repository)


def messages(repository: Repository) -> list[str]:
    return [str(diagnostic) for diagnostic in repository.read(host=None).diagnostics]


# ---------------------------------------------------------------- trees


@pytest.mark.parametrize("name", ["..", ".", ".git"])
def test_an_entry_with_a_name_that_git_gives_no_file_is_refused(crafted: Crafted, name: str) -> None:
    crafted.with_networks(("100644", "a.yaml", crafted.blob()), ("100644", name, crafted.blob()))

    (message,) = messages(crafted.repository)

    assert message.startswith(f"networks/{name}:1:1: error[DG1504]: a name that git gives no file")


def test_an_entry_without_a_name_is_a_read_error(crafted: Crafted) -> None:
    crafted.with_networks(("100644", "", crafted.blob()))

    with pytest.raises(ReadError, match="empty filename"):
        crafted.repository.read()


def test_a_folder_that_leads_out_is_refused_and_nothing_below_it_is_read(crafted: Crafted) -> None:
    below = crafted.tree(("40000", "etc", crafted.tree(("100644", "shadow.yaml", crafted.blob()))))
    crafted.with_networks(("100644", "a.yaml", crafted.blob()), ("40000", "..", below))

    assert codes(crafted.repository.read()) == ["DG1504"]


def test_a_name_with_a_slash_in_it_is_no_way_into_another_folder(crafted: Crafted) -> None:
    evil = crafted.put("blob", FILES[VM01].replace("256MiB", "1GiB").encode())
    hosts = crafted.tree(("100644", "dom0-z/host.yaml", evil), *crafted.entries("hosts"))
    kept = [entry for entry in crafted.entries() if entry[1] != "hosts"]
    crafted.commit(crafted.tree(("40000", "hosts", hosts), *kept))

    reading = crafted.repository.read(host=None)

    assert codes(reading) == ["DG1504"]
    assert reading.hosts == ("dom0-a",)


def test_a_folder_that_stands_twice_is_refused(crafted: Crafted) -> None:
    other = crafted.tree(("100644", "b.yaml", crafted.blob()))
    crafted.commit(crafted.tree(*crafted.entries(), ("40000", "networks", other)))

    assert "networks:1:1: error[DG1504]: twice in its folder (expected one file of a name)" in messages(
        crafted.repository
    )


def test_a_tree_out_of_order_is_read_whole_or_refused_and_never_in_part(crafted: Crafted) -> None:
    crafted.commit(crafted.tree(*reversed(crafted.entries())))

    reading = crafted.repository.read()

    assert reading.refused or names(reading) == ["vm01"]


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        ("120000", "a symbolic link"),
        ("160000", "a submodule"),
        ("100755", "executable"),
    ],
)
def test_an_entry_that_is_no_plain_file_is_named_for_what_it_is(
    crafted: Crafted, mode: str, what: str
) -> None:
    target = crafted.put("blob", b"/etc/shadow")
    crafted.with_networks(("100644", "a.yaml", crafted.blob()), (mode, "b.yaml", target))

    assert messages(crafted.repository) == [
        f"networks/b.yaml:1:1: error[DG1504]: {what} (expected a plain file)"
    ]


@pytest.mark.parametrize("folder", ["hosts", "networks", "profiles"])
def test_a_folder_that_is_a_link_is_refused_and_not_followed(crafted: Crafted, folder: str) -> None:
    kept = [entry for entry in crafted.entries() if entry[1] != folder]
    crafted.commit(crafted.tree(*sorted([*kept, ("120000", folder, crafted.put("blob", b"/etc"))])))

    reading = crafted.repository.read()

    assert f"{folder}:1:1: error[DG1504]: a symbolic link (expected a plain file)" in messages(
        crafted.repository
    )
    assert reading.refused


def test_names_that_are_no_utf_8_or_endless_are_refused_and_printed_harmlessly(crafted: Crafted) -> None:
    odd = ["\udcff.yaml", "b" * 5000 + ".yaml", "c\na.yaml:1:1: error.yaml", "d\x1b]0;x\x07.yaml"]
    entries = [("100644", name, crafted.blob()) for name in ("a.yaml", *odd)]
    crafted.with_networks(*sorted(entries, key=lambda entry: os.fsencode(entry[1])))

    found = messages(crafted.repository)

    assert len(found) == len(odd)
    assert all("error[DG1501]" in message and message.isprintable() for message in found)
    assert max(len(message) for message in found) < 1000


def test_two_files_of_which_one_is_the_other_in_capitals_are_two_files(crafted: Crafted) -> None:
    other = crafted.put("blob", FILES[VM01].replace("vm01", "VM01").encode())
    domus = crafted.tree(("100644", "VM01.yaml", other), ("100644", "vm01.yaml", crafted.blob(VM01)))
    host = crafted.tree(
        ("40000", "domus", domus), ("100644", "host.yaml", crafted.blob("hosts/dom0-a/host.yaml"))
    )
    kept = [entry for entry in crafted.entries() if entry[1] != "hosts"]
    crafted.commit(crafted.tree(("40000", "hosts", crafted.tree(("40000", "dom0-a", host))), *kept))

    assert "DG1301" in codes(crafted.repository.read())


# ---------------------------------------------------------------- what a repository says about itself


def test_attributes_and_modules_that_are_committed_change_nothing(repository: Repository) -> None:
    marker = repository.path.parent / "executed"
    attributes = "* export-ignore export-subst filter=evil diff=evil ident eol=crlf working-tree-encoding=UTF-16 text\n"
    modules = f'[submodule "x"]\n\tpath = profiles\n\turl = ext::sh -c touch% {marker}\n\tupdate = !touch {marker}\n'
    spec = FILES[VM01] + "# $Format:%H$ $Id$\n"
    blobs = {
        path: repository.git("hash-object", "-w", "--no-filters", "--stdin", stdin=text.encode())
        for path, text in {**FILES, VM01: spec, ".gitattributes": attributes, ".gitmodules": modules}.items()
    }
    for path, blob in blobs.items():
        repository.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
    repository.git("commit", "--quiet", "-m", "attributes")

    assert names(repository.read()) == ["vm01"]
    assert not marker.exists()


def test_replaced_and_grafted_commits_change_nothing(repository: Repository) -> None:
    first = repository.commit(FILES)
    second = repository.commit(domu("vm02", "mac: 00:16:3e:7c:1f:6f"))
    repository.git("replace", second, first)
    (repository.path / ".git" / "info").mkdir(exist_ok=True)
    (repository.path / ".git" / "info" / "grafts").write_text(f"{second}\n")
    (repository.path / ".git" / "shallow").write_text(f"{second}\n")

    reading = repository.read("main")

    assert (reading.revision, names(reading)) == (second, ["vm01", "vm02"])


@pytest.mark.parametrize("broken", ["cut", "garbage", "missing", "empty"])
def test_a_damaged_object_is_a_read_error_and_nothing_is_wanted(repository: Repository, broken: str) -> None:
    repository.commit(FILES)
    blob = repository.git("rev-parse", f"main:{VM01}")
    path = repository.path / ".git" / "objects" / blob[:2] / blob[2:]
    data = path.read_bytes()
    path.unlink()
    if broken != "missing":
        path.write_bytes({"cut": data[:20], "garbage": b"x" * 50, "empty": b""}[broken])

    with pytest.raises(ReadError) as caught:
        repository.read()

    assert "Traceback" not in str(caught.value)


def test_a_reference_that_leads_elsewhere_is_a_read_error(repository: Repository) -> None:
    repository.commit(FILES)
    blob = repository.git("rev-parse", f"main:{VM01}")
    heads = repository.path / ".git" / "refs" / "heads"
    (heads / "blob").write_text(f"{blob}\n")
    (heads / "loop").write_text("ref: refs/heads/loop\n")
    (heads / "out").write_text("ref: ../../../../etc/passwd\n")
    (heads / "text").write_text("main\n")

    for branch in ("blob", "loop", "out", "text"):
        with pytest.raises(ReadError):
            repository.read(branch)


def test_a_tag_of_a_tag_is_followed_and_an_endless_row_of_them_is_not(repository: Repository) -> None:
    commit = repository.commit(FILES)
    target = commit
    for number in range(6):
        repository.git("tag", "-a", f"t{number}", "-m", "tag", target)
        target = f"t{number}"

    assert repository.read("t1").revision == commit
    with pytest.raises(ReadError, match="no branch, tag or commit"):
        repository.read("t5")


# ---------------------------------------------------------------- bombs


def test_ten_thousand_million_files_in_twelve_objects_are_too_many(crafted: Crafted) -> None:
    tree = crafted.tree(*(("100644", f"f{number}.yaml", crafted.blob()) for number in range(10)))
    for _ in range(9):
        tree = crafted.tree(*(("40000", f"d{number}", tree) for number in range(10)))
    crafted.with_networks(("40000", "d", tree))

    assert codes(crafted.repository.read(host=None)) == ["DG1505"]


def test_folders_in_folders_without_end_are_refused(crafted: Crafted) -> None:
    tree = crafted.tree(("100644", "f.yaml", crafted.blob()))
    for _ in range(3000):
        tree = crafted.tree(("40000", "d", tree))
    crafted.with_networks(("40000", "d", tree))

    assert not crafted.repository.read(host=None).valid


def test_a_file_of_which_a_little_is_stored_and_much_unpacked_is_refused_by_its_size(
    crafted: Crafted,
) -> None:
    crafted.with_networks(("100644", "a.yaml", crafted.put("blob", bytes(100_000_000))))

    assert "networks/a.yaml:1:1: error[DG1006]: 100000000 bytes (expected at most 64000)" in messages(
        crafted.repository
    )


def test_a_commit_as_large_as_a_disk_is_a_read_error(crafted: Crafted) -> None:
    tree = crafted.repository.git("rev-parse", f"{crafted.head}^{{tree}}")
    head = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\n".encode()
    crafted.at("main", crafted.put("commit", head + b"A" * 100_000_000))

    with pytest.raises(ReadError, match=r"commit \w+ has 1000000\d+ bytes \(expected at most 1000000\)"):
        crafted.repository.read()


def test_a_tree_as_large_as_a_disk_is_a_read_error(crafted: Crafted) -> None:
    crafted.with_networks(("100644", "a" * 100_000_000, crafted.blob()))

    with pytest.raises(ReadError, match="attempting to allocate"):
        crafted.repository.read()


def test_a_commit_with_a_long_message_and_many_parents_is_read(crafted: Crafted) -> None:
    tree = crafted.repository.git("rev-parse", f"{crafted.head}^{{tree}}")
    parents = f"parent {crafted.head}\n" * 100
    text = f"tree {tree}\n{parents}author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\n{'long ' * 100_000}\n"
    crafted.at("main", crafted.put("commit", text.encode()))

    reading = crafted.repository.read()

    assert names(reading) == ["vm01"]
    assert len(reading.subject) == 1000


# ---------------------------------------------------------------- what moves meanwhile


def test_a_branch_that_moves_while_it_is_read_is_read_as_it_was_at_one_moment(repository: Repository) -> None:
    """Two commits that have no file in common, and a branch that goes from one to the other without rest."""
    one = repository.commit(FILES)
    for path in FILES:
        (repository.path / path).unlink()
    other = repository.commit(
        {
            "hosts/dom0-a/host.yaml": FILES["hosts/dom0-a/host.yaml"],
            **network("b", "10.0.0.0/24", "10.0.0.1"),
            **domu("vm02", "mac: 00:16:3e:7c:1f:6f, ips: [10.0.0.2]"),
        }
    )
    wanted = {one: ["vm01"], other: ["vm02"]}
    branch = repository.path / ".git" / "refs" / "heads" / "main"
    stop = threading.Event()

    def move() -> None:
        beside = branch.with_suffix(".new")
        while not stop.is_set():
            for commit in wanted:
                beside.write_text(f"{commit}\n")
                beside.rename(branch)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        readings = [repository.read("main") for _ in range(5)]
    finally:
        stop.set()
        mover.join()

    assert [names(reading) for reading in readings] == [wanted[reading.revision] for reading in readings]
    assert all(reading.valid for reading in readings)


def test_a_worktree_that_changes_while_it_is_read_is_a_reading_or_an_error(repository: Repository) -> None:
    repository.write(FILES)
    path = repository.path / VM01
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            path.write_text(FILES[VM01])
            path.unlink()

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        readings = [repository.read("WORKTREE") for _ in range(5)]
    finally:
        stop.set()
        writer.join()

    # There whole, gone, or caught half written: never anything else.
    assert all(
        names(reading) in (["vm01"], []) and set(codes(reading)) <= {"DG1007", "DG1504", "DG1102"}
        for reading in readings
    )


def test_a_file_that_is_gone_from_disk_is_no_fault_of_the_commit(repository: Repository) -> None:
    commit = repository.commit(FILES)
    (repository.path / VM01).unlink()
    Path(repository.path / ".git" / "index.lock").touch()

    assert repository.read("main").revision == commit
    assert names(repository.read("main")) == ["vm01"]
