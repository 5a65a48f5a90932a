"""The simulated dom0's network: xenbr0 with uplink eth0, whose other end is the gateway in namespace `outside`."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.dom0 import Dom0Error, kernel

OUTSIDE = "outside"
DOM0_ADDRESSES = ("172.16.39.2/24", "2001:db8:39::2/64")
GATEWAY_ADDRESSES = ("172.16.39.1/24", "2001:db8:39::1/64")
UPLINK_MAC = (
    "00:16:3e:00:39:02"  # fixed: a bridge takes the lowest MAC of its ports, vifs have fe:ff:ff:ff:ff:ff
)
GATEWAY_MAC = "00:16:3e:00:39:01"


class NetworkError(Dom0Error):
    """`ip` refused; the message is its last line."""


def ip_batch(lines: Sequence[str], namespace: str | None = None) -> None:
    """Runs `ip` commands in one process, in order, up to the first that fails.

    Raises:
        NetworkError: one was refused.
    """
    argv = ["ip", *(["-netns", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if not line.startswith("Command failed")]
        raise NetworkError(f"ip: {'; '.join(errors)}: {lines}")


def quiet_ipv6() -> None:
    """Addresses usable at once in the calling network namespace: no duplicate address detection to wait for."""
    for scope in ("all", "default"):
        settings = Path("/proc/sys/net/ipv6/conf") / scope
        if settings.is_dir():
            (settings / "accept_dad").write_text("0")
            (settings / "dad_transmits").write_text("0")


def add_namespace(name: str) -> None:
    """A named network namespace with loopback up and no waiting for IPv6; there already is fine."""
    if Path("/run/netns", name).exists():
        return
    ip_batch([f"netns add {name}"])
    with kernel.network_namespace(name):
        quiet_ipv6()
    ip_batch(["link set lo up"], name)


def build(*, bridge: bool) -> None:
    """The whole network of a dom0 without guests.

    Raises:
        NetworkError: the kernel lacks veth or bridges.
    """
    quiet_ipv6()
    add_namespace(OUTSIDE)
    holder = "xenbr0" if bridge else "eth0"
    lines = [
        "link set lo up",
        f"link add eth0 address {UPLINK_MAC} type veth peer name eth0 address {GATEWAY_MAC} netns {OUTSIDE}",
    ]
    if bridge:
        lines += [
            "link add xenbr0 type bridge stp_state 0 forward_delay 0",
            "link set eth0 master xenbr0",
            "link set xenbr0 up",
        ]
    lines += ["link set eth0 up", *(f"address add {address} dev {holder}" for address in DOM0_ADDRESSES)]
    lines += [f"route add default via {address.split('/')[0]}" for address in GATEWAY_ADDRESSES[:1]]
    ip_batch(lines)
    ip_batch(
        ["link set eth0 up", *(f"address add {address} dev eth0" for address in GATEWAY_ADDRESSES)], OUTSIDE
    )
    ip_batch(["route add default via 2001:db8:39::1"])
