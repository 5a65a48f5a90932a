"""What a change of each field does to a guest that runs and to one that is off: no field of the model is left out.

Words for what a plan does: `live` at once and unnoticed · `replug` at once, the guest's network is interrupted · `staged`
for its own next reboot · `start`, `stop` · `file` for its next start · `guard` what it may send · `note` something to
remember · `blocked` a human must act · nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from reconciler.diff import make_plan
from reconciler.plan import Change, Phase
from reconciler.policy import Policy
from reconciler.step import Remember, StopDomain
from schemas.domu import DomU
from tests.unit.deviations import situation

BASE: dict[str, Any] = {
    "uuid": "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11",
    "labels": {"customer": "4711"},
    "boot": {
        "phase": "run",
        "install": {"kernel": "/srv/xen/i.gz", "ramdisk": "/srv/xen/i.rd", "cdrom": "/srv/xen/i.iso"},
        "run": {"kernel": "/srv/xen/vmlinuz", "ramdisk": "/srv/xen/initrd.img", "cmdline": "ro"},
    },
    "disks": [{"vdev": "xvda", "path": "/srv/xen/images/vm01.img", "size": "1GiB"}],
    "vifs": [
        {
            "name": "vm01",
            "mac": "00:16:3e:00:53:01",
            "bridge": "xenbr0",
            "ips": ["172.16.39.101"],
            "rate": "10Mb/s",
        }
    ],
    "console": {"vnc": {"listen": "127.0.0.1", "display": "5", "passwordSecret": "vm01-vnc"}},
}
FILES = {
    f"profiles/{name}.yaml": f"{{apiVersion: domgit/v1, kind: Profile, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n"
    for name, spec in {"small": "onCrash: restart", "large": "vcpus: 2"}.items()
}


HOST = {"bridges": [{"name": "xenbr0", "uplinks": ["eth0"]}, {"name": "xenbr1", "uplinks": ["eth1"]}]}
INSTALLING = {"spec.boot.phase": "install"}
MOVED = {"metadata.placement": {"epoch": "2", "from": "dom0-b"}}
OWN_KERNEL = {"spec.boot.run.kernel": None, "spec.boot.run.ramdisk": None}
OTHER = "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b12"


class Row(NamedTuple):
    """A field's new value, and what comes of it where the guest runs and where it is off.

    `more`: other fields that change with it. `base`: what is so before and after.
    """

    value: Any
    running: str
    halted: str
    more: Mapping[str, Any] = {}
    base: Mapping[str, Any] = {}


ROWS: Mapping[str, Row] = {
    "metadata.name": Row("web01", "file live", "file"),
    "metadata.uuid": Row(OTHER, "blocked", "blocked"),
    "metadata.labels": Row({"customer": "4712"}, "", ""),
    # A higher epoch says that it has been elsewhere since: a guest that is off here arrives from there.
    "metadata.placement.epoch": Row("3", "", "blocked guard", base=MOVED),
    "metadata.placement.from": Row(None, "", "", base=MOVED),
    "spec.profile": Row("small", "", ""),
    "spec.type": Row("pvh", "file staged", "file"),
    "spec.state": Row("other", "stop", "start"),
    "spec.protect": Row("true", "note", "note"),
    "spec.mode": Row("report", "", ""),
    "spec.disruption": Row("none", "", ""),
    "spec.afterPoweroff": Row("start", "", ""),
    "spec.order": Row("10", "", ""),
    "spec.memory": Row("300MiB", "file live", "file"),
    "spec.maxMemory": Row("1GiB", "file staged", "file"),
    "spec.vcpus": Row("2", "file live", "file"),
    "spec.maxVcpus": Row("4", "file staged", "file"),
    "spec.boot.phase": Row("install", "blocked", "file"),
    "spec.boot.then": Row("run", "", "", base=INSTALLING),
    "spec.boot.install.kernel": Row("/srv/xen/j.gz", "blocked", "file", base=INSTALLING),
    "spec.boot.install.ramdisk": Row("/srv/xen/j.rd", "blocked", "file", base=INSTALLING),
    "spec.boot.install.cmdline": Row("auto", "blocked", "file", base=INSTALLING),
    "spec.boot.install.cdrom": Row("/srv/xen/j.iso", "blocked", "file", base=INSTALLING),
    "spec.boot.run.kernel": Row("/srv/xen/vmlinuz-2", "file staged", "file"),
    "spec.boot.run.ramdisk": Row("/srv/xen/initrd-2.img", "file staged", "file"),
    "spec.boot.run.cmdline": Row("rw", "file staged", "file"),
    "spec.boot.run.bootloader": Row("pygrub", "file staged", "file", more=OWN_KERNEL),
    "spec.boot.run.firmware": Row("pvgrub", "file staged", "file", more=OWN_KERNEL),
    "spec.disks.vdev": Row("xvdb", "file staged", "file"),
    "spec.disks.path": Row("/srv/xen/images/other.img", "file live staged", "file live"),
    "spec.disks.size": Row("2GiB", "blocked", "blocked"),
    "spec.disks.format": Row("qcow2", "blocked", "blocked"),
    "spec.disks.access": Row("ro", "file staged", "file"),
    "spec.disks.sparse": Row("false", "", ""),
    "spec.disks.adopt": Row("true", "", ""),
    "spec.vifs.name": Row("net01", "file guard replug staged", "file guard"),
    "spec.vifs.mac": Row("00:16:3e:00:53:77", "file guard replug", "file guard"),
    "spec.vifs.bridge": Row(
        "xenbr1", "file guard replug", "file guard", more={"spec.vifs.ips": ["198.51.100.7"]}
    ),
    "spec.vifs.ips": Row(["172.16.39.102"], "file guard", "file guard"),
    "spec.vifs.rate": Row("20Mb/s", "file live staged", "file"),
    "spec.vifs.guard": Row("audit", "guard live", "guard"),
    "spec.console.device": Row("xvc0", "", ""),
    "spec.console.baud": Row("9600", "", ""),
    "spec.console.login": Row("ignore", "", ""),
    "spec.console.vnc.listen": Row("127.0.0.2", "file staged", "file"),
    "spec.console.vnc.display": Row("6", "file staged", "file"),
    "spec.console.vnc.passwordSecret": Row(None, "file staged", "file"),
    "spec.onCrash": Row("destroy", "file staged", "file"),
}
ENVELOPE = {"apiVersion", "kind"}


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every field of a model that holds no model itself, by its path as a file has it, with what is said of it."""
    for name, field in model.model_fields.items():
        inner = [each for each in _classes(field.annotation) if issubclass(each, BaseModel)]
        key = field.alias or name
        if inner:
            for each in inner:
                yield from leaves(each, (*path, key))
        else:
            yield ".".join((*path, key)), field.description or ""


def _classes(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for each in getattr(annotation, "__args__", ()):
        yield from _classes(each)


def words(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The domU with these fields set, by path; None takes one away."""
    spec = copy.deepcopy(BASE)
    for path, value in changes.items():
        place: Any = spec
        *folders, last = path.removeprefix("spec.").removeprefix("metadata.").split(".")
        for each in folders:
            place = place[each]
            place = place[0] if isinstance(place, list) else place
        if value is None:
            place.pop(last, None)
        else:
            place[last] = copy.deepcopy(value)
    return spec


def effect(field: str, row: Row, state: str) -> str:
    """What the plan for a field's change does to a domU in this state."""
    value = row.value if field != "spec.state" else "halted" if state == "running" else "running"
    before = {**row.base, "spec.state": state}
    after = {**before, **row.more, field: value}
    name = after.pop("metadata.name", "vm01")
    found = situation(
        {
            "applied": {"host": HOST, "vm01": words(before), "files": FILES},
            "git": {"host": HOST, name: words(after), "files": FILES},
        }
    )
    assert not [each for each in found.desired.diagnostics if each.severity == "error"]
    plan = make_plan(found, Policy(disruption="reboot"))
    return " ".join(sorted({word for change in plan.changes for word in effects(change)}))


def effects(change: Change) -> Iterator[str]:
    if change.blocked is not None:
        yield "blocked"
    elif change.when == "next_guest_reboot":
        yield "staged"
    elif change.address == "guard":
        yield "guard"
    elif change.layer == ("file",):
        yield "file"
    elif change.early:
        yield "replug"
    elif any(isinstance(step, StopDomain) for step in change.steps):
        yield "stop"
    elif change.phase is Phase.ADD and "create" in change.actions:
        yield "start" if change.part == "" else "live"
    elif all(isinstance(step, Remember) for step in change.steps):
        yield "note"
    else:
        yield "live"


def test_every_field_of_the_model_has_a_row_and_every_row_a_field() -> None:
    assert sorted(ROWS) == sorted({field for field, _ in leaves(DomU)} - ENVELOPE)


@pytest.mark.parametrize("state", ["running", "halted"])
@pytest.mark.parametrize("field", ROWS)
def test_a_change_of_a_field_does_what_the_table_says(field: str, state: str) -> None:
    row = ROWS[field]

    assert effect(field, row, state) == (row.running if state == "running" else row.halted)


@pytest.mark.parametrize("field", [each for each in ROWS if each.startswith("spec.boot.install.")])
def test_how_a_guest_was_installed_costs_nothing_once_it_runs(field: str) -> None:
    row = ROWS[field]._replace(base={})

    assert (effect(field, row, "running"), effect(field, row, "halted")) == ("", "")


@pytest.mark.parametrize(
    ("field", "said"), [(field, said) for field, said in leaves(DomU) if field in ROWS], ids=lambda each: each
)
def test_what_the_schema_says_that_a_change_costs_is_what_it_costs(field: str, said: str) -> None:
    done = set(ROWS[field].running.split())

    assert ("aits for a reboot" in said or "waits for the guest" in said) == (
        "staged" in done and not (done & {"replug"} or field == "spec.vifs.rate")
    )
    assert ("replugs" in said) == ("replug" in done)
    if "osts nothing" in said:
        assert done <= {"file", "guard", "live", "note", "staged"}
