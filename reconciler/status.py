"""What is so, for somebody who must decide: a whole host, or one domU, from its plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.life import Life
from reconciler.plan import Change, Plan
from reconciler.plan_document import plan_document
from reconciler.plan_text import change_lines
from reconciler.scope import Situation
from schemas.address import address_text
from state.desired import DomU, Vif
from state.observed import Domain
from state.xenstore import Console

Facts = dict[str, Any]
# So many names are listed in a line; who needs all of them reads the plan.
NAMES_IN_A_LINE = 8
# The condition of a guest that has not yet what git says, and gets it when it reboots by itself.
PENDING = "PendingReboot"
# What an object is that apply would do this to.
_IS = {"create": "missing", "delete": "too much"}
_SINCE = {
    "intentional": "git says so since it was last applied",
    "corrective": "it was otherwise when it was last applied",
}
_WAITS = {
    "report_only": "only watched (mode: report): `domgit apply` does it",
    "move": "comes from another host: see that it has ended there, then `domgit apply`",
}


def host_facts(plan: Plan) -> Facts:
    """What a plan says of its host: everything that is not as git wants it, each object with the reason."""
    document = plan_document(plan, timestamp="")
    changes = plan.changes
    waits = [change for change in changes if change.blocked is None and change.when in {"approval", "window"}]
    settled = plan.empty and not plan.errored and not plan.summary.blocked and not waits
    return {
        "up_to_date": settled,
        "summary": document["summary"],
        "diagnostics": document["diagnostics"],
        "blocked": [{"address": each.address, "why": each.blocked} for each in _blocked(changes)],
        "waits": [{"address": each.address, "why": _waits(each)} for each in waits],
        "due": [
            {"address": each.address, "actions": [*each.actions], "cause": each.cause}
            for each in _due(changes)
        ],
        "removes": [each.address for each in changes if each.due and each.reason == "tombstone"],
        "staged": sorted({each.address for each in changes if _pending(each)}),
        "pending_reboot": [
            {"address": each.address, "fields": sorted(each.after)} for each in changes if _pending(each)
        ],
        "notes": document["notes"],
    }


def _pending(change: Change) -> bool:
    """Whether it waits for nothing but the guest's own reboot."""
    return change.when == "next_guest_reboot" and change.blocked is None


def _blocked(changes: Sequence[Change]) -> Iterator[Change]:
    """The blocked changes."""
    return _told_once(change for change in changes if change.blocked is not None)


def _due(changes: Sequence[Change]) -> Iterator[Change]:
    """What apply changes now."""
    return _told_once(
        each for each in changes if each.due and each.when == "now" and each.reason != "tombstone"
    )


def _told_once(changes: Iterable[Change]) -> Iterator[Change]:
    """These, but for the file of a domU of which something else is among them: that follows from it."""
    found = [*changes]
    told = {change.uuid for change in found if change.uuid is not None and change.layer != ("file",)}
    yield from (each for each in found if each.layer != ("file",) or each.uuid not in told)


def _waits(change: Change) -> str:
    if change.reason == "awaiting_approval":
        how = "link" if change.impact == "link" else "reboot"
        return f"disturbs the guest more than `disruption` allows: `domgit apply --disruption {how}`"
    return _WAITS.get(change.reason or "", change.reason or change.when)


def host_lines(facts: Facts) -> Iterator[str]:
    """The facts of a host for a terminal: one line for each thing to know, those with one reason together."""
    rows: list[tuple[str, str, str]] = [
        *(("blocked", each["address"], each["why"]) for each in facts["blocked"]),
        *(("waits", each["address"], each["why"]) for each in facts["waits"]),
        *(
            (_IS.get(each["actions"][0], "differs"), each["address"], _SINCE[each["cause"]])
            for each in facts["due"]
        ),
        *(("removes", each, "its file says `state: absent`") for each in facts["removes"]),
        *((PENDING, each["address"], _brings(each["fields"])) for each in facts["pending_reboot"]),
        *((_words(each["reason"]), each["address"], each["message"]) for each in facts["notes"]),
    ]
    together: dict[tuple[str, str], list[str]] = {}
    for label, address, why in rows:
        together.setdefault((label, why), []).append(address)
    for each in facts["diagnostics"]:
        yield line("error" if each["severity"] == "error" else "warning", _problem(each))
    for (label, why), addresses in together.items():
        named, more = addresses[:NAMES_IN_A_LINE], len(addresses) - NAMES_IN_A_LINE
        yield line(label, f"{', '.join(named)}{f' and {more} more' if more > 0 else ''}: {why}")


def _brings(fields: Sequence[str]) -> str:
    return f"the guest's own next reboot brings {', '.join(fields)}"


def line(label: str, text: object) -> str:
    """One line of `status` or `get`."""
    return f"{label:<13} {text}"


def _words(reason: str) -> str:
    return reason.replace("_", " ")


def _problem(diagnostic: Mapping[str, Any]) -> str:
    place = "".join(
        f"{diagnostic[part]}:" for part in ("file", "line", "column") if diagnostic[part] is not None
    )
    return f"{place} {diagnostic['message']} [{diagnostic['code']}]".lstrip()


def domu_facts(name: str, situation: Situation, plan: Plan, console: Console | None = None) -> Facts | None:
    """What is so with one domU: git's word or the last applied one, what lives, and everything that a plan says of it.

    `console`: where its console is now, None where it has none.

    None for a name that neither git, nor what was last applied, nor the ledger, nor the host knows.
    """
    uuid = known_uuid(name, situation)
    if uuid is None:
        return None
    domu, by = _specification(uuid, situation)
    before, owned = situation.applied.get(uuid), situation.ledger.get(uuid)
    # A tombstone says nothing of what is to go.
    shown = before if domu is not None and domu.state == "absent" else domu
    names = {name, *(each.name for each in (domu, before, owned) if each is not None)}
    addresses = {f"domu.{each}" for each in names}
    document = plan_document(plan, timestamp="")
    file = None if domu is None else domu.file
    domain = situation.observed.by_uuid.get(uuid)
    pending = [each for each in plan.changes if each.uuid == uuid and _pending(each)]
    return {
        "name": name if domu is None else domu.name,
        "file": file,
        "uuid": uuid,
        "wanted": None if domu is None else domu.state,
        "specified_by": by,
        "live": _live(domain),
        "boot": None if shown is None else _boot(situation.life(shown)),
        "console": None if shown is None else _console(shown, domain, console),
        "pending_reboot": sorted(key for each in pending for key in each.after),
        "vifs": [_vif(each) for each in (() if shown is None else shown.vifs)],
        "diagnostics": [each for each in document["diagnostics"] if each["file"] == file],
        "notes": [each for each in document["notes"] if each["address"] in {*addresses, f"host.{plan.host}"}],
        # By uuid as well: a former name may be somebody else's by now.
        "changes": [
            each
            for each in document["resource_changes"]
            if addresses & {*each["counts"]} and each["uuid"] in {None, uuid}
        ],
    }


def domu_lines(facts: Facts) -> Iterator[str]:
    """The facts of a domU for a terminal."""
    wanted = facts["wanted"]
    if facts["specified_by"] == "last applied":
        wanted = f"{wanted} (as last applied)"
    yield line("name", facts["name"])
    yield line("file", facts["file"] or "none")
    yield line("uuid", facts["uuid"])
    yield line("wanted", wanted or "nothing: not managed here")
    yield line("live", facts["live"])
    if facts["boot"] is not None:
        yield line("boot", _boot_line(facts["boot"]))
    if facts["console"] is not None:
        yield line("console", _console_line(facts["console"]))
    for vif in facts["vifs"]:
        parts = (vif["name"], vif["mac"], vif["bridge"], " ".join(vif["ips"]) or "no addresses", vif["rate"])
        yield line("vif", "  ".join(part for part in parts if part))
    for each in facts["diagnostics"]:
        yield line("error" if each["severity"] == "error" else "warning", _problem(each))
    for each in facts["notes"]:
        yield line(_words(each["reason"]), each["message"])
    if facts["pending_reboot"]:
        yield line(PENDING, _brings(facts["pending_reboot"]))
    if not facts["changes"]:
        yield line("differs", "nothing")
    for change in facts["changes"]:
        yield from change_lines(change)


def known_uuid(name: str, situation: Situation) -> str | None:
    """Whose name it is: git's word first, then ours, then the host's."""
    known = (
        *((each.name, each.uuid) for each in situation.desired.domus),
        *((each.name, uuid) for uuid, each in situation.applied.items()),
        *((each.name, uuid) for uuid, each in situation.ledger.items()),
        *((each.name, each.uuid) for each in situation.observed.domains),
    )
    return next((uuid for each, uuid in known if each == name), None)


def _specification(uuid: str, situation: Situation) -> tuple[DomU | None, str | None]:
    """The specification that counts, and whose word that is."""
    now = next((each for each in situation.desired.domus if each.uuid == uuid), None)
    if now is not None and not situation.refused:
        return now, "git"
    before = situation.applied.get(uuid)
    return before, None if before is None else "last applied"


def _live(domain: Domain | None) -> str:
    if domain is None:
        return "not running"
    state = "paused" if domain.paused else "running"
    if domain.shutdown is not None:
        state = f"shut down ({domain.shutdown})"
    if domain.dying:
        state = "being torn down"
    saved = domain.saved
    what = "no saved configuration" if saved is None else f"{saved.memory_mib} MiB, {saved.vcpus} vcpus"
    return f"domain {domain.domid}, {state}, {what}"


def _vif(vif: Vif) -> Facts:
    return {
        "name": vif.name,
        "mac": vif.mac,
        "bridge": vif.bridge,
        "ips": [address_text(each) for each in vif.addresses],
        "rate": vif.rate_text,
    }


def _boot(life: Life) -> Facts | None:
    """How it starts: the phase that git says, how far that has come, and what the next start gets."""
    boot, found = life.domu.boot, life.installation
    if boot is None:
        return None
    return {
        "phase": boot.phase if found is None else "install",
        "then": "run" if found is not None and found.advances else None,
        "installation": None if found is None else found.stage,
        "starts": {
            key: value
            for key in ("bootloader", "kernel", "ramdisk", "cmdline", "cdrom")
            if (value := getattr(boot, key))
        },
    }


def _boot_line(boot: Facts) -> str:
    phase = f"{boot['phase']}, then run" if boot["then"] else boot["phase"]
    stage = [] if boot["installation"] is None else [f"installation {boot['installation']}"]
    return "  ".join([phase, *stage, *(f"{key}={value}" for key, value in boot["starts"].items())])


def _console(domu: DomU, domain: Domain | None, console: Console | None) -> Facts:
    """The console as wanted and as it is; the name of a password's secret, and never the password."""
    vnc, saved = domu.vnc, None if domain is None else domain.saved
    now = None if saved is None else saved.vnc
    return {
        "device": domu.console_device,
        "vnc": None if vnc is None else _server(vnc.listen, vnc.display, vnc.secret),
        "live": None
        if console is None
        else {
            "type": console.type,
            "path": console.path,
            "vnc": None if now is None else _server(now.listen, now.display, now.password or None),
            "vnc_port": console.vnc_port or None,
        },
    }


def _server(listen: str, display: int, secret: str | None) -> Facts:
    return {"listen": listen, "display": display, "password": secret}


def _console_line(console: Facts) -> str:
    """`hvc0, no screen; live: xenconsoled /dev/pts/3, no screen`."""
    live = console["live"]
    text = f"{console['device']}, {_screen(console['vnc'])}"
    if live is None:
        return text
    where = " ".join(part for part in (live["type"], live["path"]) if part) or "nowhere"
    return f"{text}; live: {where}, {_screen(live['vnc'])}"


def _screen(server: Facts | None) -> str:
    if server is None:
        return "no screen"
    password = "no password" if server["password"] is None else f"password {server['password']}"
    return f"screen {server['listen']} display {server['display']} ({password})"
