"""`xl` in memory: arguments read, results printed as Xen 4.17 prints them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.model.answer import Answer, Refused, unknown
from tests.model.domain import Domain, listed
from tests.model.files import FileSystem
from tests.model.toolstack import Toolstack
from tests.model.xl_config import DomainConfig, parse_config, parse_nic

_REASON = {None: "-", "poweroff": "-", "reboot": "r", "crash": "c"}
_PCPUS = 8
_ON_A_DOMAIN = frozenset(
    {
        "rename",
        "shutdown",
        "destroy",
        "mem-set",
        "vcpu-set",
        "network-attach",
        "network-detach",
        "config-update",
    }
)
_ZERO = "00000000-0000-0000-0000-000000000000"


@dataclass(slots=True)
class Xl:
    """The command line over one toolstack."""

    toolstack: Toolstack
    files: FileSystem

    def xl(self, arguments: Sequence[str]) -> Answer:
        """`xl ARGUMENTS`: the commands that domgit and its tests use."""
        match list(arguments):
            case ["create", "-q", "-f", path]:
                self.toolstack.create(self._config(path), path)
                return Answer()
            case ["list", "--long", domid]:
                return Answer(self._listed_long(int(domid)))
            case ["vcpu-set", "-i", domid, count]:
                self._vcpu_set(domid, int(count), insists=True)
                return Answer()
            case [verb, domid, *rest] if verb in _ON_A_DOMAIN:
                self._act(verb, domid, rest)
                return Answer()
        reads = {
            ("list",): self._list,
            ("vm-list",): self._vm_list,
            ("list", "--long"): self._list_long,
            ("info",): self._info,
        }
        if tuple(arguments) not in reads:
            raise unknown("xl", arguments)
        return Answer(reads[tuple(arguments)]())

    def _act(self, verb: str, domid: str, rest: list[str]) -> None:
        match verb, rest:
            case "rename", [name]:
                self._rename(domid, name)
            case "shutdown", []:
                self.toolstack.ask_to_shut_down(self._domain(domid, "shutdown failed (rc=-3)"))
            case "destroy", []:
                self.toolstack.destroy(self._domain(domid, "destroy failed (rc=-21)"))
            case "mem-set", [mib]:
                self._mem_set(domid, int(mib))
            case "vcpu-set", [count]:
                self._vcpu_set(domid, int(count))
            case "network-attach", parts:
                self._attach(domid, parts)
            case "network-detach", [index]:
                self._detach(domid, int(index))
            case "config-update", [path]:
                self._config_update(domid, path)
            case _:
                raise unknown("xl", [verb, domid, *rest])

    # ---- what it reads ----

    def _list(self) -> str:
        rows = [_row("Domain-0", 0, 1024, _PCPUS, "r-----")]
        rows += [
            _row(each.name, each.domid, each.memory_mib, each.vcpus, _state(each))
            for each in self._by_domid()
        ]
        return "Name                                        ID   Mem VCPUs\tState\tTime(s)\n" + "".join(rows)

    def _vm_list(self) -> str:
        rows = [(_ZERO, 0, "Domain-0"), *((each.uuid, each.domid, each.name) for each in self._by_domid())]
        return "UUID                                  ID    name\n" + "".join(
            f"{uuid}  {domid}    {name:30}\n" for uuid, domid, name in rows
        )

    def _list_long(self) -> str:
        dom0 = {
            "domid": 0,
            "config": {"c_info": {"type": "pv", "name": "Domain-0"}, "b_info": {"type.pv": {}}},
        }
        known = [listed(each) for each in self._by_domid() if not each.dying and not each.half]
        return json.dumps([dom0, *known]) + "\n"  # the real one indents, which the C encoder cannot

    def _listed_long(self, domid: int) -> str:
        domain = self.toolstack.domains.get(domid)
        if domain is None:
            raise Refused(f"Error: Domain '{domid}' does not exist.")
        return json.dumps([] if domain.dying or domain.half else [listed(domain)]) + "\n"

    def _info(self) -> str:
        values: Mapping[str, object] = {
            "host": "dom0",
            "total_memory": self.toolstack.total_mib,
            "free_memory": self.toolstack.free_mib,
            "outstanding_claims": 0,
            "xen_version": "4.17.7",
        }
        return "".join(f"{key:23}: {value}\n" for key, value in values.items())

    def _by_domid(self) -> list[Domain]:
        return [domain for _, domain in sorted(self.toolstack.domains.items())]

    # ---- what it does ----

    def _config(self, path: str) -> DomainConfig:
        text = self.files.read_text(path)
        if text is None:
            raise Refused(f"Failed to read config file: {path}: No such file or directory", 3)
        return parse_config(text)

    def _domain(self, domid: str, message: str) -> Domain:
        """The living domain with that number; domgit names domains by nothing else."""
        if not domid.isdecimal():
            raise AssertionError(f"a name where a domid belongs: {domid}")
        domain = self.toolstack.living(int(domid))
        if domain is None:
            raise Refused(message)
        return domain

    def _rename(self, domid: str, name: str) -> None:
        domain = self._domain(domid, f"Can't rename domain '{domid}'.")
        if any(each.name == name and each is not domain for each in self.toolstack.domains.values()):
            raise Refused(f"Domain with name \"{name}\" already exists.\nCan't rename domain '{domid}'.")
        domain.name = name

    def _mem_set(self, domid: str, mib: int) -> None:
        refusal = f"cannot set domid {domid} dynamic max memory to : {mib}"
        domain = self._domain(domid, refusal)
        if mib > domain.config.max_memory_mib:
            raise Refused(f"memory_dynamic_max must be less than or equal to memory_static_max\n\n{refusal}")
        domain.memory_mib = mib

    def _vcpu_set(self, domid: str, count: int, *, insists: bool = False) -> None:
        domain = self._domain(domid, "Error: Domain does not exist.")
        if count > _PCPUS and not insists:
            raise Refused(f"You are overcommmitting! You have {_PCPUS} physical CPUs and want {count} vCPUs!")
        if count > domain.config.max_vcpus:
            raise Refused("libxl_set_vcpuonline failed")
        domain.vcpus = count

    def _attach(self, domid: str, parts: list[str]) -> None:
        domain = self._domain(domid, "libxl_device_nic_add failed.")
        devids = [int(part.removeprefix("devid=")) for part in parts if part.startswith("devid=")]
        nic = parse_nic([part for part in parts if not part.startswith("devid=")])
        self.toolstack.attach(domain, devids[0] if devids else None, nic)

    def _detach(self, domid: str, index: int) -> None:
        domain = self._domain(domid, f"Unknown device {index}.")
        if index not in domain.nics:
            raise Refused(f"Unknown device {index}.")
        self.toolstack.detach(domain, index)

    def _config_update(self, domid: str, path: str) -> None:
        domain = self._domain(domid, "failed to update configuration")
        self._config(path)
        self.files.texts[self.toolstack.staged_path(domain)] = self.files.texts[path]


def _row(name: str, domid: int, memory_mib: int, vcpus: int, state: str) -> str:
    return f"{name:40} {domid:5d} {memory_mib:5d} {vcpus:5d}     {state}  {0.0:8.1f}\n"


def _state(domain: Domain) -> str:
    if domain.dying or domain.half:
        return "--p--d" if domain.dying else "--p---"
    return "-b----" if domain.shutdown is None else f"---s{_REASON[domain.shutdown]}-"
