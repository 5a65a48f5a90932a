"""`xenstore-ls`, `xenstore-list`, `xenstore-write` and `xenstore-rm` in memory, over the folders that domgit looks at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.model.answer import Answer, Refused, unknown
from tests.model.domain import Domain, Nic
from tests.model.toolstack import Toolstack

BACKEND = "/local/domain/0/backend/vif"
_RATE = re.compile(rf"{BACKEND}/(\d+)/(\d+)/rate")


@dataclass(slots=True)
class Xenstore:
    """The backend folders of the toolstack's vifs."""

    toolstack: Toolstack

    def run(self, tool: str, arguments: Sequence[str]) -> Answer:
        """`xenstore-... ARGUMENTS`."""
        match tool, list(arguments):
            case "xenstore-ls", ["-f", path] if path == BACKEND:
                lines = [line for _, each in sorted(self.toolstack.domains.items()) for line in _domain(each)]
                if not lines:
                    raise Refused(f"xenstore-ls: xs_directory ({BACKEND}): No such file or directory")
                return Answer("".join(lines))
            case "xenstore-ls", ["-f", path] if path.startswith(f"{BACKEND}/"):
                domain = self.toolstack.domains.get(int(path.rpartition("/")[2]))
                if domain is None or not domain.nics:
                    raise Refused(f"xenstore-ls: xs_directory ({path}): No such file or directory")
                # What it was asked about itself is not in the list.
                return Answer("".join([*_domain(domain)][1:]))
            case "xenstore-list", ["/libxl"]:
                # libxl forgets a domain that it tears down before the hypervisor does.
                made = [domid for domid, each in sorted(self.toolstack.domains.items()) if not each.dying]
                return Answer("".join(f"{domid}\n" for domid in made))
            case "xenstore-write", [path, value]:
                credit, _, interval = value.partition(",")
                self._nic(path).rate = (int(credit), int(interval))
            case "xenstore-rm", [path]:
                nic = self._nic(path)
                if nic.rate is None:
                    raise Refused(f"xenstore-rm: could not remove path {path}")
                nic.rate = None
            case _:
                raise unknown(tool, arguments)
        return Answer()

    def _nic(self, path: str) -> Nic:
        match = _RATE.fullmatch(path)
        if match is None:
            raise unknown("xenstore-write", [path])
        domain = self.toolstack.living(int(match[1]))
        nic = None if domain is None else domain.nics.get(int(match[2]))
        if nic is None:
            # The real one makes the path; nothing here should ever count on that.
            raise AssertionError(f"a rate for a vif that is not there: {path}")
        return nic


def _domain(domain: Domain) -> Iterator[str]:
    if not domain.nics:
        return
    yield f'{BACKEND}/{domain.domid} = ""\n'
    for index, nic in sorted(domain.nics.items()):
        folder = f"{BACKEND}/{domain.domid}/{index}"
        yield f'{folder} = ""\n'
        for key, value in _keys(domain.domid, index, nic):
            yield f'{folder}/{key} = "{value}"\n'


def _keys(domid: int, index: int, nic: Nic) -> Iterator[tuple[str, str]]:
    yield "frontend", f"/local/domain/{domid}/device/vif/{index}"
    yield "frontend-id", str(domid)
    yield "online", "1"
    yield "state", "4" if nic.status == "connected" else "2"
    yield "script", nic.script
    if nic.config.ifname:
        yield "vifname", nic.config.ifname
    yield "mac", nic.config.mac
    if nic.config.ip:
        yield "ip", nic.config.ip
    if nic.rate is not None:
        yield "rate", f"{nic.rate[0]},{nic.rate[1]}"
    yield "bridge", nic.config.bridge
    yield "handle", str(index)
    yield "type", "vif"
    yield "hotplug-status", nic.status
    if nic.error:
        yield "hotplug-error", nic.error
