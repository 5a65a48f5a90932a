"""The demo, inside a simulated dom0: a commit becomes running, guarded VPSs. `--shell` leaves you in it."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.demo.frames import Case, Party, cases
from tests.dom0.guest import Guest
from tests.dom0.namespace import GATEWAY
from tests.dom0.network import GATEWAY_MAC, UPLINK_MAC

ROOT = Path(__file__).resolve().parents[2]
DOMGIT = Path(sys.executable).parent / "domgit"
REPOSITORY = Path("/srv/xen/repository")
KERNELS = (
    "vmlinuz",
    "initrd.img",
    "netbsd/netbsd-INSTALL_XEN3_DOMU.gz",
    "netbsd/netbsd-XEN3_DOMU.gz",
    "netbsd/NetBSD-6.0.1-amd64.iso",
    "freebsd/kernel",
    "freebsd/FreeBSD-14.1-RELEASE-amd64-disc1.iso",
)
HEARD_WITHIN_S = 0.15  # a frame crosses the bridge in microseconds; what has not come by then does not come
CAPTURED = 3  # enough to see what a capture looks like
BOLD, RED, GREEN, RESET = (
    ("\033[1m", "\033[31m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("", "", "", "")
)
VM01, VM02 = Party("00:16:3e:7c:1f:6e", "172.16.39.105"), Party("00:16:3e:7c:1f:6f", "172.16.39.106")
OUTSIDE = Party(GATEWAY_MAC, "172.16.39.1", "2001:db8:39::1")
DOM0 = Party(UPLINK_MAC, "172.16.39.2", "2001:db8:39::2")
NEW_ADDRESS = "172.16.39.110"
BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
OURS = "table bridge domgit"
BY_THE_PORT = 1  # of the forged frames, the one with another's MAC: the lock needs no rule

proofs: list[tuple[str, bool]] = []


def prove(claim: str, holds: bool) -> None:
    """Print a claim with its verdict, and keep it for the table at the end."""
    proofs.append((claim, holds))
    print(f"  {GREEN}✓{RESET} {claim}" if holds else f"  {RED}✗ {claim}{RESET}", flush=True)


def title(text: str) -> None:
    """A section's headline."""
    print(f"\n{BOLD}{text}{RESET}", flush=True)


def run(*argv: str | Path, code: int | None = 0, show: bool = True, keep: str = "") -> str:
    """Run a command, print it and what it says (lines starting with one of `keep` only, if given).

    Raises:
        SystemExit: it ended with another exit status than `code`.
    """
    words = [str(each) for each in argv]
    shown = " ".join(Path(words[0]).name if index == 0 else word for index, word in enumerate(words))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if show:
        print(f"  # {shown}", flush=True)
        lines = done.stdout.splitlines()
        for line in [
            line for line in lines if not keep or line.lstrip()[:1] in keep or line.startswith("Plan")
        ]:
            print(f"    {line}", flush=True)
    if code is not None and done.returncode != code:
        sys.exit(
            f"demo: {shown}: exit status {done.returncode} (expected {code})\n{done.stdout}{done.stderr}"
        )
    return done.stdout


class Ears:
    """Listens at the victim, behind the uplink and in dom0 at once, and writes down what it hears."""

    def __init__(self, victim: Guest) -> None:
        self.sockets = {
            "vm01": victim.packet_socket(),
            "gateway": GATEWAY.packet_socket(),
            "dom0": _dom0_socket(),
        }
        for each in self.sockets.values():
            each.setblocking(False)

    def hear(self, case: Case) -> Mapping[str, bytes]:
        """What each of them received of a frame within HEARD_WITHIN_S after it was sent; who heard nothing is not there."""
        deadline = time.monotonic() + HEARD_WITHIN_S
        heard: dict[str, bytes] = {}
        while time.monotonic() < deadline:
            for name, ear in self.sockets.items():
                try:
                    while True:
                        received = ear.recv(2048)
                        if _same(received, case.frame):
                            heard[name] = received
                except BlockingIOError:
                    continue
            time.sleep(0.005)
        return dict(sorted(heard.items()))

    def close(self) -> None:
        """Stop listening."""
        for each in self.sockets.values():
            each.close()


def _dom0_socket() -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    raw.bind(("xenbr0", 0))
    return raw


def _same(received: bytes, sent: bytes) -> bool:
    # A VLAN tag is taken off on the way to a socket: compare what is behind it.
    content = sent[18:] if sent[12:14] == b"\x81\x00" else sent[14:]
    return received[6:12] == sent[6:12] and content in received


def attack(headline: str, *, by: str, neighbour: Party = VM01, lost: int = 0) -> None:
    """Send every case from vm02 and say who heard it.

    `by`: what guards, "" for nothing; `lost`: of what nothing guards, how many the locked port stops all the same.
    """
    title(headline)
    ears, attacker = Ears(Guest("vm01")), Guest("vm02")
    received: list[tuple[str, bytes]] = []
    arrived: dict[bool, list[Case]] = {True: [], False: []}
    found = cases(VM02, neighbour, OUTSIDE, DOM0)
    with attacker.packet_socket() as raw:
        for case in found:
            # Honest frames first put the bridge's table right again after a stolen MAC.
            Guest("vm01").send(
                b"\xff" * 6 + bytes.fromhex(VM01.mac.replace(":", "")) + b"\x88\xb5" + bytes(46)
            )
            raw.send(case.frame)
            heard = ears.hear(case)
            if heard:
                arrived[case.forged].append(case)
                if case.forged or by:
                    received += [*heard.items()][:1]
            kind = "forged" if case.forged else "honest"
            print(
                f"    {kind}  {case.name:<36} {'heard by ' + ', '.join(heard) if heard else 'heard by nobody'}",
                flush=True,
            )
    ears.close()
    forged = [case for case in found if case.forged]
    honest = [case for case in found if not case.forged]
    capture(received[:CAPTURED], "all that arrived" if by else "forged frames that arrived")
    if by:
        prove(
            f"guarded by {by} {len(forged) - len(arrived[True])} of {len(forged)} forged frames are stopped",
            not arrived[True],
        )
        prove(
            f"and {len(arrived[False])} of {len(honest)} honest ones pass", len(arrived[False]) == len(honest)
        )
    else:
        prove(
            f"without {'its rules' if lost else 'the guard'} {len(arrived[True])} of {len(forged)} forged frames arrive",
            len(arrived[True]) == len(forged) - lost,
        )


def take_address(*, by: str, neighbour: Party = VM01) -> None:
    """The customer of vm02 gives himself vm01's address and asks the gateway, as anybody would try first."""
    attacker = Guest("vm02")
    print(f"  # guest vm02 address {neighbour.ip}/24; guest vm02 ping {OUTSIDE.ip}", flush=True)
    attacker.configure([f"{neighbour.ip}/24"], gateway=OUTSIDE.ip)
    answered = attacker.ping(OUTSIDE.ip, 0.5)
    attacker.configure([f"{VM02.ip}/24"], gateway=OUTSIDE.ip)
    honest = attacker.ping(OUTSIDE.ip)
    if by:
        prove(f"guarded by {by} vm02 cannot take vm01's address", not answered and honest)
    else:
        prove("without the guard vm02 takes vm01's address, and the gateway answers it", answered)


def capture(received: Sequence[tuple[str, bytes]], what: str) -> None:
    """Print received frames, with who received them, as tcpdump reads them."""
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for _, frame in received:
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
        file.flush()
        done = subprocess.run(
            ["tcpdump", "-t", "-e", "-nn", "-r", file.name], capture_output=True, text=True, check=False
        )
    print(f"    capture, {what}:")
    for (who, _), line in zip(received, done.stdout.splitlines(), strict=True):
        print(f"      {who:<8} {line[:150]}", flush=True)


def prepare() -> None:
    """Kernels that the simulated hypervisor takes, the example repository, and the host's configuration."""
    for name in KERNELS:
        path = Path("/srv/xen") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a kernel, as far as the simulated hypervisor is concerned\n")
    Path("/srv/xen/images").mkdir(exist_ok=True)
    shutil.copytree(ROOT / "examples", REPOSITORY)
    for argv in (
        ["init", "-q", "-b", "main"],
        ["config", "user.name", "Provider"],
        ["config", "user.email", "noc@example.net"],
    ):
        subprocess.run(["git", *argv], cwd=REPOSITORY, check=True)
    Path("/etc/domgit/domgit.toml").write_text(
        f'host = "dom0-a"\n\n[repo]\nurl = "{REPOSITORY}"\nbranch = "main"\n'
    )


def commit(message: str) -> None:
    """Commit everything in the repository."""
    subprocess.run(["git", "add", "--all"], cwd=REPOSITORY, check=True)
    subprocess.run(["git", "commit", "-q", "-m", message], cwd=REPOSITORY, check=True)
    print(f"  # git commit -m {message!r}", flush=True)


def by_hand() -> None:
    """Two VPSs as they are made without domgit, with Xen's own script."""
    title("1. A dom0 as it is today: two VPSs made by hand, `ip=` in the vif line, Debian's vif-bridge")
    run("xl", "list")
    for name, party in (("vm01", VM01), ("vm02", VM02)):
        path = Path(f"/etc/xen/{name}-by-hand.cfg")
        path.write_text(
            f'name = "{name}"\nmemory = 128\nkernel = "/srv/xen/vmlinuz"\n'
            f'vif = [ "vifname={name},mac={party.mac},ip={party.ip},bridge=xenbr0" ]\n'
        )
        run("xl", "create", "-q", "-f", path, show=False)
        Guest(name).wait_booted()
    run("xl", "list")


def from_git() -> None:
    """The same two and three more from the example repository."""
    title("3. The same VPSs, and three more, from a git repository")
    for name in ("vm01", "vm02"):
        run("xl", "destroy", name, show=False)
        Path(f"/etc/xen/{name}-by-hand.cfg").unlink()
    commit("five VPSs for dom0-a")
    run(DOMGIT, "validate", REPOSITORY)
    run(DOMGIT, "plan", keep="+~-^!=")
    run(DOMGIT, "apply", "--yes", keep="oFC")
    run("xl", "list")
    for name in ("vm01", "vm02"):
        Guest(name).wait_booted()
    again = run(DOMGIT, "plan", "--detailed-exitcode")
    prove("one apply makes the host what the commit says; the plan after it is empty", "No changes." in again)


def change() -> None:
    """vm01 gets another address, live."""
    title("5. A commit gives vm01 another address")
    file = REPOSITORY / "hosts/dom0-a/domus/vm01.yaml"
    file.write_text(file.read_text().replace(VM01.ip, NEW_ADDRESS))
    commit(f"vm01 moves to {NEW_ADDRESS}")
    before = subprocess.run(["xl", "domid", "vm01"], capture_output=True, text=True, check=True).stdout
    run(DOMGIT, "plan")
    run(DOMGIT, "apply", "--yes", show=False)
    guest = Guest("vm01")
    prove("the old address no longer works", not guest.ping(OUTSIDE.ip, 0.5))
    guest.configure([f"{NEW_ADDRESS}/24"], gateway=OUTSIDE.ip)
    prove("the new address works", guest.ping(OUTSIDE.ip))
    after = subprocess.run(["xl", "domid", "vm01"], capture_output=True, text=True, check=True).stdout
    prove("the guest was not restarted for it", before == after)


def flush() -> None:
    """Somebody flushes every rule."""
    title("6. Somebody runs `nft flush ruleset`")
    run("nft", "flush", "ruleset")
    stolen = next(case for case in cases(VM02, VM01, OUTSIDE, DOM0) if case.name == "neighbour's MAC")
    ears = Ears(Guest("vm01"))
    Guest("vm02").send(stolen.frame)
    prove("the bridge port itself still stops a stolen MAC", not ears.hear(stolen))
    ears.close()
    run(DOMGIT, "drift", code=2, keep="~+")
    prove("drift sees it (exit status 2)", holds=True)
    run(DOMGIT, "run", "--once", keep="C")
    run(DOMGIT, "drift")
    prove("one pass heals it", holds=True)


def in_iptables() -> None:
    """The same bindings, held by iptables, ip6tables and ebtables: switched by a commit, attacked with and without its rules."""
    title("7. A commit takes the guard from nftables to iptables, for a host that lives in iptables")
    if not BRIDGED.exists():
        print(f"  not shown: this kernel has no br_netfilter ({BRIDGED} is not there)", flush=True)
        return
    moved = Party(VM01.mac, NEW_ADDRESS)
    file = REPOSITORY / "hosts/dom0-a/host.yaml"
    file.write_text(file.read_text().replace("  guard:\n", "  guard:\n    backend: iptables\n"))
    commit("the guard lives in iptables")
    run(DOMGIT, "plan")
    run(DOMGIT, "apply", "--yes", keep="oC")
    tables = run("nft", "list", "tables", show=False)
    empty = "No changes." in run(DOMGIT, "plan", "--detailed-exitcode")
    prove("one commit moves the guard, and the plan after it is empty", empty and OURS not in tables)
    run("iptables", "-t", "raw", "-F")
    run("ip6tables", "-t", "raw", "-F")
    run("ebtables-nft", "-t", "nat", "-F")
    attack("8. Somebody has flushed it, and vm02 tries again", by="", neighbour=moved, lost=BY_THE_PORT)
    run(DOMGIT, "run", "--once", keep="C")
    attack("9. A pass has brought it back, and vm02 tries again", by="iptables", neighbour=moved)
    take_address(by="iptables", neighbour=moved)


def verdict(started: float) -> int:
    """The table of what was proved; exit status 1 if anything was not."""
    title("What was proved")
    for claim, holds in proofs:
        print(f"  {'proved    ' if holds else 'NOT PROVED'}  {claim}")
    failed = sum(not holds for _, holds in proofs)
    print("\nNothing is left behind; `make shell` lets you try to break it.")
    print(f"{len(proofs) - failed} passed, {failed} failed ({time.monotonic() - started:.0f} s).")
    return 1 if failed else 0


def demo() -> int:
    """The whole story."""
    started = time.monotonic()
    prepare()
    by_hand()
    attack("2. vm02 tries to be somebody else", by="")
    take_address(by="")
    from_git()
    attack("4. vm02 tries again", by="nftables")
    take_address(by="nftables")
    change()
    flush()
    in_iptables()
    title("10. Everything is on record")
    run(DOMGIT, "history")
    return verdict(started)


def shell() -> int:
    """A shell in this dom0, with two guests running from the repository."""
    prepare()
    for name in ("netbsd", "freebsd", "mail"):
        (REPOSITORY / f"hosts/dom0-a/domus/{name}.yaml").unlink()
    commit("two VPSs for dom0-a")
    run(DOMGIT, "apply", "--yes", show=False)
    print(
        f"\nThis is a simulated dom0. The repository is {REPOSITORY}; `domgit plan` reads it.\n"
        "Try: xl list · domgit status · guest vm02 sh (you are its root now: be vm01, be the gateway) ·\n"
        "edit hosts/dom0-a/domus/vm01.yaml, git commit, domgit plan, domgit apply · nft flush ruleset, domgit drift.\n"
        "Frames that are dropped are counted here, and not logged: the kernel logs for the machine alone.\n"
        "`exit` leaves nothing behind.\n",
        flush=True,
    )
    path = f"{DOMGIT.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PS1": "dom0:\\w# ", "HISTFILE": ""}
    # How the last command ended is no verdict on the shell.
    subprocess.run(["bash", "--norc"], cwd=REPOSITORY, env=environment, check=False)
    return 0


def main() -> int:
    """Exit status 0 when everything was proved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shell", action="store_true", help="prepare, then start a shell")
    return shell() if parser.parse_args().shell else demo()


if __name__ == "__main__":
    sys.exit(main())
