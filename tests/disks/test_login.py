"""What is read of systems' consoles, and what their customers are told."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.diff_inside import inside_notes
from reconciler.disk_record import LetsIn, Looked
from reconciler.login import login_words, offered
from state.desired import DomU
from state.inside import ext
from state.inside.disk import read_disk
from state.inside.ext_files import Tree
from state.inside.getty import Getty, Login
from state.inside.image import whole
from state.inside.login import parse_inittab, parse_job
from state.inside.system import find_login
from state.insides import Inside, look_into, parse_answer
from state.run import HostRunner
from tests.disks import systems
from tests.disks.kept import PAGE
from tests.disks.pages import Pages
from tests.disks.systems import SYSTEMS
from tests.disks.tools import MIB, image_of, tool
from tests.unit.deviations import situation
from tests.unit.worlds import desired


def read(path: Path) -> Login:
    with image_of(path) as image:
        _, volumes = read_disk(image)
        found = find_login(volumes)
    assert found is not None
    return found


def domu(**spec: object) -> DomU:
    return desired({"vm01": spec}).domus[0]


def told(login: Login, **spec: object) -> tuple[str, str] | None:
    return login_words(domu(**spec), login)


XVC0 = 'xvc0, which this kernel does not have (INIT: Id "xvc0" respawning too fast)'
NOTHING = "nothing waits for a login on hvc0, where its kernel has the console"
BARRED = "root may not log in on hvc0: /etc/securetty does not list it"
# init, (devices, or "auto"), the reason and the words of the note; None: nothing is wrong.
EXPECTED: dict[str, tuple[str, list[str], tuple[str, str] | None]] = {
    "debian 5, installed with the xen kernel": (
        "sysvinit",
        ["tty1", "tty2", "xvc0"],
        (
            "no_login",
            (
                f"{NOTHING}; /etc/inittab:17 waits on {XVC0}; {BARRED}. In the guest: "
                "put # before `xvc0:2345:respawn:/sbin/getty 38400 xvc0`; "
                "add the line `hvc0:2345:respawn:/sbin/getty 38400 hvc0` to /etc/inittab; "
                "add the line `hvc0` to /etc/securetty; `telinit q`"
            ),
        ),
    ),
    "debian 6, mended": ("sysvinit", ["tty1", "tty2", "hvc0"], None),
    "debian 6, as a debootstrap leaves it": (
        "sysvinit",
        ["tty1", "tty2"],
        (
            "no_login",
            (
                f"{NOTHING}; {BARRED}. In the guest: "
                "add the line `hvc0:2345:respawn:/sbin/getty 38400 hvc0` to /etc/inittab; "
                "add the line `hvc0` to /etc/securetty; `telinit q`"
            ),
        ),
    ),
    "centos 5": (
        "sysvinit",
        ["xvc0", "tty1"],
        (
            "no_login",
            (
                f'{NOTHING}; /etc/inittab:5 waits on xvc0, which this kernel does not have (INIT: Id "co" respawning too fast); {BARRED}. '
                "In the guest: put # before `co:2345:respawn:/sbin/agetty xvc0 9600 vt100-nav`; "
                "add the line `co:2345:respawn:/sbin/agetty hvc0 9600 vt100-nav` to /etc/inittab; "
                "add the line `hvc0` to /etc/securetty; `telinit q`"
            ),
        ),
    ),
    "ubuntu 8.04": (
        "event.d",
        ["tty1"],
        (
            "no_login",
            (
                f"{NOTHING}; {BARRED}. In the guest: `sed s/tty1/hvc0/ /etc/event.d/tty1 > /etc/event.d/hvc0`; `start hvc0`; "
                "add the line `hvc0` to /etc/securetty"
            ),
        ),
    ),
    "ubuntu 10.04": (
        "upstart",
        ["tty1", "xvc0"],
        (
            "no_login",
            (
                f"{NOTHING}; /etc/init/xvc0.conf:10 waits on xvc0, which this kernel does not have. In the guest: "
                "`rm /etc/init/xvc0.conf`; `sed s/tty1/hvc0/ /etc/init/tty1.conf > /etc/init/hvc0.conf`; `initctl start hvc0`"
            ),
        ),
    ),
    "centos 6": ("upstart", ["auto"], None),
    "debian 12": ("systemd", ["auto", "tty1"], None),
    "systemd without its generator": (
        "systemd",
        ["tty1", "xvc0"],
        (
            "no_login",
            (
                f"{NOTHING}; /etc/systemd/system/getty.target.wants/serial-getty@xvc0.service waits on xvc0, which this kernel does not have. "
                "In the guest: `systemctl disable --now serial-getty@xvc0`; `systemctl enable --now serial-getty@hvc0`"
            ),
        ),
    ),
    "alpine": (
        "busybox",
        ["tty1"],
        (
            "no_login",
            f"{NOTHING}. In the guest: add the line `hvc0::respawn:/sbin/getty 38400 hvc0` to /etc/inittab; `kill -HUP 1`",
        ),
    ),
    "a small busybox": ("busybox", ["hvc0"], None),
    "gentoo": ("openrc", ["tty1", "hvc0"], None),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_system_is_read_and_its_customer_told_what_to_change(name: str, tmp_path: Path) -> None:
    login = read(systems.installed(SYSTEMS[name], tmp_path / "disk"))
    init, devices, words = EXPECTED[name]

    assert login.why == ""
    assert (login.init, [*["auto"] * login.automatic, *(each.device for each in login.gettys)]) == (
        init,
        devices,
    )
    assert told(login) == words


@pytest.mark.parametrize(
    "options",
    [("-t", "ext2"), ("-t", "ext3", "-I", "128"), ("-t", "ext4", "-b", "1024", "-O", "^64bit"), ("-t", "ext4", "-O", "inline_data"), ("-t", "ext4", "-O", "bigalloc"), ("-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"), ("-t", "ext2", "-r", "0", "-O", "none")],
    ids=" ".join,
)  # fmt: skip
def test_files_are_read_whatever_the_file_system_is_made_like(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """Large files and folders as well: with every kind of blocks behind blocks, beside debugfs."""
    files = {
        **SYSTEMS["debian 12"],
        "/etc/large": "0123456789abcde\n" * 12_000,
        **{f"/etc/many/a-long-name-of-a-file-{number:04}": "" for number in range(700)},
    }
    path = systems.installed(files, tmp_path / "disk", *options)
    with image_of(path) as image:
        window = whole(image)
        tree = Tree(window, ext.read_layout(window))

        assert tree.text("/etc/large") == files["/etc/large"]
        assert len(tree.names("/etc/many")) == 700
        assert tree.text("/etc/none") is None
        assert tree.text("/etc") is None
        assert tree.text("/sbin/../sbin/./init") == "ELF"
        assert tree.leads_to("/sbin/init") == "../lib/systemd/systemd"
        rows = tool("debugfs", "-R", "ls -p /", path).split("\n")
        listed = {row.split("/")[5] for row in rows if row} - {".", ".."}
        assert tree.names("/") == tuple(sorted(listed))


def test_links_in_a_circle_and_out_of_the_system_lead_nowhere(tmp_path: Path) -> None:
    files = {
        **SYSTEMS["debian 6, mended"],
        "/etc/inittab": "-> circle",
        "/etc/circle": "-> inittab",
        "/etc/securetty": "-> ../../../../../../etc/hostname",
    }
    login = read(systems.installed(files, tmp_path / "disk"))

    assert (login.gettys, login.securetty) == ((), None)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    files = {**SYSTEMS["debian 6, mended"], "/etc/inittab": "x" * 300_000}
    login = read(systems.installed(files, tmp_path / "disk"))

    assert login.why == "a file that is asked for is larger than any such file"
    assert told(login) is None


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """The pages of a disk with a system that hold anything."""
    path = systems.installed(
        SYSTEMS["debian 5, installed with the xen kernel"],
        tmp_path_factory.mktemp("system") / "disk",
        "-t", "ext4", "-b", "1024",
    )  # fmt: skip
    data = path.read_bytes()
    pages = {at: data[at : at + PAGE] for at in range(0, len(data), PAGE)}
    return {at: page for at, page in pages.items() if page.strip(b"\0")}


@given(data=st.data())
@settings(max_examples=100)
def test_whatever_is_written_over_a_system_it_is_told_of_within_bounds(
    data: st.DataObject, system: dict[int, bytes]
) -> None:
    content = dict(system)
    filled = st.sampled_from(sorted(content))
    written = st.binary(min_size=1, max_size=12) | st.sampled_from([b"\xff" * 4, bytes(4), b"\x0a\xf3"])
    for at, within, new in data.draw(
        st.lists(st.tuples(filled, st.integers(0, PAGE - 12), written), max_size=8)
    ):
        content[at] = content[at][:within] + new + content[at][within + len(new) :]

    disk, volumes = read_disk(Pages(64 * MIB, content))
    login = find_login(volumes)
    answer = parse_answer(
        json.dumps(
            {
                "disk": asdict(disk),
                "block": False,
                "changed_s": 0,
                "login": None if login is None else asdict(login),
            }
        )
    )

    assert isinstance(answer, Inside)
    assert answer.login == login
    words = None if login is None else told(login)
    assert words is None or (words[1].isascii() and words[1].isprintable())


# ---------------------------------------------------------------- texts


def test_what_a_runlevel_does_not_start_does_not_wait() -> None:
    text = "id:3:initdefault:\nh0:2:respawn:/sbin/getty 38400 hvc0\nh1:23:off:/sbin/getty 38400 hvc1\nh2:3:respawn:/sbin/getty 38400 hvc2\nT:3:respawn:/usr/bin/top hvc3\n"

    assert [each.device for each in parse_inittab(text)] == ["hvc2"]


def test_a_line_with_letters_that_mean_something_to_a_terminal_is_not_shown() -> None:
    (getty,) = parse_inittab("h:2:respawn:/sbin/getty 38400 xvc0 \x1b[2J;`reboot`\n")

    assert getty == Getty("/etc/inittab", 1, "xvc0", "h")
    login = Login("", "sysvinit", (getty,))
    assert "put # before line 1 of /etc/inittab" in str(told(login))


@pytest.mark.parametrize(
    "text", ["\n" * 250_000, "manual" + " \n" * 120_000, ":" * 250_000, "a:2:respawn:" + "/a" * 120_000]
)
def test_a_text_that_is_made_to_take_long_does_not(text: str) -> None:
    started = time.process_time()
    found = [*parse_inittab(text), *parse_job(f"start on x\n{text}", "/etc/init/x.conf")]

    assert found == []
    assert time.process_time() - started < 2


def test_a_job_that_nothing_starts_does_not_wait() -> None:
    assert [*parse_job("respawn\nexec /sbin/getty 38400 hvc0\n", "/etc/init/hvc0.conf")] == []
    assert [
        *parse_job("manual\nstart on stopped rc\nexec /sbin/getty 38400 hvc0\n", "/etc/init/hvc0.conf")
    ] == []


# ---------------------------------------------------------------- which device, and who is told

RUN = {"kernel": "/srv/xen/vmlinuz", "cmdline": "root=/dev/xvda1 console=tty0 console=xvc0"}


@pytest.mark.parametrize(
    ("spec", "device"),
    [
        ({}, "hvc0"),
        ({"console": {"device": "xvc0"}}, "xvc0"),
        ({"boot": {"run": RUN}}, "xvc0"),
        ({"boot": {"run": {"bootloader": "pygrub", "cmdline": "console=xvc0"}}}, "hvc0"),
        ({"type": "hvm"}, "ttyS0"),
    ],
)
def test_the_console_is_where_the_kernels_command_line_or_the_specification_says(
    spec: dict[str, object], device: str
) -> None:
    assert offered(domu(**spec)) == device


XVC0_ONLY = Login("1", "sysvinit", (Getty("/etc/inittab", 9, "xvc0", "xvc0", "xvc0:2345:respawn:/sbin/getty 38400 xvc0"),))  # fmt: skip


def test_the_same_system_under_the_kernel_it_was_installed_with_is_right() -> None:
    assert told(XVC0_ONLY) is not None
    assert told(XVC0_ONLY, console={"device": "xvc0"}) is None


def test_whoever_ignores_logins_is_told_nothing() -> None:
    assert told(XVC0_ONLY, console={"login": "ignore"}) is None


def test_a_getty_that_is_right_beside_one_that_is_odd_is_told_with_another_word() -> None:
    both = replace(XVC0_ONLY, gettys=(*XVC0_ONLY.gettys, Getty("/etc/inittab", 10, "hvc0", "h0")))

    assert told(both) == (
        "odd_login",
        f"/etc/inittab:9 waits on {XVC0}. In the guest: put # before `xvc0:2345:respawn:/sbin/getty 38400 xvc0`; `telinit q`",
    )


def test_an_emulated_machine_may_have_several_consoles() -> None:
    both = Login("1", "sysvinit", (Getty("/etc/inittab", 9, "ttyS0"), Getty("/etc/inittab", 10, "hvc0")))

    assert told(both, type="hvm") is None


def test_it_is_told_in_plan_and_status() -> None:
    base = situation({"git": {"vm01": {}}})
    uuid = base.desired.domus[0].uuid
    seen = replace(base, looked=Looked(0, 0, logins=(LetsIn(uuid, XVC0_ONLY),)))

    (note,) = inside_notes(seen)
    assert (note.address, note.reason) == ("domu.vm01", "no_login")
    installing = situation(
        {"git": {"vm01": {"boot": {"phase": "install", "install": {"kernel": "/srv/xen/k"}, "run": RUN}}}}
    )
    assert [*inside_notes(replace(installing, looked=seen.looked))] == []


def test_the_child_reads_it_where_it_is_asked_to(tmp_path: Path) -> None:
    path = str(systems.installed(SYSTEMS["debian 12"], tmp_path / "disk"))
    asked, silent = (look_into(HostRunner(), [path], logins=logins)[path] for logins in ({path}, set[str]()))

    assert isinstance(asked, Inside)
    assert isinstance(silent, Inside)
    assert asked.login is not None
    assert asked.login.init == "systemd"
    assert silent.login is None
