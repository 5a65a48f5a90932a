"""What the host's own configuration file says: which host this is, which repository it follows, where things lie."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.step import SHUTDOWN_GRACE_S

DEFAULT = Path("/etc/domgit/domgit.toml")
_KNOWN = {
    "": {"host"},
    "repo": {"url", "branch", "interval", "allowed_signers"},
    "paths": {"state", "run", "secrets"},
    "tools": {"shutdown_grace", "guard_revert"},
}
# An unconfirmed change of the guard is gone 30 s after it was made: the watchdog looks twice a second, and nft needs its
# time too. Loading (12 s at most, 4 to end nft) and asking (a third of this) are over before.
GUARD_REVERT_S = 25.0
_LEAST_REVERT_S = 3.0
_DURATION = re.compile(r"([1-9][0-9]{0,5})([smh])")


class ConfigError(Exception):
    """The configuration file cannot be used."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where this host keeps what is domgit's."""

    state: Path = Path("/var/lib/domgit")
    run: Path = Path("/run/domgit")
    secrets: Path = Path("/etc/domgit/secrets")

    @property
    def ledger(self) -> Path:
        """Which domUs and disks are ours."""
        return self.state / "ledger.json"

    @property
    def last_good(self) -> Path:
        """What was last applied."""
        return self.state / "last-good.json"

    @property
    def journal(self) -> Path:
        """Every plan that was applied, and how it went."""
        return self.state / "journal"

    @property
    def guard(self) -> Path:
        """Changes of the guard that nobody has confirmed yet."""
        return self.state / "guard"

    @property
    def reverted(self) -> Path:
        """Changes of the guard that had to be taken back."""
        return self.guard / "reverted.json"

    @property
    def mirror(self) -> Path:
        """The copy of a remote repository."""
        return self.state / "mirror.git"

    @property
    def memory(self) -> Path:
        """What the checked specifications of the repository claim, by what they were made of; may be removed at any time."""
        return self.state / "checked-specs"

    @property
    def lock(self) -> Path:
        """Held by whoever changes this host."""
        return self.run / "lock"

    @property
    def status(self) -> Path:
        """What the last pass found, for monitoring."""
        return self.run / "status.json"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration; what the file leaves out has its default."""

    host: str | None = None
    url: str | None = None
    branch: str = "main"
    interval_s: float = 60.0
    paths: Paths = field(default_factory=Paths)
    shutdown_grace_s: float = SHUTDOWN_GRACE_S
    guard_revert_s: float = GUARD_REVERT_S


def load(path: Path | None) -> Config:
    """The configuration at `path`; the defaults when the default file does not exist.

    Raises:
        ConfigError: the file is missing although it was asked for, is no TOML, or has a key that is not known.
    """
    try:
        content = tomllib.loads((path or DEFAULT).read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        if path is None:
            return Config()
        raise ConfigError(f"{path}: no such file") from exc
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path or DEFAULT}: {exc}") from exc
    return _config(content, path or DEFAULT)


def _config(content: dict[str, Any], path: Path) -> Config:
    top = {key: value for key, value in content.items() if not isinstance(value, dict)}
    tables = {"": top, **{key: value for key, value in content.items() if isinstance(value, dict)}}
    for table, values in tables.items():
        unknown = sorted(set(values) - _KNOWN.get(table, set()))
        if table not in _KNOWN or unknown:
            name = f"{table}.{unknown[0]}" if table and unknown else table or unknown[0]
            raise ConfigError(f"{path}: {name}: unknown key")
        for key, value in values.items():
            if not isinstance(value, str):
                raise ConfigError(f"{path}: {table}.{key}: {value!r} is no text")
    repo, paths, tools = (tables.get(name, {}) for name in ("repo", "paths", "tools"))
    defaults = Config()
    if "allowed_signers" in repo:
        # Whoever asks for signatures must not get a host that takes any commit.
        raise ConfigError(f"{path}: repo.allowed_signers: this version checks no signatures (leave it out)")
    return Config(
        host=top.get("host"),
        url=repo.get("url"),
        branch=repo.get("branch", defaults.branch),
        interval_s=_seconds(repo["interval"], path, "repo.interval")
        if "interval" in repo
        else defaults.interval_s,
        paths=Paths(**{key: Path(value) for key, value in paths.items()}),
        shutdown_grace_s=_seconds(tools["shutdown_grace"], path, "tools.shutdown_grace")
        if "shutdown_grace" in tools
        else defaults.shutdown_grace_s,
        guard_revert_s=_revert_s(tools["guard_revert"], path)
        if "guard_revert" in tools
        else defaults.guard_revert_s,
    )


def _revert_s(text: str, path: Path) -> float:
    seconds = _seconds(text, path, "tools.guard_revert")
    if not _LEAST_REVERT_S <= seconds <= GUARD_REVERT_S:
        raise ConfigError(f"{path}: tools.guard_revert: {text} (expected 3s to 25s)")
    return seconds


def _seconds(text: str, path: Path, key: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigError(f"{path}: {key}: {text!r} is no duration (expected such as 60s or 5m)")
    return float(int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]])
