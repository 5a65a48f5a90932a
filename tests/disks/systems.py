"""Systems that customers install, as far as their consoles go: the files as each distribution ships them, cut to what matters.

A text that begins with `-> ` is a symbolic link.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.disks.tools import MIB, sized, tool

Files = Mapping[str, str]

_DEBIAN_INITTAB = """\
# /etc/inittab: init(8) configuration.
# $Id: inittab,v 1.91 2002/01/25 13:35:21 miquels Exp $

# The default runlevel.
id:2:initdefault:
si::sysinit:/etc/init.d/rcS
~~:S:wait:/sbin/sulogin
l2:2:wait:/etc/init.d/rc 2
ca:12345:ctrlaltdel:/sbin/shutdown -t1 -a -r now
# /sbin/getty invocations for the runlevels.
# Format:
#  <id>:<runlevels>:<action>:<process>
1:2345:respawn:/sbin/getty 38400 tty1
2:23:respawn:/sbin/getty 38400 tty2
# Example how to put a getty on a serial line (for a terminal)
#T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100
"""
_SECURETTY = "# /etc/securetty: list of terminals on which root is allowed to login.\nconsole\ntty1\ntty2\n"
_DEBIAN: Files = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "/sbin/init": "ELF",
    "/etc/inittab": _DEBIAN_INITTAB,
    "/etc/securetty": _SECURETTY,
}
_UPSTART_TTY1 = """\
# tty1 - getty
#
# This service maintains a getty on tty1 from the point the system is
# started until it is shut down again.

start on stopped rc RUNLEVEL=[2345]
stop on runlevel [!2345]

respawn
exec /sbin/getty -8 38400 tty1
"""
_SYSTEMD: Files = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "/sbin": "-> usr/sbin",
    "/lib": "-> usr/lib",
    "/usr/sbin/init": "-> ../lib/systemd/systemd",
    "/usr/lib/systemd/systemd": "ELF",
    "/usr/lib/systemd/system-generators/systemd-getty-generator": "ELF",
    "/etc/systemd/system/getty.target.wants/getty@tty1.service": "-> /lib/systemd/system/getty@.service",
    "/usr/lib/systemd/system/getty@.service": "[Unit]\n",
}

SYSTEMS: Mapping[str, Files] = {
    "debian 5, installed with the xen kernel": {
        **_DEBIAN,
        "/etc/inittab": f"{_DEBIAN_INITTAB}xvc0:2345:respawn:/sbin/getty 38400 xvc0\n",
        "/etc/securetty": f"{_SECURETTY}xvc0\n",
    },
    "debian 6, mended": {
        **_DEBIAN,
        "/etc/inittab": f"{_DEBIAN_INITTAB}#xvc0:2345:respawn:/sbin/getty 38400 xvc0\nhvc0:2345:respawn:/sbin/getty 38400 hvc0\n",
        "/etc/securetty": f"{_SECURETTY}hvc0\n",
    },
    "debian 6, as a debootstrap leaves it": _DEBIAN,
    "centos 5": {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "/sbin/init": "ELF",
        "/etc/inittab": (
            "id:3:initdefault:\nsi::sysinit:/etc/rc.d/rc.sysinit\nl3:3:wait:/etc/rc.d/rc 3\n"
            "# Run gettys in standard runlevels\nco:2345:respawn:/sbin/agetty xvc0 9600 vt100-nav\n"
            "1:2345:respawn:/sbin/mingetty tty1\nx:5:respawn:/etc/X11/prefdm -nodaemon\n"
        ),
        "/etc/securetty": "console\nvc/1\ntty1\nxvc0\n",
    },
    "ubuntu 8.04": {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "/sbin/init": "ELF",
        "/sbin/initctl": "ELF",
        "/etc/event.d/tty1": "start on stopped rc2\nstart on stopped rc3\nstop on runlevel 0\n\nrespawn\nexec /sbin/getty 38400 tty1\n",
        "/etc/event.d/rc2": "start on runlevel 2\n\nstop on runlevel [!2]\n\nconsole output\nscript\n    exec /etc/init.d/rc 2\nend script\n",
        "/etc/securetty": _SECURETTY,
    },
    "ubuntu 10.04": {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "/sbin/init": "ELF",
        "/sbin/initctl": "ELF",
        "/etc/init/tty1.conf": _UPSTART_TTY1,
        "/etc/init/xvc0.conf": _UPSTART_TTY1.replace("tty1", "xvc0"),
        "/etc/init/tty2.conf": _UPSTART_TTY1.replace("tty1", "hvc0"),
        "/etc/init/tty2.override": "manual\n",
        "/etc/securetty": f"{_SECURETTY}hvc0\n",
    },
    "centos 6": {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "/sbin/init": "ELF",
        "/sbin/initctl": "ELF",
        "/etc/init/serial.conf": (
            "start on fedora.serial-console-available DEV=* and stopped rc RUNLEVEL=[2345]\nstop on runlevel [S016]\n"
            "instance $DEV\nrespawn\npre-start exec /sbin/securetty $DEV\nexec /sbin/agetty /dev/$DEV $SPEED vt100-nav\n"
        ),
        "/etc/securetty": "console\ntty1\nhvc0\n",
    },
    "debian 12": _SYSTEMD,
    "systemd without its generator": {
        **{path: text for path, text in _SYSTEMD.items() if "generators" not in path},
        "/etc/systemd/system/getty.target.wants/serial-getty@xvc0.service": "-> /lib/systemd/system/serial-getty@.service",
        "/etc/systemd/system/getty.target.wants/serial-getty@hvc0.service": "-> /lib/systemd/system/serial-getty@.service",
        "/etc/systemd/system/serial-getty@hvc0.service": "-> /dev/null",
    },
    "alpine": {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/ash\n",
        "/sbin/init": "-> /bin/busybox",
        "/bin/busybox": "ELF",
        "/etc/inittab": (
            "# /etc/inittab\n\n::sysinit:/sbin/openrc sysinit\n::wait:/sbin/openrc default\n\n"
            "tty1::respawn:/sbin/getty 38400 tty1\n\n# Put a getty on the serial port\n#ttyS0::respawn:/sbin/getty -L 0 ttyS0 vt100\n"
        ),
        "/etc/securetty": "console\ntty1\nhvc0\n",
    },
    "a small busybox": {
        "/etc/inittab": "::sysinit:/etc/init.d/rcS\nhvc0::askfirst:-/bin/sh\n",
        "/sbin/init": "-> ../bin/busybox",
        "/bin/busybox": "ELF",
    },
    "gentoo": {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "/sbin/init": "ELF",
        "/etc/inittab": "id:3:initdefault:\nsi::sysinit:/sbin/openrc sysinit\nc1:12345:respawn:/sbin/agetty 38400 tty1 linux\n",
        "/etc/runlevels/default/agetty.hvc0": "-> /etc/init.d/agetty.hvc0",
        "/etc/runlevels/boot/hostname": "-> /etc/init.d/hostname",
    },
}  # fmt: skip


def unpacked(files: Files, folder: Path) -> Path:
    """The files of a system below a folder."""
    for path, text in sorted(files.items()):
        target = folder / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            target.symlink_to(text.removeprefix("-> "))
        else:
            target.write_text(text, encoding="utf-8")
    return folder


def installed(files: Files, path: Path, *options: str) -> Path:
    """An image with a file system that holds a system."""
    folder = path.with_name(f"{path.name}-files")
    folder.mkdir()
    sized(path, 64 * MIB)
    tool("mke2fs", "-q", "-F", "-d", unpacked(files, folder), *(options or ("-t", "ext4")), path)
    return path
