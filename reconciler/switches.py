"""The switches that say whether a bridge hands its frames to iptables: read for every judgement, set for one backend alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.foreign.path import Called
from reconciler.guard.backend import Calls
from reconciler.guard.binding import Step
from state.desired import Host

_FAMILIES = ("ip6tables", "iptables")
_MODULE = "br_netfilter"
HOST_SWITCH = "/proc/sys/net/bridge/bridge-nf-call-iptables"


def switches(host: Host) -> tuple[str, ...]:
    """The files that say whether bridged frames pass iptables, for the host and for each managed bridge."""
    return tuple(
        path
        for family in _FAMILIES
        for path in (_global_switch(family), *(_own_switch(bridge, family) for bridge, _ in host.bridges))
    )


def _global_switch(family: str) -> str:
    return f"/proc/sys/net/bridge/bridge-nf-call-{family}"


def _own_switch(bridge: str, family: str) -> str:
    return f"/sys/class/net/{bridge}/bridge/nf_call_{family}"


def called(host: Host, files: Mapping[str, str | None]) -> Mapping[str, Called]:
    """What br_netfilter hands over, by bridge: where the whole host or the bridge says so."""

    def on(bridge: str, family: str) -> bool:
        # Without br_netfilter the bridge's own files are there all the same, and nobody asks for them.
        paths = _global_switch(family), _own_switch(bridge, family)
        return any((files.get(path) or "").strip() not in {"", "0"} for path in paths)

    return {
        bridge: Called(ip=on(bridge, "iptables"), ip6=on(bridge, "ip6tables")) for bridge, _ in host.bridges
    }


def uncalled(host: Host, files: Mapping[str, str | None]) -> Iterator[str]:
    """What keeps bridged frames from iptables: the module that is not there, or a bridge's own switch.

    The bridge's own, and not the host's, of which other programs think that it is theirs. A bridge that does not exist
    has no switches, and no frames.
    """
    if any(files.get(_global_switch(family)) is None for family in _FAMILIES):
        yield _MODULE
    for bridge, _ in host.bridges:
        for family in _FAMILIES:
            if (files.get(_own_switch(bridge, family)) or "1").strip() == "0":
                yield f"{bridge} nf_call_{family}"


def set_calls(host: Host, files: Mapping[str, str | None]) -> Calls:
    """The commands that have every managed bridge hand its frames over."""
    off = [*uncalled(host, files)]
    modules = (Step(("modprobe", _MODULE)),) if _MODULE in off else ()
    pairs = [what.split(" ") for what in off if what != _MODULE]
    return Calls(
        on=(*modules, *(_set(bridge, switch, "1") for bridge, switch in pairs)),
        off=tuple(_set(bridge, switch, "0") for bridge, switch in pairs),
    )


def _set(bridge: str, switch: str, value: str) -> Step:
    return Step(("ip", "link", "set", "dev", bridge, "type", "bridge", switch, value))
