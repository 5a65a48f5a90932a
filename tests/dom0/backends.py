"""The driver domain's half of a PV device: netback, blkback and xenconsoled, as Linux plays them in xenstore.

Level-triggered: each `look` reads the state that xenstore has now and does what is due; twice is harmless.

Source: Linux drivers/net/xen-netback/xenbus.c, drivers/block/xen-blkback/xenbus.c; tools/console/daemon/io.c.
"""

import logging
import os
import pty
import socket
import tty
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.dom0.loops import hold
from tests.dom0.network import NetworkError, ip_batch
from tests.dom0.xenstore import Xenstore

log = logging.getLogger("players")

INITIALISING, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED = "1", "2", "3", "4", "5", "6"
BACKEND = "/local/domain/0/backend"
LOOP_MAJOR_HEX = "7"
# What netback says of itself in the backend's folder, in this order, before it waits for the frontend.
FEATURES = {
    "feature-sg": "1",
    "feature-gso-tcpv4": "1",
    "feature-gso-tcpv6": "1",
    "feature-ipv6-csum-offload": "1",
    "feature-rx-copy": "1",
    "feature-xdp-headroom": "1",
    "feature-rx-flip": "0",
    "feature-multicast-control": "1",
    "feature-dynamic-multicast-control": "1",
    "feature-split-event-channels": "1",
    "multi-queue-max-queues": "8",
    "feature-ctrl-ring": "1",
}

Key = tuple[int, int]  # domid, device id


@dataclass(slots=True)
class Vif:
    """A veth pair: `index` is dom0's end, whatever scripts name it; `peer` is the end in the guest's namespace."""

    key: Key
    frontend: str
    namespace: str
    peer: str
    index: int
    connected: bool = False


class Netback:
    """Makes and removes the network interfaces of guests."""

    def __init__(self, xenstore: Xenstore, namespace_of: Callable[[int], str]) -> None:
        self._xenstore = xenstore
        self._namespace_of = namespace_of
        self.vifs: dict[Key, Vif] = {}

    def look(self, key: Key) -> None:
        """Brings one vif to where it should be."""
        base = f"{BACKEND}/vif/{key[0]}/{key[1]}"
        state = self._xenstore.read(f"{base}/state")
        vif = self.vifs.get(key)
        if state is None:
            self.remove(key)
        elif state == INITIALISING and vif is None:
            self._create(key, base)
        elif state == INIT_WAIT and vif is not None and vif.connected:
            # netback passes frames as soon as the frontend is connected, but says so only after the script
            if self._xenstore.read(f"{base}/hotplug-status") == "connected":
                self._xenstore.write(f"{base}/state", CONNECTED)
        elif state == CLOSING:
            frontend = self._xenstore.read(f"{base}/frontend")
            self.remove(key)
            if frontend and self._xenstore.read(f"{frontend}/state") is not None:
                self._xenstore.write(f"{frontend}/state", CLOSED)
            self._xenstore.write(f"{base}/state", CLOSED)

    def _create(self, key: Key, base: str) -> None:
        frontend = self._xenstore.read(f"{base}/frontend")
        mac = self._xenstore.read(f"{frontend}/mac")
        if not frontend or not mac:
            return
        name, peer, namespace = f"vif{key[0]}.{key[1]}", f"x{key[0]}.{key[1]}", self._namespace_of(key[0])
        ip_batch(
            [
                f"link add {name} address fe:ff:ff:ff:ff:ff type veth peer name {peer} address {mac} netns {namespace}"
            ]
        )
        self.vifs[key] = Vif(key, frontend, namespace, peer, socket.if_nametoindex(name))
        for feature, value in FEATURES.items():
            self._xenstore.write(f"{base}/{feature}", value)
        self._xenstore.write(f"{base}/state", INIT_WAIT)
        log.info("vif created", extra={"vif": name, "mac": mac, "namespace": namespace})

    def remove(self, key: Key) -> None:
        """Takes the interface away, under whatever name it has now."""
        vif = self.vifs.pop(key, None)
        if vif is None:
            return
        try:
            name = socket.if_indextoname(vif.index)
            ip_batch([f"link delete dev {name}"])
        except (OSError, NetworkError) as exc:
            log.info("vif was gone already", extra={"vif": key, "reason": str(exc)})
        else:
            log.info("vif removed", extra={"vif": name})


@dataclass(slots=True)
class Blkback:
    """Connects virtual disks; holds their loop devices as the kernel's blkback does."""

    xenstore: Xenstore
    booted: Callable[[int], bool]
    held: dict[Key, int] = field(default_factory=dict)

    def look(self, key: Key) -> None:
        """Brings one disk to where it should be."""
        base = f"{BACKEND}/vbd/{key[0]}/{key[1]}"
        state = self.xenstore.read(f"{base}/state")
        if state is None:
            self.release(key)
            return
        frontend = self.xenstore.read(f"{base}/frontend")
        if state == INITIALISING:
            self.xenstore.write(f"{base}/state", INIT_WAIT)
        elif state == INIT_WAIT:
            self._take_device(key, base)
            if frontend and key in self.held and self.booted(key[0]):
                self.xenstore.write(f"{frontend}/state", CONNECTED)
                self.xenstore.write(f"{base}/state", CONNECTED)
        elif state == CLOSING:
            if frontend and self.xenstore.read(f"{frontend}/state") is not None:
                self.xenstore.write(f"{frontend}/state", CLOSED)
            self.xenstore.write(f"{base}/state", CLOSED)

    def _take_device(self, key: Key, base: str) -> None:
        device = self.xenstore.read(f"{base}/physical-device-path")
        if device is None or key in self.held:
            return
        number = self.xenstore.read(f"{base}/physical-device") or ""
        is_loop = number.split(":")[0] == LOOP_MAJOR_HEX
        self.held[key] = hold(device) if is_loop else os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        log.info("disk taken", extra={"disk": key, "device": device})

    def release(self, key: Key) -> None:
        """Lets the disk's device go; called when its entry is gone, after the script's `losetup -d`."""
        descriptor = self.held.pop(key, None)
        if descriptor is not None:
            os.close(descriptor)
            log.info("disk released", extra={"disk": key})


@dataclass(slots=True)
class Console:
    """xenconsoled: a pty for each guest. What is typed into it is read and forgotten; the guest writes lines."""

    xenstore: Xenstore
    ptys: dict[int, tuple[int, int]] = field(default_factory=dict)

    def look(self, domid: int) -> None:
        """Gives the guest its pty once the toolstack has set up the ring."""
        base = f"/local/domain/{domid}/console"
        if domid in self.ptys or self.xenstore.read(f"{base}/port") is None:
            return
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        # our own copy of the slave stays open: without any, the master reports a hangup for ever
        self.ptys[domid] = (ours, theirs)
        self.xenstore.write(f"{base}/tty", os.ttyname(theirs))

    def write(self, domid: int, line: str) -> None:
        """One line on the guest's console; lost if nobody has read the ones before."""
        if domid in self.ptys:
            try:
                os.write(self.ptys[domid][0], line.encode() + b"\r\n")
            except BlockingIOError:
                log.info("console is full", extra={"domid": domid})

    def close(self, domid: int) -> None:
        """Takes the pty away."""
        for descriptor in self.ptys.pop(domid, ()):
            os.close(descriptor)
