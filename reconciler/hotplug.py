"""The hotplug script that Xen calls for every vif of ours, as a managed file. Pure but for reading its own package."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files

from reconciler.file_change import file_removed, file_written
from reconciler.guard.backend import binding_text
from reconciler.guard.binding import Binding
from reconciler.plan import Cause, Change, Phase
from reconciler.render_xl import HOTPLUG_SCRIPT
from state.desired import DomU, Vif
from state.nft import Loader
from state.observed import Observed

PATH = f"/etc/xen/scripts/{HOTPLUG_SCRIPT}"
TEMPLATES = "/var/lib/domgit/vifs"
_TEMPLATE = re.compile(rf"{TEMPLATES}/(?P<uuid>[0-9a-f-]{{36}})\.(?P<index>[0-9]+)\.nft")


@cache
def script() -> str:
    """The script's text, as it was installed with this program."""
    return files("reconciler.guard").joinpath(HOTPLUG_SCRIPT).read_text(encoding="utf-8")


def template_path(domu: DomU, vif: Vif) -> str:
    """Where the script finds the binding of a vif that has no name of its own."""
    return f"{TEMPLATES}/{domu.uuid}.{vif.index}.nft"


def diff_templates(domu: DomU, observed: Observed, before: DomU | None, by: Loader) -> Iterator[Change]:
    """The changes that keep the bindings of unnamed vifs where the script finds them.

    Their port is called vif<domid>.<index>, so nobody can bind it before the domain exists. `before` is what was
    last applied, `by` what the guard is loaded with.
    """
    for vif in domu.vifs:
        if vif.name is not None:
            continue
        path = template_path(domu, vif)
        bound = Binding("@PORT@", vif.mac, vif.addresses, domu.uuid, vif.index, vif.guard, domu.type == "hvm")
        text = binding_text(by, bound)
        found = observed.files[path]
        if found != text:
            same = before is not None and before.state != "absent" and vif in before.vifs
            # The emulated port of an HVM guest is bound as well.
            same = same and before is not None and (before.type == "hvm") == (domu.type == "hvm")
            cause: Cause = "corrective" if same else "intentional"
            written = file_written(path, found, text, 0o600)
            yield replace(
                written,
                cause=cause,
                # Behind the guard, which may refuse it, and before the vif that needs it.
                phase=Phase.ADD,
                counts=(f"domu.{domu.name}",),
                uuid=domu.uuid,
                order=-1,
            )


def templates_by_uuid(observed: Observed) -> Mapping[str, Mapping[int, str]]:
    """The templates that are there, by the domU's uuid and the index of the vif."""
    found: dict[str, dict[int, str]] = {}
    for path, text in sorted(observed.files.items()):
        match = _TEMPLATE.fullmatch(path)
        if match is not None and text is not None:
            found.setdefault(match["uuid"], {})[int(match["index"])] = path
    return found


def diff_old_templates(domu: DomU, observed: Observed, templates: Mapping[int, str]) -> Iterator[Change]:
    """The changes that take away templates of vifs that have a name now, or are gone.

    A guest that comes back with its old configuration would be given by one what is somebody else's by now. As long
    as a vif without a name lives there, its template stays: what becomes of that one is for its replug to say.
    """
    domain = observed.by_uuid.get(domu.uuid)
    live = () if domain is None else domain.vifs
    unnamed = {vif.index for vif in domu.vifs if vif.name is None}
    unnamed |= {each.index for each in live if each.interface == f"vif{each.domid}.{each.index}"}
    for index, path in templates.items():
        if index not in unnamed:
            gone = file_removed(path, observed.files[path])
            yield replace(gone, counts=(f"domu.{domu.name}",), uuid=domu.uuid)


def diff_hotplug(observed: Observed, *, first: bool) -> Iterator[Change]:
    """The change that puts our hotplug script in its place; `first`: nothing was ever applied here."""
    found = observed.files[PATH]
    if found != script():
        written = file_written(PATH, found, script(), 0o755)
        yield written if first else replace(written, cause="corrective")
