"""Which command attaches to a domU's console, or why there is none to attach to. Pure."""

from __future__ import annotations

from reconciler.scope import Situation
from reconciler.status import known_uuid
from state.observed import Domain


class NoConsoleError(Exception):
    """There is nobody to talk to; says why."""


def console_of(name: str, situation: Situation) -> Domain:
    """The domain to attach to, found by its uuid: its name alone may be somebody else's by now.

    Raises:
        NoConsoleError: no such domU, or it does not run. One that has shut down and is kept still has its last words.
    """
    uuid = known_uuid(name, situation)
    if uuid is None:
        raise NoConsoleError(f"no domU {name!r}, neither in git nor alive")
    domain = situation.observed.by_uuid.get(uuid)
    if domain is None:
        raise NoConsoleError(f"{name} does not run: there is no console (`domgit get {name}` says why)")
    if domain.dying or domain.saved is None:
        what = "is being torn down" if domain.dying else "is being made"
        raise NoConsoleError(f"{name} {what}: there is no console")
    return domain


def console_type(domain: Domain) -> str:
    """Which of its consoles a guest's getty is on, as `xl console -t` calls it: an HVM guest's first serial port."""
    return "serial" if domain.saved is not None and domain.saved.type == "hvm" else "pv"


def console_argv(domain: Domain) -> tuple[str, ...]:
    """The command that attaches. By domid: xl takes a name of digits for one, and another domain may have the name."""
    return ("xl", "console", "-t", console_type(domain), str(domain.domid))
