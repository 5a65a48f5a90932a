"""The dom0 in memory: keeps its state, answers commands as the real tools do, refuses what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from state.files import USERDATA
from state.links import INTERFACES
from state.run import Completed, NotInstalledError
from tests.model.answer import Answer, Refused, unknown
from tests.model.files import FileSystem
from tests.model.hotplug import Hotplug
from tests.model.links import Links
from tests.model.nft import Nftables
from tests.model.toolstack import Toolstack
from tests.model.xenstore import Xenstore
from tests.model.xl import Xl

BRIDGES: Mapping[str, str] = {"xenbr0": "eth0", "xenbr1": "eth1"}
KERNELS = ("/srv/xen/vmlinuz", "/srv/xen/vmlinuz-2", "/srv/xen/initrd.img", "/srv/xen/cd.iso")
_UPLINK_MAC = "00:16:3e:00:39:02"
_READS: tuple[tuple[str, ...], ...] = (
    ("unshare", "--net", "sh"),
    ("xl", "list"),
    ("xl", "vm-list"),
    ("xl", "info"),
    ("xenstore-ls",),
    ("xenstore-list",),
    ("ip", "-j"),
    ("ip", "-4"),
    ("ip", "-6"),
    ("bridge", "-j"),
    ("nft", "-s"),
    ("nft", "-c"),
    ("nft", "list"),
    ("iptables-legacy-save",),
    ("tc", "-j"),
)


def changes_something(argv: Sequence[str]) -> bool:
    """Whether a command is more than a look."""
    return not any(tuple(argv[: len(each)]) == each for each in _READS)


@dataclass(slots=True)
class Host:
    """Implements `state.run.Runner`. Its parts are there to be looked at, and for people and guests to act on.

    `gateways` says behind which port of a bridge the gateway is; `firewall` is what iptables-legacy has.
    """

    files: FileSystem
    links: Links
    nftables: Nftables
    toolstack: Toolstack
    xl: Xl
    xenstore: Xenstore
    gateways: dict[str, str] = field(default_factory=lambda: dict(BRIDGES))
    firewall: str = ""

    def load_firewall(self, rules: str) -> None:
        """Rules of somebody else, which see bridged frames; "" for none."""
        self.firewall = rules
        self.files.texts |= {
            "/proc/net/ip_tables_names": "filter\n" if rules else "",
            "/proc/sys/net/bridge/bridge-nf-call-iptables": "1\n" if rules else "0\n",
        }

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        del timeout_s, environment
        try:
            answer = self._answer(argv[0], argv[1:], stdin)
        except Refused as refused:
            answer = refused.answer
        return Completed(tuple(argv), answer.rc, answer.stdout, answer.stderr, 0, 0.0)

    def _answer(self, tool: str, arguments: Sequence[str], stdin: str) -> Answer:
        match tool:
            case "xl":
                return self.xl.xl(arguments)
            case "xenstore-ls" | "xenstore-list" | "xenstore-write" | "xenstore-rm":
                return self.xenstore.run(tool, arguments)
            case "ip":
                return self.links.ip(arguments)
            case "bridge":
                return self.links.bridge(arguments)
            case "nft":
                return self.nftables.nft(arguments, stdin)
            case "iptables-legacy-save" if not arguments:
                return Answer(self.firewall)
            case "unshare" if [*arguments] == ["--net", "sh"]:
                return self._try_out(stdin)
            case "tc" | "iptables":
                raise NotInstalledError(f"{tool}: No such file or directory")
            case _:
                raise unknown(tool, arguments)

    def _try_out(self, program: str) -> Answer:
        """A network namespace of its own, and a shell that gives nft a script."""
        match = re.fullmatch(r"nft -f - <<'DOMGIT' \|\| exit 1\n(.*)DOMGIT\n", program, re.DOTALL)
        if match is None:
            raise unknown("sh", [program])
        return Nftables(self.nftables.ibrname).nft(["-f", "-"], match[1])


def make_host(secrets: Callable[[str], str] = str) -> Host:
    """A dom0 as it was installed: bridges with their uplinks, kernels, no domain, no rule."""
    files, links, nftables = FileSystem(secrets=secrets), Links(), Nftables()
    toolstack = Toolstack(files, links, Hotplug(files, links, nftables))
    files.loops, files.create_processes = toolstack.loops, toolstack.monitors
    files.made_by_others = {INTERFACES: links.names, USERDATA: toolstack.kept}
    files.texts["/etc/machine-id"] = "0123456789abcdef0123456789abcdef\n"
    files.texts |= dict.fromkeys(KERNELS, "any non-empty file is a kernel here\n")
    links.add("lo", mac="00:00:00:00:00:00").up = True
    for bridge, uplink in BRIDGES.items():
        links.add(bridge, mac=_UPLINK_MAC, kind="bridge").up = True
        links.enslave(links.add(uplink, mac=_UPLINK_MAC), bridge)
        links.by_name[uplink].up = True
    return Host(files, links, nftables, toolstack, Xl(toolstack, files), Xenstore(toolstack))
