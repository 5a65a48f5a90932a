"""The hotplug script that Xen calls for every vif of ours, as a managed file. Pure but for reading its own package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files

from reconciler.guard import nftables
from reconciler.guard.binding import Binding
from reconciler.plan import Cause, Change, Phase
from reconciler.render_xl import HOTPLUG_SCRIPT
from reconciler.step import RemoveFile, WriteFile
from state.desired import DomU, Vif
from state.files import digest
from state.observed import Observed

PATH = f"/etc/xen/scripts/{HOTPLUG_SCRIPT}"
TEMPLATES = "/var/lib/domgit/vifs"


@cache
def script() -> str:
    """The script's text, as it was installed with this program."""
    return files("reconciler.guard").joinpath(HOTPLUG_SCRIPT).read_text(encoding="utf-8")


def template_path(domu: DomU, vif: Vif) -> str:
    """Where the script finds the binding of a vif that has no name of its own."""
    return f"{TEMPLATES}/{domu.uuid}.{vif.index}.nft"


def diff_templates(domu: DomU, observed: Observed, before: DomU | None) -> Iterator[Change]:
    """The changes that keep the bindings of unnamed vifs where the script finds them.

    Their port is called vif<domid>.<index>, so nobody can bind it before the domain exists. `before` is what was
    last applied.
    """
    for vif in domu.vifs:
        if vif.name is not None:
            continue
        path = template_path(domu, vif)
        text = nftables.binding_script(
            Binding("@PORT@", vif.mac, vif.addresses, domu.uuid, vif.index, vif.guard, domu.type == "hvm")
        )
        found = observed.files[path]
        if found != text:
            cause: Cause = (
                "corrective"
                if before is not None and before.state != "absent" and vif in before.vifs
                else "intentional"
            )
            yield replace(
                _file_change(path, found, text, 0o600, cause), counts=(f"domu.{domu.name}",), uuid=domu.uuid
            )


def templates_of(uuid: str, observed: Observed) -> Mapping[int, str]:
    """The templates of one domU that are there, by the index of their vif."""
    prefix, suffix = f"{TEMPLATES}/{uuid}.", ".nft"
    there = (
        path for path, text in sorted(observed.files.items()) if text is not None and path.startswith(prefix)
    )
    return {
        int(index): path
        for path in there
        if path.endswith(suffix) and (index := path.removeprefix(prefix).removesuffix(suffix)).isdecimal()
    }


def diff_old_templates(domu: DomU, observed: Observed) -> Iterator[Change]:
    """The changes that take away templates of vifs that have a name now, or are gone.

    A guest that comes back with its old configuration would be given by one what is somebody else's by now. As long
    as a vif without a name lives there, its template stays: what becomes of that one is for its replug to say.
    """
    domain = observed.by_uuid.get(domu.uuid)
    live = () if domain is None else domain.vifs
    unnamed = {vif.index for vif in domu.vifs if vif.name is None}
    unnamed |= {each.index for each in live if each.interface == f"vif{each.domid}.{each.index}"}
    for index, path in templates_of(domu.uuid, observed).items():
        if index in unnamed:
            continue
        found = observed.files[path]
        yield Change(
            address=f"file.{path}",
            actions=("delete",),
            cause="intentional",
            impact="none",
            phase=Phase.PREPARE,
            steps=(RemoveFile(path),),
            fingerprint=((f"file:{path}", digest(found)),),
            before={"digest": digest(found)},
            after={},
            counts=(f"domu.{domu.name}",),
            layer=("file",),
            uuid=domu.uuid,
        )


def diff_hotplug(observed: Observed, *, first: bool) -> Iterator[Change]:
    """The change that puts our hotplug script in its place; `first`: nothing was ever applied here."""
    found = observed.files[PATH]
    if found != script():
        yield _file_change(PATH, found, script(), 0o755, "intentional" if first else "corrective")


def _file_change(path: str, found: str | None, text: str, mode: int, cause: Cause) -> Change:
    key = f"file:{path}"
    return Change(
        address=f"file.{path}",
        actions=("create",) if found is None else ("update",),
        cause=cause,
        impact="none",
        phase=Phase.PREPARE,
        steps=(WriteFile(path, text, mode),),
        fingerprint=((key, digest(found)),),
        before={} if found is None else {"digest": digest(found)},
        after={"digest": digest(text)},
        counts=(f"file.{path}",),
        inverse=(RemoveFile(path),) if found is None else (WriteFile(path, found, mode),),
        layer=("file",),
    )
