"""The machine's disk: Debian 12 with Xen, made once and kept under build/xen-image by a digest of what it is made of.

No mount, no loop device. What is under way lies in one folder, which is removed whatever happens.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

from tests.xen import BUILD, CARRIED, HERE, RigError
from tests.xen.archive import archive, link, regular, uncompressed

SUITE = "bookworm"
XEN = "4.17"
# What a provider's dom0 has, and what the tests use in it.
PACKAGES = (
    "linux-image-amd64",
    "initramfs-tools",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    f"xen-hypervisor-{XEN}-amd64",
    f"xen-utils-{XEN}",
    "xen-utils-common",
    "xenstore-utils",
    "bridge-utils",
    "iproute2",
    "iputils-ping",
    "iptables",
    "ipset",
    "nftables",
    "ebtables",
    "conntrack",
    "python3",
    "python3-venv",
    "git",
    "e2fsprogs",
    "openssh-server",
    "busybox-static",
    "procps",
    "psmisc",
    "strace",
    "tcpdump",
    "less",
    "vim-tiny",
)
# Nothing else is needed to find the root file system: the smaller, the sooner it is unpacked.
INITRD_MODULES = ("virtio_pci", "virtio_blk", "ext4")
# By name in /lib/modules, in the order in which they are loaded.
GUEST_MODULES = ("af_packet", "xen-netfront", "xen-blkfront")
GUEST_SCRIPTS = ("install-addresses", "network", "plugged")
SIZE = "4G"  # sparse
DISKS = ("root.ext4", "xen", "vmlinuz", "initrd.img")
MKFS_S, DEBOOTSTRAP_S = 600.0, 3600.0  # on a machine that does other things too


@dataclass(frozen=True, slots=True)
class Image:
    """A folder with the machine's disk and what QEMU starts it with."""

    folder: Path

    @property
    def disk(self) -> Path:
        """The root file system, never written: machines have an overlay each."""
        return self.folder / "root.ext4"

    @property
    def xen(self) -> Path:
        """The hypervisor, uncompressed: QEMU's multiboot loader takes no gzip."""
        return self.folder / "xen"

    @property
    def kernel(self) -> Path:
        """dom0's kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """dom0's initramfs."""
        return self.folder / "initrd.img"

    @property
    def complete(self) -> bool:
        """Whether it was made to its end; it is renamed into place only then."""
        return all((self.folder / name).exists() for name in DISKS)


def say(text: str) -> None:
    """One line of progress."""
    print(f"xen: {text}", file=sys.stderr, flush=True)


def run(
    argv: Sequence[str | Path], *, timeout_s: float, stdin: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A command that must succeed.

    Raises:
        RigError: it is missing, fails or takes too long; the message carries its last lines.
    """
    try:
        # A session of its own: mmdebstrap's helpers go on writing when it alone is killed.
        started = subprocess.Popen(
            argv, cwd=cwd, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True
        )
    except FileNotFoundError as exc:
        raise RigError(f"{argv[0]} is missing (expected what `make test-xen` installs)") from exc
    with started:
        try:
            said, complained = started.communicate(stdin, timeout_s)
        except BaseException as exc:
            os.killpg(started.pid, signal.SIGKILL)
            if isinstance(exc, subprocess.TimeoutExpired):
                raise RigError(f"{argv[0]}: not done within {timeout_s:g} s") from exc
            raise
    if started.returncode != 0:
        last = "\n".join((complained.strip() or said.strip() or "no output").splitlines()[-8:])
        raise RigError(f"{argv[0]}: exit status {started.returncode}:\n{last}")
    return subprocess.CompletedProcess(argv, 0, said, complained)


def digest() -> str:
    """Of everything that the image is made of but Debian's packages themselves."""
    content = hashlib.sha256(repr((SUITE, PACKAGES, INITRD_MODULES, GUEST_MODULES, SIZE)).encode())
    files = [HERE / "image.py", HERE / "archive.py"]
    files += [
        path for folder in ("guest", "overlay") for path in (HERE / folder).rglob("*") if path.is_file()
    ]
    for path in sorted(files):
        content.update(f"\0{path.relative_to(HERE)}\0{path.stat().st_mode & 0o777:o}\0".encode())
        content.update(path.read_bytes())
    return content.hexdigest()[:16]


def image() -> Image:
    """The image of this checkout; made if it is not there, which takes minutes and the Debian mirror.

    Raises:
        RigError: no way to the mirror, or a tool is missing.
    """
    made = Image(BUILD / digest())
    if made.complete:
        return made
    say(f"making the machine's disk at {made.folder}")
    partial = BUILD / "partial"
    _forget(partial)
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        _build(partial)
        partial.rename(made.folder)
    finally:
        _forget(partial)
    for other in BUILD.iterdir():
        if other != made.folder:  # of an older checkout
            _forget(other)
    return made


def _forget(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise RigError(f"cannot remove {folder} (expected root, who made it)")


def _build(folder: Path) -> None:
    root = folder / "root"
    root.mkdir(parents=True)
    _debootstrap(root)
    boot = root / "boot"
    (kernel,) = boot.glob("vmlinuz-*")
    shutil.copytree(HERE / "overlay", root, dirs_exist_ok=True)
    _guest(root, kernel)
    _settle(root)
    compressed = boot / f"xen-{XEN}-amd64.gz"
    (folder / "xen").write_bytes(run_binary(["gzip", "-dc", compressed]))
    shutil.copy(kernel, folder / "vmlinuz")
    (initrd,) = boot.glob("initrd.img-*")
    shutil.copy(initrd, folder / "initrd.img")
    say("making a file system of it")
    run(
        ["mkfs.ext4", "-q", "-F", "-L", "dom0", "-d", root, folder / "root.ext4", SIZE],
        timeout_s=MKFS_S,
    )
    shutil.rmtree(root)


def run_binary(argv: Sequence[str | Path]) -> bytes:
    """What a command that must succeed writes.

    Raises:
        RigError: it fails.
    """
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise RigError(f"{argv[0]}: exit status {done.returncode}: {done.stderr.decode().strip()}")
    return done.stdout


def sources() -> str:
    """This machine's own apt sources of the suite, so that no mirror is named here.

    Raises:
        RigError: it has none.
    """
    wanted = ["$(REPO_URI) $(RELEASE) $(COMPONENT)"]
    listed = run(
        ["apt-get", "indextargets", "--format", *wanted, "Created-By: Packages"], timeout_s=60
    ).stdout.splitlines()
    suites = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
    lines = sorted({f"deb {line}\n" for line in listed if line.split()[1] in suites})
    if not lines:
        raise RigError(f"apt has no source of {SUITE} (expected Debian 12)")
    return "".join(lines)


def _debootstrap(root: Path) -> None:
    say(f"installing Debian with {len(PACKAGES)} packages")
    modules = "".join(f"{name}\\n" for name in INITRD_MODULES)
    run(
        [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            "--dpkgopt=force-unsafe-io",
            '--aptopt=APT::Install-Recommends "false"',
            f"--include={','.join(PACKAGES)}",
            f'--customize-hook=printf "{modules}" >>"$1/etc/initramfs-tools/modules"',
            '--customize-hook=sed -i "s/^MODULES=.*/MODULES=list/" "$1/etc/initramfs-tools/initramfs.conf"',
            '--customize-hook=chroot "$1" update-initramfs -u',
            SUITE,
            root,
            "-",
        ],
        timeout_s=DEBOOTSTRAP_S,
        stdin=sources(),
    )


def _guest(root: Path, kernel: Path) -> None:
    """The guests' kernel and initramfs, where the example repository wants them."""
    say("making the guests' kernel and initramfs")
    agent = root.parent / "agent"
    run(["gcc", "-O2", "-Wall", "-static", "-o", agent, HERE / "guest" / "agent.c"], timeout_s=60)
    files = {
        "init": regular(HERE / "guest" / "init"),
        "bin/busybox": regular(root / "bin" / "busybox"),
        "bin/sh": link("busybox"),
        "bin/agent": regular(agent),
        "sbin/poweroff": regular(HERE / "guest" / "stop"),
        "sbin/reboot": regular(HERE / "guest" / "stop"),
        **{f"bin/{name}": regular(HERE / "guest" / name) for name in GUEST_SCRIPTS},
    }
    order = []
    for name in GUEST_MODULES:
        found = [
            path
            for path in (root / "lib" / "modules").rglob("*.ko*")
            if path.name.partition(".")[0].replace("-", "_") == name.replace("-", "_")
        ]
        if not found:
            continue  # built in
        content = found[0].read_bytes()
        files[f"modules/{name}.ko"] = (
            0o100644,
            lzma.decompress(content) if found[0].suffix == ".xz" else content,
        )
        order.append(f"{name}.ko\n")
    files["modules/order"] = (0o100644, "".join(order).encode())
    agent.unlink()
    place = root / "srv" / "xen"
    (place / "images").mkdir(parents=True)
    (place / "vmlinuz").write_bytes(uncompressed(kernel.read_bytes()))
    shutil.copy(kernel, place / "vmlinuz-compressed")
    (place / "initrd.img").write_bytes(archive(files))


def _settle(root: Path) -> None:
    """What must not be as Debian's packages left it."""
    (root / "etc" / "machine-id").write_text("0" * 31 + "1\n")
    (root / CARRIED.relative_to("/")).mkdir(parents=True)
    # Nobody but domgit starts its guests at boot: docs/start.md.
    defaults = root / "etc" / "default" / "xendomains"
    lines = defaults.read_text().splitlines()
    for name in ("XENDOMAINS_SAVE", "XENDOMAINS_RESTORE", "XENDOMAINS_AUTO"):
        lines = [f'{name}=""' if line.startswith(f"{name}=") else line for line in lines]
    defaults.write_text("\n".join(lines) + "\n")
    wants = root / "etc" / "systemd" / "system" / "multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "rig-network.service").symlink_to("/etc/systemd/system/rig-network.service")
    for unit in ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service"):
        (root / "etc" / "systemd" / "system" / unit).symlink_to("/dev/null")
