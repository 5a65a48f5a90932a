"""What the hotplug scripts do, on the dom0 in memory: the stock one, and ours, which fails closed."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler import hotplug
from state.links import GUEST_GROUP
from tests.model.answer import Refused
from tests.model.domain import SCRIPTS, Domain, Nic
from tests.model.files import FileSystem
from tests.model.links import Links
from tests.model.nft import Nftables

TEMPLATES = "/var/lib/domgit/vifs"


@dataclass(slots=True)
class Hotplug:
    """Runs scripts by their path; one whose text is not known does nothing and ends well."""

    files: FileSystem
    links: Links
    nftables: Nftables

    def online(self, domain: Domain, index: int) -> None:
        """Bring up one vif.

        Raises:
            Refused: the script failed; what it says is in xenstore.
        """
        nic = domain.nics[index]
        try:
            done = self._run(domain, index, nic)
        except Refused as refused:
            nic.status, nic.error = "error", str(refused)
            raise
        if done:
            nic.status = "connected"

    def _run(self, domain: Domain, index: int, nic: Nic) -> bool:
        """Whether the script has connected the vif; one that we do not know leaves it as it is."""
        if nic.script == f"{SCRIPTS}/vif-bridge":
            self._stock(nic)
            return True
        if nic.script not in self.files.texts:
            raise Refused(f"{nic.script} online exited with error status 255")
        if self.files.texts[nic.script] != hotplug.script():
            return False
        self._guarded(domain, index, nic)
        return True

    def offline(self, nic: Nic) -> None:
        """The port goes with its vif, whatever the script does."""
        if nic.interface is not None and nic.interface in self.links.by_name:
            self.links.remove(nic.interface)
        nic.interface = None

    def _rename(self, nic: Nic) -> str:
        wanted, now = nic.config.ifname or nic.interface, nic.interface
        if wanted is None or now is None:
            raise AssertionError("a vif without an interface comes up")
        if wanted != now:
            if wanted in self.links.by_name:
                raise Refused(f"an interface called {wanted} exists already")
            self.links.rename(now, wanted)
            nic.interface = wanted
        return wanted

    def _stock(self, nic: Nic) -> None:
        if not self.links.is_bridge(nic.config.bridge):
            raise Refused(f"Could not find bridge device {nic.config.bridge}")
        link = self.links.by_name[self._rename(nic)]
        self.links.enslave(link, nic.config.bridge)
        link.up = True
        self.links.learn(link.name, nic.config.mac)

    def _guarded(self, domain: Domain, index: int, nic: Nic) -> None:
        if not self.links.is_bridge(nic.config.bridge):
            raise Refused(f"no bridge {nic.config.bridge}")
        name, mac = self._rename(nic), nic.config.mac
        link = self.links.by_name[name]
        link.up = False
        if not self._bound(name, mac):
            if not nic.config.ifname:
                self._bind_unnamed(domain.uuid, index, name)
            if not self._bound(name, mac):
                raise Refused(f"the guard has no binding for {name} with {mac}")
        self.links.enslave(link, nic.config.bridge)
        if f'"{name}"' not in self.nftables.elements("audited"):
            link.learning, link.locked, link.group_fwd_mask = False, True, 1 << 0x0E
            link.group = str(GUEST_GROUP)
            self.links.pin(name, mac)
        link.up = True
        self.links.learn(name, mac)

    def _bound(self, name: str, mac: str) -> bool:
        return self.nftables.verdict(
            name
        ) == "goto from_guest" and f'"{name}" . {mac}' in self.nftables.elements("own_mac")

    def _bind_unnamed(self, uuid: str, index: int, name: str) -> None:
        template = self.files.texts.get(f"{TEMPLATES}/{uuid}.{index}.nft")
        # Left-overs of another domain that had this name: never add to somebody else's grant.
        if template is None or self.nftables.verdict(name):
            return
        try:
            self.nftables.nft(["-f", "-"], template.replace("@PORT@", name))
        except Refused:
            return
