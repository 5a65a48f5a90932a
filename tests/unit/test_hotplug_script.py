"""The hotplug script's own functions, in the shell that libxl starts, with an nft that answers as a test wants."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler import hotplug
from reconciler.guard_kept import made_from

FUNCTIONS = hotplug.script().partition('\ncase "${1:-}')[0]
# In place of the tools: what nft says is the next line of a file; what goes to xenstore is printed.
TOOLS = {
    "logger": "",
    "sleep": "",
    "xenstore-write": 'echo "$@"',
    "xenstore-read": "echo /vm/e608ed38-c1b9-532e-a769-0156b41e19e1",
    "nft": """
answer=$(head -n 1 answers)
sed -i 1d answers
case $answer in ok*) cat "${answer#ok }" ;; *) echo "$answer" >&2; exit 1 ;; esac
""",
}
UUID = "e608ed38-c1b9-532e-a769-0156b41e19e1"  # as the xenstore-read above says
# Source: nftables 1.0.6 while another process loads rules, and of a set that has no such element.
BUSY = "Error: Could not process rule: Interrupted system call"
ABSENT = "Error: Could not process rule: No such file or directory"
# What it lists, by the name of the file that holds it here.
LISTED, EMPTY, CLOSED, UNHOOKED = "ok listing", "ok empty", "ok closed", "ok unhooked"


# Source: `nft -s list table` of nftables 1.0.6, shortened.
LISTING = """table bridge domgit {
	map ports {
		type ifname : verdict
		elements = { "vm01" : goto from_guest, "vm011" : goto from_guest,
				"eth0" : accept }
	}

	set own_mac {
		type ifname . ether_addr
		elements = { "vm01" . 00:16:3e:00:00:01, "vm011" . 00:16:3e:00:00:11 }
	}

	set own_v4 {
		type ifname . ether_addr . ipv4_addr
		elements = { "vm01" . 00:16:3e:00:00:01 . 172.16.39.101,
				"vm011" . 00:16:3e:00:00:11 . 172.16.39.111,
				"vm01" . 00:16:3e:00:00:01 . 172.16.39.102 }
	}

	set count_mac {
		type ifname
		elements = { "vm01" counter packets 1 bytes 2 }
	}

	chain input {
		iifname "vm01" drop
		iifname vmap @ports
	}

	chain prerouting {
		iifname vmap @ports
	}
}
"""
GIVEN = """\
own_mac "vm01" . 00:16:3e:00:00:01
own_v4 "vm01" . 00:16:3e:00:00:01 . 172.16.39.101
own_v4 "vm01" . 00:16:3e:00:00:01 . 172.16.39.102
ports "vm01" : goto from_guest
"""


def shell(folder: Path, text: str, *answers: str) -> subprocess.CompletedProcess[str]:
    (folder / "listing").write_text(LISTING)
    (folder / "closed").write_text(LISTING.replace("goto from_guest", "goto refused_unknown"))
    (folder / "empty").write_text("table bridge domgit {\n}\n")
    # The elements are all there, and no hook leads to them.
    (folder / "unhooked").write_text(LISTING.replace("iifname vmap @ports", "", 1))
    (folder / "answers").write_text("".join(f"{each}\n" for each in answers))
    for name, tool in TOOLS.items():
        (folder / name).write_text(f"#!/bin/sh\n{tool}\n")
        (folder / name).chmod(0o755)
    text = f"{FUNCTIONS}\nPATH=$PWD:$PATH\nXENBUS_PATH=backend/vif/7/0\n{text}"
    return subprocess.run(["sh", "-c", text], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([LISTED], "yes"),
        ([BUSY, BUSY, LISTED], "yes"),
        ([ABSENT], "no"),
        ([BUSY, ABSENT], "no"),
        ([EMPTY], "no"),
        ([CLOSED], "no"),
        ([UNHOOKED], "no"),
    ],
)
def test_a_port_is_a_guests_when_the_guard_says_so_and_is_asked_again_while_it_changes(
    tmp_path: Path, answers: list[str], said: str
) -> None:
    done = shell(tmp_path, "ask vm01; guest_port vm01 00:16:3e:00:00:01 && echo yes || echo no", *answers)

    assert (done.returncode, done.stdout) == (0, f"{said}\n"), done
    assert (tmp_path / "answers").read_text() == ""


def test_another_mac_than_the_bound_one_is_not_the_ports(tmp_path: Path) -> None:
    text = "ask vm01; guest_port vm01 00:16:3e:00:00:11 && echo yes || echo no"

    assert shell(tmp_path, text, LISTED).stdout == "no\n"


def test_a_guard_that_never_answers_leaves_the_port_down_and_says_so(tmp_path: Path) -> None:
    done = shell(tmp_path, "ask vm01; echo went on", *[BUSY] * 20)

    assert done.returncode == 1
    assert "went on" not in done.stdout
    assert f"hotplug-error cannot ask the guard: {BUSY}" in done.stdout
    assert "hotplug-status error" in done.stdout


def test_what_a_domain_of_that_domid_has_left_is_replaced_and_never_added_to(tmp_path: Path) -> None:
    """In one transaction: at no moment has the port what is somebody else's beside its own."""
    own = 'add element bridge domgit own_v4 { "@PORT@" . 00:16:3e:00:00:01 . 172.16.39.109 }\n'
    (tmp_path / f"{UUID}.0.nft").write_text(own)
    fake = "nft() { case $1 in -s) cat listing ;; *) cat >>loaded ;; esac; }"
    text = f"{fake}; TEMPLATES=$PWD; bind_unnamed vm01"

    shell(tmp_path, text)

    gone = (line.partition(" ") for line in GIVEN.splitlines())
    assert (tmp_path / "loaded").read_text() == "".join(
        f"delete element bridge domgit {name} {{ {member.partition(' : ')[0]} }}\n"
        for name, _, member in gone
    ) + own.replace("@PORT@", "vm01")


def test_a_binding_that_is_there_already_is_left_as_it_is(tmp_path: Path) -> None:
    lines = (line.partition(" ") for line in GIVEN.splitlines())
    (tmp_path / f"{UUID}.0.nft").write_text(
        "".join(
            f"add element bridge domgit {name} {{ {member} }}\n".replace('"vm01"', '"@PORT@"')
            for name, _, member in lines
        )
    )
    text = "TEMPLATES=$PWD; bind_unnamed vm01 && echo bound"

    assert shell(tmp_path, text, BUSY, LISTED).stdout == "bound\n"  # and nft is asked for nothing more


@pytest.mark.parametrize(("changing", "said"), [(True, "yes"), (False, "no")])
def test_what_is_not_what_was_planned_is_waited_for_while_the_guard_is_being_changed_alone(
    tmp_path: Path, changing: bool, said: str
) -> None:
    owner = '"vm01" e608ed38-c1b9-532e-a769-0156b41e19e1.0 xenbr0'
    (tmp_path / "kept").write_text(made_from(LISTING, "boot", {owner}).text())
    (tmp_path / "changing").touch() if changing else None
    text = "KEPT=kept; CHANGING=changing; ask vm01; as_planned vm01 vif7.0 vm01 xenbr0 && echo yes || echo no"

    assert shell(tmp_path, text, EMPTY, EMPTY, LISTED).stdout == f"{said}\n"
    assert shell(tmp_path, text, LISTED).stdout == "yes\n"


@pytest.mark.parametrize("asked_before", [True, False], ids=["before it", "behind it"])
def test_a_change_of_the_guard_that_ends_between_two_readings_blocks_nobody(
    tmp_path: Path, asked_before: bool
) -> None:
    """The kernel's answer is from before a change and the file from behind it, or the file changes while it is read."""
    owner = '"vm01" e608ed38-c1b9-532e-a769-0156b41e19e1.0 xenbr0'
    (tmp_path / "kept").write_text(made_from(LISTING, "boot", {owner}).text())
    (tmp_path / "old").write_text(made_from(LISTING.replace(".102", ".103"), "boot", {owner}).text())
    (tmp_path / "older").write_text(LISTING.replace(".102", ".103"))
    # The first line of the one file and the rest of the other.
    torn = 'sha256sum() { [ -e old ] && { rm old; echo "0 -"; } || command sha256sum; }'
    text = "KEPT=kept; CHANGING=changing; ask vm01; as_planned vm01 vif7.0 vm01 xenbr0 && echo yes || echo no"

    answers = ("ok older", LISTED) if asked_before else (LISTED, LISTED)
    assert shell(tmp_path, text if asked_before else f"{torn}; {text}", *answers).stdout == "yes\n"


def test_what_a_port_is_given_reads_the_same_from_the_kernel_and_from_what_was_kept(tmp_path: Path) -> None:
    script = made_from(LISTING, "boot").script

    for text in (LISTING, script):
        (tmp_path / "text").write_text(text)
        assert shell(tmp_path, "elements_of vm01 <text").stdout == GIVEN
    assert shell(tmp_path, "elements_of vm0 <text").stdout == ""
    assert shell(tmp_path, "elements_of nobody <text").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "owner", "plans"),
    [
        ("vm01 vif7.0 vm01 xenbr0", f'"vm01" {UUID}.0 xenbr0', True),
        ("vm01 vif7.0 vm01 xenbr1", f'"vm01" {UUID}.0 xenbr0', False),
        ("vm01 vif7.0 vm01 xenbr0", f'"vm01" {UUID}.1 xenbr0', False),
        ("vm01 vif7.0 vm01 xenbr0", f'"vm01" {UUID[::-1]}.0 xenbr0', False),
        ("vm01 vif7.0 vm01 xenbr0", f'"vm011" {UUID}.0 xenbr0', False),
        ("vm01 vif7.0 vm01 xenbr0", "", False),
    ],
)
def test_a_named_port_has_a_plan_for_that_vif_of_that_domu_on_that_bridge_alone(
    tmp_path: Path, arguments: str, owner: str, plans: bool
) -> None:
    text = made_from(LISTING, "boot", {owner} - {""}).text()
    (tmp_path / "kept").write_text(text)

    assert shell(tmp_path, f"KEPT=kept; planned {arguments}").stdout == (GIVEN if plans else "")
    (tmp_path / "kept").write_text(text.replace("172.16.39.102", "172.16.39.103"))
    assert shell(tmp_path, f"KEPT=kept; planned {arguments}").stdout == ""
    (tmp_path / "kept").unlink()
    assert shell(tmp_path, f"KEPT=kept; planned {arguments}").stdout == ""


def test_a_port_without_a_name_is_planned_by_the_template_of_its_vif(tmp_path: Path) -> None:
    line = 'add element bridge domgit own_mac { "@PORT@" . 00:16:3e:00:00:01, "@PORT@-emu" . 00:16:3e:00:00:01 }\n'
    (tmp_path / f"{UUID}.0.nft").write_text(line)
    text = "TEMPLATES=.; vif=vif7.0; planned vif7.0 vif7.0"

    assert shell(tmp_path, f"{text} vif7.0 xenbr0").stdout == 'own_mac "vif7.0" . 00:16:3e:00:00:01\n'
    assert shell(tmp_path, f"{text} vif7.0-emu xenbr0").stdout == 'own_mac "vif7.0-emu" . 00:16:3e:00:00:01\n'
    (tmp_path / f"{UUID}.0.nft").rename(tmp_path / f"{UUID}.1.nft")
    assert shell(tmp_path, f"{text} vif7.0 xenbr0").stdout == ""
