"""Files of our own that are read back, and those of the host that we look at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from reconciler import config, last_good, ledger, reverted
from reconciler.cli.act import load_plan
from reconciler.cli.look import _applied, _records_of
from reconciler.cli.output import Failed
from reconciler.config import Config, ConfigError
from reconciler.diff import make_plan
from reconciler.diff_config import is_of
from reconciler.file_change import file_written
from reconciler.guard.binding import Step
from reconciler.guard_kept import Kept, parse_kept
from reconciler.guard_pending import Pending, parse_pending
from reconciler.journal import Journal, JournalError
from reconciler.last_good import LastGood
from reconciler.plan import Plan, Source, digest_of
from reconciler.plan_document import parse_document, plan_document
from reconciler.plan_text import plan_html, plan_markdown, plan_text
from reconciler.policy import Policy
from reconciler.render_xl import render_xl
from reconciler.reverted import Reverted
from reconciler.review import StaleError, restricted
from reconciler.sealed import opened, sealed
from reconciler.secret import masked
from state.files import FileStat, HostFiles, digest
from state.run import ReadError
from tests.fuzz.conform import conforms
from tests.fuzz.target import Target, demand, fixed
from tests.unit.test_plan_cases import cases, met
from tests.unit.worlds import REVISION, desired

# In memory where there is such a place: a disk would take most of the time.
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
_FOLDER = TemporaryDirectory(prefix="domgit-fuzz-", dir=_MEMORY)
_ROOT = Path(_FOLDER.name)


def _at(name: str, data: bytes) -> Path:
    path = _ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------- plans and their journal


@cache
def _plans() -> tuple[Plan, ...]:
    chosen = cases()[::12]
    return tuple(make_plan(met(case), Policy()) for case in chosen)


@cache
def _plan_texts() -> tuple[bytes, ...]:
    return tuple(
        json.dumps(plan_document(each, timestamp="2026-11-27T10:00:00Z")).encode() for each in _plans()
    )


def _plan(data: bytes) -> object:
    """Whatever is taken for a plan can be shown, and compared with a fresh one."""
    document = parse_document(data.decode("utf-8"))
    for shown in (plan_text, plan_markdown, plan_html):
        conforms(shown(document), str)
    for fresh in _plans()[:3]:
        with suppress(StaleError):
            restricted(fresh, document)
    return document


def _resealed(data: bytes) -> bytes:
    """A plan with its digests put right: what somebody makes who knows how."""
    try:
        document = json.loads(data)
        digests = []
        for change in document["resource_changes"]:
            said = change["change"]
            what = [change["address"], said["actions"], said["before"], said["after"]]
            change["digest"] = digest_of(
                [*what, change["when"], change["uuid"], change["domid"], change["commands"]]
            )
            digests.append(change["digest"])
        made = digest_of([document["host"]["name"], document["source"]["revision"], digests])
        return json.dumps({**document, "plan_id": f"sha256:{made}"}).encode()
    except (ValueError, LookupError, TypeError, RecursionError):
        return data


@cache
def _journals() -> tuple[bytes, ...]:
    journal = Journal(_ROOT / "journal-seed")
    for number, plan in enumerate(_plans()[:2]):
        document = plan_document(plan, timestamp="2026-11-27T10:00:00Z")
        common = {"apply": f"apply{number}", "time": "2026-11-27T10:00:00Z"}
        journal.append({**common, "type": "plan", "by": "root@dom0-a", "document": document})
        run = {"argv": ["xl", "list"], "rc": 0, "ms": 3}
        journal.append({**common, "type": "outcome", "address": "domu.vm01", "error": None, "runs": [run]})
        journal.append({**common, "type": "end", "failed": [], "empty": True})
    lines = journal.path.read_bytes().splitlines(keepends=True)
    return (b"".join(lines), b"".join(lines[:3]), b"".join(lines)[:-20])


def _rechained(data: bytes) -> bytes:
    """A journal whose chain was made anew."""
    previous, lines = "0" * 64, []
    for line in data.decode("utf-8", "replace").split("\n")[:-1]:
        payload = line.split(" ", 2)[-1]
        chained = hashlib.sha256(f"{previous} {payload}".encode()).hexdigest()
        lines.append(f"{previous} {chained} {payload}\n")
        previous = chained
    return "".join(lines).encode()


def _journal(data: bytes) -> object:
    """Read as `history` and `show` do, then written to as `apply` does: what was there stays there."""
    journal = Journal(_at("journal", data))
    records = [*journal.records()]
    with journal.understood():
        _applied(journal)
        for plan_id in [record["document"]["plan_id"] for record in records if record["type"] == "plan"]:
            [*_records_of(journal, plan_id)]
            with suppress(Failed):
                plan_text(load_plan(plan_id, journal))
    journal.append({"type": "end"})
    demand(
        [*journal.records()] == [*records, {"type": "end"}], "what was appended is not behind what was there"
    )
    return records


def _append(data: bytes) -> object:
    """Written to whatever stands there: either the records follow on, or it is refused and not touched."""
    journal = Journal(_at("journal", data))
    try:
        journal.append({"type": "end"})
    except JournalError:
        demand(journal.path.read_bytes() == data, "refused, and written to all the same")
        raise
    now = journal.path.read_bytes()
    kept = now.splitlines(keepends=True)[:-1]
    demand(data.startswith(b"".join(kept)), "a record was lost or changed")
    return kept


# ---------------------------------------------------------------- ledger, last-good, configuration


@cache
def _ledgers() -> tuple[bytes, ...]:
    content = {
        "e608ed38-c1b9-532e-a769-0156b41e19e1": ledger.Owned(
            "vm01", disks={"/srv/xen/images/vm01.img": "2049:1"}, powered_off=True, protect=True
        ),
        "d8eac4cc-8e11-58b9-9e67-207d9472a37d": ledger.Owned("vm02"),
    }
    ledger.save(_ROOT / "ledger-seed", content)
    return ((_ROOT / "ledger-seed").read_bytes(),)


def _ledger(data: bytes) -> object:
    found = ledger.load(_at("ledger", data))
    conforms(found, Mapping[str, ledger.Owned])
    ledger.save(_ROOT / "ledger-again", found)
    demand(ledger.load(_ROOT / "ledger-again") == found, "saved and read again it is another one")
    return found


_LAST = {
    "vm01": {"vifs": [{"ips": ["172.16.39.101", "2001:db8:39::101"], "rate": "10Mb/s"}, {"name": "none"}]},
    "vm02": {"console": {"vnc": {"listen": "127.0.0.1", "display": "5"}}},
}


@cache
def _lasts() -> tuple[bytes, ...]:
    small: dict[str, Any] = {"vm01": {}}
    source = Source(REVISION, "main", "Provider", "subject")
    texts = []
    for words in (_LAST, small):
        last_good.save(_ROOT / "last-seed", LastGood(source, desired(words)))
        texts.append((_ROOT / "last-seed").read_bytes())
    return tuple(texts)


def _last(data: bytes) -> object:
    found = last_good.load(_at("last", data))
    demand(found is not None, "nothing, although the file is there")
    conforms(found, LastGood)
    return found


def _sealed_again(data: bytes) -> bytes:
    """A record whose digest fits what it holds now, as far as it is JSON at all."""
    try:
        content = json.loads(opened(data))
        content.pop("sha256", None)
        return sealed(content).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return data


def _reverted(data: bytes) -> object:
    found = reverted.load(_at("reverted", data))
    conforms(found, tuple[Reverted, ...])
    return found


@cache
def _reverteds() -> tuple[bytes, ...]:
    reverted.save(
        _ROOT / "reverted-seed",
        [Reverted("elements 0123", "2026-11-27T10:00:00Z", "no answer from 192.0.2.1")],
    )
    return ((_ROOT / "reverted-seed").read_bytes(),)


_PENDING = Pending(
    "20261127T100000-abcdef",
    "boot",
    "2026-11-27T10:00:00Z",
    ("192.0.2.1",),
    (Step(("nft", "-f", "-"), "delete table bridge domgit\n"),),
    "0123",
)


def _pending(data: bytes) -> object:
    found = parse_pending(data.decode("utf-8", "surrogateescape"))
    conforms(found, Pending)
    demand(parse_pending(found.text()) == found, "written and read again it is another one")
    return found


_KEPT = Kept(
    "table bridge domgit\ndelete table bridge domgit\ntable bridge domgit {\n\tset own_mac {\n\t\ttype ifname . ether_addr\n\t}\n}\n"
    'add element bridge domgit own_mac { "vm01" . 00:16:3e:00:53:01 }\n'
    '# port "vm01" e608ed38-c1b9-532e-a769-0156b41e19e1.0 xenbr0\n# of this boot alone\n'
    'add element bridge domgit own_mac { "vif7.0" . 00:16:3e:00:53:02 }\n',
    "b0b4d66b-492b-4e41-8978-9297cdbd5914",
    "sha256:50e0",
    "sha256:d875",
)


def _kept(data: bytes) -> object:
    found = parse_kept(data.decode("utf-8", "replace"))
    conforms(found, Kept)
    demand(parse_kept(found.text()) == found, "written and read again it is another one")
    return found, found.elements(), found.owners()


_CONFIG = b"""host = "dom0-a"
[repo]
url = "ssh://git@git.example.net/dom0.git"
branch = "main"
interval = "60s"
[paths]
state = "/var/lib/domgit"
[tools]
shutdown_grace = "2m"
"""


def _config(data: bytes) -> object:
    found = config.load(_at("domgit.toml", data))
    conforms(found, Config)
    demand(found.interval_s > 0, "no interval")
    return found


# ---------------------------------------------------------------- files of the host

_MOUNTS = b"""22 28 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
99 28 253:7 / /srv/xen/mnt rw,relatime shared:50 - ext4 /dev/mapper/vol--vps-vm01 rw
"""


def _mounts(data: bytes) -> object:
    _at("host/proc/self/mountinfo", data)
    block = FileStat("block", 253 << 8 | 7, 0, 1 << 30)
    held = HostFiles(str(_ROOT / "host"))._block_holders({"/dev/vol-vps/vm01": block})
    conforms(held, Mapping[str, str])
    return held


def _monitors(data: bytes) -> object:
    _at("host/proc/7/cmdline", data)
    found = HostFiles(str(_ROOT / "host")).monitors()
    conforms(found, tuple[str, ...])
    return found


@cache
def _configurations() -> tuple[bytes, ...]:
    vnc = {"listen": "127.0.0.1", "display": "5", "passwordSecret": "vnc"}
    return (render_xl(desired({"vm01": {"console": {"vnc": vnc}}}).domus[0]).encode(),)


def _file(data: bytes) -> object:
    """A configuration file as somebody may have left it: compared, masked, planned, written down."""
    _at("host/etc/xen/vm01.cfg", data)
    text = HostFiles(str(_ROOT / "host")).read_text("/etc/xen/vm01.cfg")
    if text is None:
        return None
    domu = desired({"vm01": {}}).domus[0]
    is_of(text, domu.uuid)
    digest(masked(text, {"geheim": ("vnc",)}))
    change = file_written("/etc/xen/vm01.cfg", text, render_xl(domu), 0o644)
    plan = Plan("dom0-a", Source(REVISION), "", (change,))
    return json.dumps(plan_document(plan, timestamp="")).encode()


def targets() -> tuple[Target, ...]:
    """A target for each file that is read back."""
    plan, chain, record = (ValueError,), (JournalError,), (ReadError,)
    commands = (b"xl\0create\0-q\0-f\0/etc/xen/vm01.cfg\0", b"", b"/usr/bin/bash\0")
    return (
        Target("plan-file", _plan_texts, _plan, plan, structured=True, sealed=_resealed, weight=0.3),
        Target("journal", _journals, _journal, chain, structured=True, sealed=_rechained, weight=0.3),
        Target("journal-append", _journals, _append, chain, weight=0.3),
        Target("ledger", _ledgers, _ledger, record, structured=True, sealed=_sealed_again),
        Target("last-good", _lasts, _last, record, structured=True, sealed=_sealed_again),
        Target("reverted", _reverteds, _reverted, record, structured=True),
        Target("guard-kept", fixed(_KEPT.text().encode()), _kept, (ValueError,)),
        Target("guard-pending", fixed(_PENDING.text().encode()), _pending, (ValueError,)),
        Target("config", fixed(_CONFIG), _config, (ConfigError,)),
        Target("mountinfo", fixed(_MOUNTS), _mounts, record, weight=0.5),
        Target("cmdline", fixed(*commands), _monitors, record, weight=0.5),
        Target("xl-cfg", _configurations, _file, record),
    )
