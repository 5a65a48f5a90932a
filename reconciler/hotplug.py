"""The hotplug script that Xen calls for every vif of ours, as a managed file. Pure but for reading its own package."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from reconciler.plan import Change, Phase
from reconciler.render_xl import HOTPLUG_SCRIPT
from reconciler.step import RemoveFile, WriteFile
from state.facts import fact
from state.observed import Observed

PATH = f"/etc/xen/scripts/{HOTPLUG_SCRIPT}"


@cache
def script() -> str:
    """The script's text, as it was installed with this program."""
    return files("reconciler.guard").joinpath(HOTPLUG_SCRIPT).read_text(encoding="utf-8")


def diff_hotplug(observed: Observed) -> Iterator[Change]:
    """The change that puts our hotplug script in its place."""
    found = observed.files[PATH]
    if found == script():
        return
    key = f"file:{PATH}"
    yield Change(
        address=f"file.{PATH}",
        actions=("create",) if found is None else ("update",),
        cause="intentional" if found is None else "corrective",
        impact="none",
        phase=Phase.PREPARE,
        steps=(WriteFile(PATH, script(), 0o755),),
        fingerprint=((key, fact(observed, key)),),
        before={} if found is None else {"digest": fact(observed, key)},
        after={"lines": len(script().splitlines())},
        counts=(f"file.{PATH}",),
        inverse=(RemoveFile(PATH),) if found is None else (WriteFile(PATH, found, 0o755),),
        layer=("file",),
    )
