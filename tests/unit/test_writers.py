"""A repository that is root's is read only where nobody else can have written it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from state.run import ReadError
from state.writers import check_writers
from tests.unit.repositories import FILES, Repository, reachable

pytestmark = [
    pytest.mark.git,
    pytest.mark.skipif(os.geteuid() != 0, reason="changes owners: needs root"),
]
SOMEBODY = 12345


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(reachable(tmp_path_factory.mktemp("writers")) / "repo")
    made.commit(FILES)
    made.git("pack-refs", "--all")
    made.commit({}, "one ref that is packed and one that is not")
    return made


def open_to_others(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def open_to_a_group(path: Path) -> None:
    os.chown(path, 0, SOMEBODY)
    path.chmod(path.stat().st_mode | 0o020)


def open_by_acl(path: Path) -> None:
    """What `setfacl -m u:12345:rwx` does. Source: linux/posix_acl_xattr.h: version 2, then tag, permissions and id."""
    nobody = 0xFFFFFFFF
    rows = [(0x01, 7, nobody), (0x02, 7, SOMEBODY), (0x04, 5, nobody), (0x10, 7, nobody), (0x20, 5, nobody)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)
    os.setxattr(path, "system.posix_acl_access", value)


def given_away(path: Path) -> None:
    os.chown(path, SOMEBODY, 0, follow_symlinks=False)


WAYS = [open_to_others, open_to_a_group, given_away]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "part",
    [
        ".", ".git", ".git/HEAD", ".git/config", ".git/packed-refs", ".git/refs", ".git/refs/heads", ".git/refs/heads/main",
        ".git/objects", ".git/objects/pack",
    ],
)  # fmt: skip
def test_what_others_could_have_written_is_refused_and_named(
    repository: Repository, part: str, way: Callable[[Path], None]
) -> None:
    path = repository.path / part
    check_writers(str(repository.path), 0, "main")
    way(path)

    with pytest.raises(ReadError, match=f"^{path.resolve()}: .*root's") as refused:
        check_writers(str(repository.path), 0, "main")
    assert "expected" in str(refused.value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", ["hosts", "networks", "hosts/dom0-a/domus", "hosts/dom0-a/domus/vm01.yaml"])
def test_the_files_of_a_checkout_count_when_they_are_what_is_read(
    repository: Repository, part: str, way: Callable[[Path], None]
) -> None:
    way(repository.path / part)

    check_writers(str(repository.path), 0, "main")
    with pytest.raises(ReadError, match=f"/{part}: "):
        check_writers(str(repository.path), 0, "WORKTREE")


@pytest.mark.parametrize("way", WAYS)
def test_objects_count_since_git_does_not_hold_them_against_their_ids(
    repository: Repository, way: Callable[[Path], None]
) -> None:
    way(next(repository.path.glob(".git/objects/??/*")))

    with pytest.raises(ReadError, match="/objects/"):
        check_writers(str(repository.path), 0, "main")


@pytest.mark.parametrize("way", WAYS)
def test_nobody_else_can_exchange_the_repository(repository: Repository, way: Callable[[Path], None]) -> None:
    way(repository.path.parent)

    with pytest.raises(ReadError, match=f"^{repository.path.parent}: "):
        check_writers(str(repository.path), 0, "main")


def test_in_a_folder_like_tmp_nobody_else_can_exchange_it(repository: Repository) -> None:
    repository.path.parent.chmod(0o1777)

    check_writers(str(repository.path), 0, "WORKTREE")


def test_a_repository_of_somebody_else_must_not_be_everybodys_to_exchange(repository: Repository) -> None:
    given_away(repository.path)
    check_writers(str(repository.path), SOMEBODY, "main")
    repository.path.parent.chmod(0o777)

    with pytest.raises(ReadError, match="everybody can exchange"):
        check_writers(str(repository.path), SOMEBODY, "main")
    repository.path.parent.chmod(0o1777)
    check_writers(str(repository.path), SOMEBODY, "main")


def test_a_link_to_the_repository_must_be_roots_too(repository: Repository) -> None:
    link = repository.path.parent / "link"
    link.symlink_to("repo")
    check_writers(str(link), 0, "main")
    given_away(link)

    with pytest.raises(ReadError, match=f"^{link}: "):
        check_writers(str(link), 0, "main")


@pytest.mark.parametrize("way", WAYS)
def test_a_bare_repository_is_its_own_git_folder(repository: Repository, way: Callable[[Path], None]) -> None:
    bare = repository.path.parent / "bare"
    repository.git("clone", "--quiet", "--bare", str(repository.path), str(bare))
    check_writers(str(bare), 0, "main")
    way(bare / "refs" / "heads")

    with pytest.raises(ReadError, match=r"/bare/refs/heads: "):
        check_writers(str(bare), 0, "main")


@pytest.mark.parametrize("part", [".git/refs/heads/main", ".git/worktrees/tree/HEAD", ".git"])
def test_a_linked_work_tree_is_followed_to_what_it_is_linked_to(repository: Repository, part: str) -> None:
    tree = repository.path.parent / "tree"
    repository.git("worktree", "add", "--quiet", "-b", "other", str(tree))
    check_writers(str(tree), 0, "WORKTREE")
    given_away(repository.path / part)

    with pytest.raises(ReadError, match=f"/repo/{part}: "):
        check_writers(str(tree), 0, "WORKTREE")


def test_objects_that_are_borrowed_from_elsewhere_count(repository: Repository) -> None:
    clone = repository.path.parent / "clone"
    repository.git("clone", "--quiet", "--shared", str(repository.path), str(clone))
    check_writers(str(clone), 0, "main")
    given_away(next(repository.path.glob(".git/objects/??/*")))

    with pytest.raises(ReadError, match=r"/repo/\.git/objects/"):
        check_writers(str(clone), 0, "main")


def test_borrowing_from_borrowers_is_followed_as_far_as_git_goes(repository: Repository) -> None:
    last = repository.path
    for number in range(6):
        clone = repository.path.parent / f"clone{number}"
        clone.mkdir()
        repository.git("init", "--quiet", "--initial-branch=main", str(clone))
        (clone / ".git/objects/info/alternates").write_text(f"{last}/.git/objects\n")
        last = clone
    commit = repository.git("rev-parse", "main")
    (last / ".git/refs/heads/main").write_text(f"{commit}\n")
    assert repository.git("-C", str(last), "log", "-1", "--format=%H", "main") == commit
    check_writers(str(last), 0, "main")
    given_away(next(repository.path.glob(".git/objects/??/*")))

    with pytest.raises(ReadError, match=r"/repo/\.git/objects/"):
        check_writers(str(last), 0, "main")


def test_a_borrowed_folder_in_quotes_is_refused_since_git_would_follow_it(repository: Repository) -> None:
    (repository.path / ".git/objects/info/alternates").write_text('"/tmp/objects"\n')

    with pytest.raises(ReadError, match="alternates: a path in quotes"):
        check_writers(str(repository.path), 0, "main")


def test_a_link_in_the_git_folder_is_refused_but_among_the_hooks(repository: Repository) -> None:
    (repository.path / ".git" / "hooks").mkdir(exist_ok=True)
    (repository.path / ".git" / "hooks" / "pre-commit").symlink_to("/nonexistent")
    check_writers(str(repository.path), 0, "main")
    (repository.path / ".git" / "refs" / "heads" / "b").symlink_to("/tmp/b")

    with pytest.raises(ReadError, match="refs/heads/b: a symbolic link"):
        check_writers(str(repository.path), 0, "main")


def test_an_access_control_list_is_no_group_of_roots(repository: Repository) -> None:
    (repository.path / ".git").chmod(0o775)
    check_writers(str(repository.path), 0, "main")
    open_by_acl(repository.path / ".git")

    with pytest.raises(ReadError, match=r"/\.git: others can write it"):
        check_writers(str(repository.path), 0, "main")


def test_the_reading_itself_is_refused(repository: Repository) -> None:
    assert repository.read("main").valid
    open_to_others(repository.path / ".git" / "refs" / "heads")

    with pytest.raises(ReadError, match="refs/heads: others can write it"):
        repository.read("main")
