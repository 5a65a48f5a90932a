"""What the host's own configuration file says: which host this is, which repository it follows, where things lie."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.step import SHUTDOWN_GRACE_S
from state.location import local_path
from state.run import ReadError

DEFAULT = Path("/etc/domgit/domgit.toml")
_KNOWN: Mapping[str, AbstractSet[str]] = {
    "": {"host"},
    "repo": {"url", "branch", "interval", "allowed_signers"},
    "paths": {"state", "run", "secrets"},
    "tools": {"shutdown_grace", "guard_revert"},
}
# An unconfirmed change of the guard is gone 30 s after it was made: the watchdog looks twice a second, and nft needs its
# time too. Loading (12 s at most, 4 to end nft) and asking (a third of this) are over before.
GUARD_REVERT_S = 25.0
_LEAST_REVERT_S = 3.0
_REFUSED = frozenset({"allowed_signers"})  # known, and never to be written
_TABLE = re.compile(r"\s*\[\s*([A-Za-z0-9_-]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
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
    def tally(self) -> Path:
        """What the guard had counted at the last pass."""
        return self.run / "tally.json"

    @property
    def metrics(self) -> Path:
        """What the guard has counted, for Prometheus."""
        return self.run / "metrics.prom"

    @property
    def disk_history(self) -> Path:
        """How full guests' file systems were in the last two weeks; may be removed at any time."""
        return self.state / "disk-history.json"

    @property
    def disks(self) -> Path:
        """What the last look into guests' disks has found."""
        return self.run / "disks.json"

    @property
    def disk_metrics(self) -> Path:
        """The same, for Prometheus."""
        return self.run / "disks.prom"

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
    file: Path | None = field(default=None, compare=False)  # that says so; None: there is none


def load(path: Path | None) -> Config:
    """The configuration at `path`; the defaults when the default file does not exist.

    Raises:
        ConfigError: the file is missing although it was asked for, is no TOML, or has a key that is not known or a
            value that cannot be one.
    """
    try:
        text = (path or DEFAULT).read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except FileNotFoundError as exc:
        if path is None:
            return Config()
        raise ConfigError(f"{path}: no such file") from exc
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path or DEFAULT}: {exc}") from exc
    return _Read(path or DEFAULT, text).config(content)


@dataclass(frozen=True, slots=True)
class _Read:
    """The file that is read: where it lies, and what it says."""

    path: Path
    text: str

    def config(self, content: dict[str, Any]) -> Config:
        top = {key: value for key, value in content.items() if not isinstance(value, dict)}
        tables = {"": top, **{key: value for key, value in content.items() if isinstance(value, dict)}}
        for table, values in tables.items():
            if table not in _KNOWN:
                raise self._wrong("", table, f"unknown table{_instead(table, _KNOWN)}")
            for key, value in values.items():
                if key not in _KNOWN[table]:
                    raise self._wrong(table, key, f"unknown key{_instead(key, _KNOWN[table])}")
                if not isinstance(value, str):
                    raise self._wrong(table, key, f'{value!r} is no text (expected "...")')
        repo, paths, tools = (tables.get(name, {}) for name in ("repo", "paths", "tools"))
        if "allowed_signers" in repo:
            # Whoever asks for signatures must not get a host that takes any commit.
            raise self._wrong(
                "repo", "allowed_signers", "this version checks no signatures (expected no such key)"
            )
        defaults = Config()
        return Config(
            host=top.get("host"),
            url=self._url(repo),
            branch=repo.get("branch", defaults.branch),
            interval_s=self._seconds(repo, "repo", "interval") or defaults.interval_s,
            paths=Paths(**{key: Path(value) for key, value in paths.items()}),
            shutdown_grace_s=self._seconds(tools, "tools", "shutdown_grace") or defaults.shutdown_grace_s,
            guard_revert_s=self._revert_s(tools) or defaults.guard_revert_s,
            file=self.path,
        )

    def _url(self, repo: Mapping[str, str]) -> str | None:
        url = repo.get("url")
        try:
            if url is not None:
                local_path(url)
        except ReadError as exc:
            raise self._wrong("repo", "url", str(exc)) from exc
        return url

    def _revert_s(self, tools: Mapping[str, str]) -> float | None:
        seconds = self._seconds(tools, "tools", "guard_revert")
        if seconds is not None and not _LEAST_REVERT_S <= seconds <= GUARD_REVERT_S:
            raise self._wrong("tools", "guard_revert", f"{tools['guard_revert']} (expected 3s to 25s)")
        return seconds

    def _seconds(self, values: Mapping[str, str], table: str, key: str) -> float | None:
        if key not in values:
            return None
        match = _DURATION.fullmatch(values[key])
        if match is None:
            raise self._wrong(table, key, f"{values[key]!r} is no duration (expected such as 60s or 5m)")
        return float(int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]])

    def _wrong(self, table: str, key: str, why: str) -> ConfigError:
        line = self._line(table, key)
        place = f"{self.path}:{line}" if line else str(self.path)
        return ConfigError(f"{place}: {f'{table}.{key}' if table else key}: {why}")

    def _line(self, table: str, key: str) -> int | None:
        """Where the key, or the table of that name, stands; None where it is written in some rarer way."""
        current = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if match := _TABLE.match(line):
                current = match[1]
                if not table and current == key:
                    return number
            elif current == table and (match := _KEY.match(line)) and match[1] == key:
                return number
        return None


def _instead(name: str, known: Iterable[str]) -> str:
    names = sorted(each for each in known if each and each not in _REFUSED)
    alike = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {alike[0]!r}?)" if alike else f" (expected one of {', '.join(names)})"
