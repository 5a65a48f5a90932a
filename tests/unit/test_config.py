"""The host's own configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config import Config, ConfigError, Paths, load

FULL = """
host = "dom0-a"
[repo]
url = "ssh://git@git.example.net/vps.git"
branch = "production"
interval = "5m"
[paths]
state = "/srv/state"
run = "/srv/run"
secrets = "/srv/secrets"
[tools]
shutdown_grace = "90s"
guard_revert = "10s"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "domgit.toml"
    path.write_text(text)
    return path


def test_everything_that_can_be_said_is_read(tmp_path: Path) -> None:
    assert load(written(tmp_path, FULL)) == Config(
        host="dom0-a",
        url="ssh://git@git.example.net/vps.git",
        branch="production",
        interval_s=300.0,
        paths=Paths(Path("/srv/state"), Path("/srv/run"), Path("/srv/secrets")),
        shutdown_grace_s=90.0,
        guard_revert_s=10.0,
    )


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")) == Config()
    assert load(written(tmp_path, '[repo]\ninterval = "1h"\n')).interval_s == 3600.0


def test_our_files_lie_below_the_folders_that_were_named() -> None:
    paths = Paths(Path("/s"), Path("/r"), Path("/x"))

    below_state = {paths.ledger, paths.last_good, paths.journal, paths.mirror, paths.guard}
    assert {path.parent for path in below_state} == {Path("/s")}
    assert len(below_state) == 5
    assert paths.reverted.parent == paths.guard
    assert {paths.lock, paths.status} == {Path("/r/lock"), Path("/r/status.json")}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hots = 'a'", ":1: hots: unknown key (did you mean 'host'?)"),
        ("[repo]\nurl = 'a'\nbrunch = 'b'", ":3: repo.brunch: unknown key (did you mean 'branch'?)"),
        ("[repos]\nurl = 'a'", ":1: repos: unknown table (did you mean 'repo'?)"),
        ("[other]", ":1: other: unknown table (expected one of paths, repo, tools)"),
        ("host = 3", ':1: host: 3 is no text (expected "...")'),
        ("[repo]\ninterval = 60", ":2: repo.interval: 60 is no text"),
        ("[repo]\ninterval = '60'", "repo.interval: '60' is no duration"),
        ("[repo]\ninterval = '0s'", "repo.interval: '0s' is no duration"),
        ("[tools]\nshutdown_grace = 'long'", "tools.shutdown_grace: 'long' is no duration"),
        ("[tools]\nguard_revert = '2s'", "tools.guard_revert: 2s (expected 3s to 25s)"),
        ("[tools]\nguard_revert = '1m'", "tools.guard_revert: 1m (expected 3s to 25s)"),
        ("[repo]\nallowed_signers = '/etc/x'", "repo.allowed_signers: this version checks no signatures"),
        ("[repo]\nsigners = 'x'", ":2: repo.signers: unknown key (expected one of branch, interval, url)"),
        ("[repo]\nurl = 'http://x/y'", ":2: repo.url: http://: never used (expected ssh:// or https://)"),
        ("repo = {url = 3}", ": repo.url: 3 is no text"),
        ("host = \nx = 1", "Invalid value (at line 1, "),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(tmp_path: Path, text: str, why: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as refused:
        load(path)

    assert str(refused.value).startswith(f"{path}:")
    assert why in str(refused.value)


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "domgit.toml")


def test_a_file_that_cannot_be_read_is_no_default_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="directory"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="decode"):
        load(_bytes(tmp_path))


def _bytes(folder: Path) -> Path:
    path = folder / "domgit.toml"
    path.write_bytes(b"host = '\xff'")
    return path
