"""Single facts of an observed host, by name: what a change was planned against, checked again before it runs.

A fact is a short text, "" for absent. Plan and re-check use this same function, on an old and a fresh reading.
"""

from __future__ import annotations

from state.files import digest
from state.links import GUEST_GROUP, LLDP_GROUP
from state.observed import Observed, interfaces


def fact(observed: Observed, key: str) -> str:
    """The value of one fact.

    | key | value |
    |---|---|
    | `domain:UUID` | `DOMID`, with ` shutdown REASON` or ` dying` behind it |
    | `name:NAME` | uuid of the living domain of that name |
    | `memory:UUID`, `vcpus:UUID` | live target in MiB, live count |
    | `staged:UUID` | digest of the configuration staged for the next guest reboot |
    | `vif:UUID:INDEX` | `MAC BRIDGE PORT RATE` as the backend has it |
    | `port:NAME` | `BRIDGE locked=B learning=B lldp=B group=B FDB`, lldp whether it forwards that group, group whether it is marked as a guest's, FDB the static MACs |
    | `file:PATH` | digest of the text |
    | `image:PATH` | `DEVICE:INODE SIZE` |
    | `guard` | digest of all that is loaded of ours, elements and rules |

    Raises:
        KeyError: the key is none of these, or was not asked for when the host was observed.
    """
    kind, _, rest = key.partition(":")
    match kind:
        case "domain" | "memory" | "vcpus" | "staged":
            return _of_domain(observed, kind, rest)
        case "name":
            holder = observed.by_name.get(rest)
            return "" if holder is None else holder.uuid
        case "vif":
            return _of_vif(observed, rest)
        case "port":
            return _of_port(observed, rest)
        case "file":
            return digest(observed.files[rest])
        case "image":
            found = observed.images[rest]
            return "" if found is None else f"{found.identity} {found.size_bytes}"
        case "guard":
            loaded = [each for each in (observed.guard, observed.beside) if each is not None]
            return digest(repr(loaded)) if loaded else ""
        case _:
            raise KeyError(key)


def _of_domain(observed: Observed, kind: str, uuid: str) -> str:
    domain = observed.by_uuid.get(uuid)
    if domain is None:
        return ""
    match kind:
        case "domain":
            ending = " dying" if domain.dying else f" shutdown {domain.shutdown}" if domain.shutdown else ""
            return f"{domain.domid}{ending}"
        case "staged":
            return digest(domain.staged)
        case "memory":
            return "" if domain.saved is None else str(domain.saved.memory_mib)
        case _:
            return "" if domain.saved is None else str(domain.saved.vcpus)


def _of_vif(observed: Observed, place: str) -> str:
    uuid, _, index = place.rpartition(":")
    domain = observed.by_uuid.get(uuid)
    vif = next((vif for vif in domain.vifs if vif.index == int(index)), None) if domain is not None else None
    if vif is None:
        return ""
    rate = "-" if vif.rate is None else f"{vif.rate[0]}/{vif.rate[1]}"
    return f"{vif.mac} {vif.bridge} {vif.interface} {rate}"


def _of_port(observed: Observed, name: str) -> str:
    port = observed.ports.get(name)
    if port is None:
        return ""
    entries = ",".join(sorted(observed.pinned.get(name, ())))
    link = observed.links.get(name)
    lldp = link is not None and bool(link.group_fwd_mask & 1 << LLDP_GROUP)
    marked = link is not None and link.group == str(GUEST_GROUP)
    return f"{port.bridge} locked={port.locked} learning={port.learning} lldp={lldp} group={marked} {entries}"


def ports_of(observed: Observed, bridge: str) -> tuple[str, ...]:
    """The names of a bridge's ports, sorted."""
    return tuple(sorted(name for name, port in observed.ports.items() if port.bridge == bridge))


def vif_ports(observed: Observed) -> frozenset[str]:
    """The ports that belong to a vif of some living domain, emulated twins of HVM guests included."""
    names = interfaces(observed.domains)
    return frozenset(names) | {f"{name}-emu" for name in names}


def own_interfaces(observed: Observed) -> frozenset[str]:
    """The interfaces that are dom0's own: no domain has them as a vif, or as the emulated twin of one, not even a dying one."""
    vifs = {vif.interface for domain in observed.domains for vif in domain.vifs}
    return frozenset(observed.links.keys() - vifs - {f"{name}-emu" for name in vifs})
