"""The single acts a change is made of, as data. Pure: reconciler/execute.py does them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from state.files import digest

# Long enough for a database to flush, short enough that a guest which ignores shutdown ends within one pass.
SHUTDOWN_GRACE_S = 120.0


@dataclass(frozen=True, slots=True)
class Run:
    """One command that must end with exit status 0, unless it is `optional`."""

    argv: tuple[str, ...]
    stdin: str = ""
    timeout_s: float = 15.0
    optional: bool = False


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A whole file, replaced by rename."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """A file of ours that goes; gone already is fine."""

    path: str


@dataclass(frozen=True, slots=True)
class CreateImage:
    """A disk image that is not there yet. `uuid` is the domU's, for the ledger. Never touches an existing file."""

    uuid: str
    path: str
    size_bytes: int
    sparse: bool


@dataclass(frozen=True, slots=True)
class StopDomain:
    """A graceful shutdown, bounded: after `grace_s` the domain is destroyed, if it still is (uuid, domid).

    `domid` None: whichever domid the uuid has when the step runs (only in the inverse of a creation).
    """

    uuid: str
    domid: int | None
    grace_s: float


@dataclass(frozen=True, slots=True)
class Remember:
    """A fact for the ledger that cannot be read back from the host."""

    uuid: str
    fact: str  # as reconciler.ledger.remember names them
    value: str = ""


Step = Run | WriteFile | RemoveFile | CreateImage | StopDomain | Remember


def commands(step: Step) -> tuple[tuple[str, ...], ...]:
    """The step as argv lists, for plans and logs. What no tool does for us is named `domgit:...`."""
    match step:
        case Run():
            return (step.argv,)
        case WriteFile():
            return (("domgit:write", step.path, f"{step.mode:04o}", digest(step.text)),)
        case RemoveFile():
            return (("domgit:remove", step.path),)
        case CreateImage():
            return (
                (
                    "domgit:create-image",
                    step.path,
                    str(step.size_bytes),
                    "sparse" if step.sparse else "allocated",
                ),
            )
        case StopDomain():
            return (
                ("xl", "shutdown", str(step.domid)),
                ("domgit:after", f"{step.grace_s:g}s", "xl", "destroy", str(step.domid)),
            )
        case Remember():
            return (("domgit:remember", step.uuid, step.fact, step.value),)
        case _:
            assert_never(step)
