"""One emulated machine: started from the image with a disk of its own, reached by ssh, and gone with whoever started it."""

from __future__ import annotations

import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.dom0.network import GATEWAY_MAC, UPLINK_MAC
from tests.xen import RigError
from tests.xen.carried import carried
from tests.xen.image import Image, run

WAY_IN_MAC = "52:54:00:39:00:01"
MEMORY_MIB, DOM0_MIB = 2560, 1152
BOOT_S = 900.0
SHUTDOWN_S = 600.0
KILL_S = 10.0
SSH_S = 60.0  # a handshake, emulated, on a machine that does other things
POLL_S = 0.5
# - smap, smep: with them dom0's kernel dies of a page fault in early boot.
# - xsave: with it, and so with AVX, xl now and then crashes or cannot decompress a kernel. Emulation, not Xen.
CPU = "max,-smap,-smep,-xsave"
XEN_OPTIONS = f"dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M console=com1 com1=115200,8n1 conswitch=x loglvl=info guest_loglvl=info noreboot"
KERNEL_OPTIONS = "root=/dev/vda rw console=hvc0 net.ifnames=0 quiet systemd.show_status=no"


class Machine:
    """A dom0. Its disk outlives `reboot`, not the machine; the folder keeps its serial console's log."""

    def __init__(self, image: Image, folder: Path, *, terminal: bool = False) -> None:
        self._image, self._folder, self._terminal = image, folder, terminal
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.serial = folder / "serial.log"
        self._key = folder / "key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._key], timeout_s=SSH_S)
        self._product = carried(folder, self._key.with_suffix(".pub").read_text())
        self._disk = folder / "disk.qcow2"
        backing = ["-b", str(image.disk.resolve()), "-F", "raw"]
        run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self._disk)], timeout_s=SSH_S)
        self._port = 0
        self._qemu: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for path in (self._disk, self._product, self._key, self._key.with_suffix(".pub")):
            path.unlink(missing_ok=True)

    # ---- power ----

    def start(self) -> None:
        """Switch it on; with a terminal this process's own is its console."""
        self._port = _free_port()
        # Nobody survives whoever started it, whatever that dies of.
        argv = ["setpriv", "--pdeathsig", "KILL", *self._argv()]
        # On a terminal, Ctrl-C is for the machine: QEMU takes it. Otherwise it must not get there at all.
        self._qemu = subprocess.Popen(
            argv,
            stdin=None if self._terminal else subprocess.DEVNULL,
            stdout=None if self._terminal else (self._folder / "qemu.log").open("ab"),
            stderr=None if self._terminal else subprocess.STDOUT,
            start_new_session=not self._terminal,
        )

    def _argv(self) -> Sequence[str]:
        drives = [f"file={self._disk},format=qcow2,if=virtio,cache=unsafe"]
        drives += [f"file={self._product},format=raw,if=virtio,readonly=on"]
        wires = [("hubport,id=uplink,hubid=1", UPLINK_MAC), ("hubport,id=gateway,hubid=1", GATEWAY_MAC)]
        wires += [
            (
                f"user,id=way-in,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-10.0.2.15:22",
                WAY_IN_MAC,
            )
        ]
        argv = ["qemu-system-x86_64", "-machine", "q35", "-cpu", CPU, "-accel", "tcg,thread=multi"]
        argv += ["-smp", "1", "-m", str(MEMORY_MIB), "-no-reboot", "-nodefaults", "-vga", "none"]
        argv += ["-kernel", str(self._image.xen), "-append", XEN_OPTIONS]
        argv += ["-initrd", f"{self._image.kernel} {KERNEL_OPTIONS},{self._image.initrd}"]
        for drive in drives:
            argv += ["-drive", drive]
        for wire, mac in wires:
            name = wire.partition("id=")[2].partition(",")[0]
            argv += ["-netdev", wire, "-device", f"virtio-net-pci,netdev={name},mac={mac},romfile="]
        if self._terminal:
            return [*argv, "-nographic", "-serial", "mon:stdio"]
        return [
            *argv,
            "-display",
            "none",
            "-monitor",
            "none",
            "-chardev",
            self._log(),
            "-serial",
            "chardev:log",
        ]

    def _log(self) -> str:
        return f"file,id=log,path={self.serial},append=on"

    def wait_up(self) -> float:
        """Until it answers; how many seconds that took.

        Raises:
            RigError: it does not, or QEMU has ended.
        """
        began = time.monotonic()
        while True:
            self._must_run()
            with suppress(subprocess.TimeoutExpired):
                if self.run(["true"], timeout_s=SSH_S).returncode == 0:
                    return time.monotonic() - began
            if time.monotonic() - began > BOOT_S:
                raise RigError(f"the machine is not up after {BOOT_S:g} s (see {self.serial})")
            time.sleep(POLL_S)

    def _must_run(self) -> None:
        if self._qemu is None or self._qemu.poll() is not None:
            said = (self._folder / "qemu.log").read_text() if not self._terminal else ""
            raise RigError(f"QEMU has ended: {said.strip() or 'without a word'} (see {self.serial})")

    def wait_off(self, timeout_s: float | None = SHUTDOWN_S) -> None:
        """Until it has switched itself off.

        Raises:
            RigError: it has not.
        """
        assert self._qemu is not None
        try:
            self._qemu.wait(timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise RigError(f"the machine is not off after {timeout_s} s (see {self.serial})") from exc

    def reboot(self) -> float:
        """Restart it as its administrator would; how many seconds until it answers again.

        Raises:
            RigError: it does not end, or does not come back.
        """
        with suppress(subprocess.TimeoutExpired):
            self.run(["systemctl", "reboot"], timeout_s=SSH_S)
        self.wait_off()  # QEMU ends at the reset
        self.start()
        return self.wait_up()

    def cut_power(self) -> float:
        """Off in an instant, and on again; how many seconds until it answers.

        Raises:
            RigError: it does not come back.
        """
        self.kill()
        self.start()
        return self.wait_up()

    def kill(self) -> None:
        """Off at once; nothing if it is."""
        if self._qemu is not None and self._qemu.poll() is None:
            self._qemu.send_signal(signal.SIGKILL)
            self._qemu.wait(KILL_S)

    # ---- inside ----

    def run(self, argv: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """A command's end in the machine, as root, whatever its exit status (255: ssh's own).

        Raises:
            subprocess.TimeoutExpired: it hangs; it may still run in the machine.
        """
        return subprocess.run(
            [*self._ssh(), shlex.join(argv)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def watch(self, argv: Sequence[str], *, timeout_s: float) -> int:
        """A command's exit status; what it says goes to this process's own output as it comes.

        Raises:
            subprocess.TimeoutExpired: it hangs.
        """
        return subprocess.run(
            [*self._ssh(), shlex.join(argv)], stdin=subprocess.DEVNULL, timeout=timeout_s, check=False
        ).returncode

    def take(self, paths: Sequence[str], folder: Path, *, timeout_s: float = 120.0) -> None:
        """Copy files and folders out of the machine, below the folder; those that are not there are left out."""
        folder.mkdir(parents=True, exist_ok=True)
        tar = f"tar -cf - --ignore-failed-read -C / {shlex.join(path.lstrip('/') for path in paths)} 2>/dev/null"
        with subprocess.Popen([*self._ssh(), tar], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as sent:
            subprocess.run(
                ["tar", "-xf", "-", "-C", folder], stdin=sent.stdout, timeout=timeout_s, check=False
            )

    def _ssh(self) -> Sequence[str]:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        options += ["IdentitiesOnly=yes", "BatchMode=yes", f"ConnectTimeout={SSH_S:.0f}"]
        # The fastest that the emulated processor knows.
        options += ["Ciphers=chacha20-poly1305@openssh.com", "KexAlgorithms=curve25519-sha256"]
        flags = [word for option in options for word in ("-o", option)]
        return ["ssh", "-F", "none", "-i", str(self._key), "-p", str(self._port), *flags, "root@127.0.0.1"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
