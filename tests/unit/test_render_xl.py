"""A domU as the text of its xl configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.render_xl import render_xl, vif_arguments
from state.desired import DomU
from tests.unit.worlds import desired


def domu(**spec: Any) -> DomU:
    return desired({"vm01": spec}).domus[0]


def test_a_configuration_holds_what_the_specification_says() -> None:
    found = domu(
        type="hvm",
        vcpus="2",
        maxVcpus="4",
        vifs=[
            {"ips": ["172.16.39.101", "172.16.39.64/29", "2001:db8:39::101"], "rate": "10Mb/s"},
            {"name": "none", "ips": []},
        ],
        disks=[{}, {"access": "ro", "format": "qcow2"}],
        console={"vnc": {"listen": "127.0.0.1", "display": "5"}},
        boot={
            "phase": "install",
            "install": {"kernel": "/srv/xen/k", "ramdisk": "/srv/xen/r", "cdrom": "/srv/xen/i.iso"},
            "run": {"kernel": "/srv/xen/k"},
        },
    )

    assert render_xl(found) == (
        "# Written by domgit from hosts/dom0-a/domus/vm01.yaml: edit that file in git, not this one.\n"
        'name = "vm01"\n'
        'uuid = "e608ed38-c1b9-532e-a769-0156b41e19e1"\n'
        'type = "hvm"\n'
        "memory = 256\n"
        "maxmem = 512\n"
        "vcpus = 2\n"
        "maxvcpus = 4\n"
        'kernel = "/srv/xen/k"\n'
        'ramdisk = "/srv/xen/r"\n'
        "disk = [\n"
        '    "format=raw,vdev=xvda,access=rw,target=/srv/xen/images/vm01.img",\n'
        '    "format=qcow2,vdev=xvdb,access=ro,target=/srv/xen/images/vm01b.img",\n'
        '    "format=raw,vdev=hdc,access=ro,devtype=cdrom,target=/srv/xen/i.iso",\n'
        "]\n"
        "vif = [\n"
        '    "mac=00:16:3e:00:53:01,bridge=xenbr0,vifname=vm01,script=vif-domgit,'
        'ip=172.16.39.64/29 172.16.39.101 2001:db8:39::101,rate=10Mb/s",\n'
        '    "mac=00:16:3e:00:51:01,bridge=xenbr0,script=vif-domgit",\n'
        "]\n"
        "vnc = 1\n"
        'vnclisten = "127.0.0.1"\n'
        "vncdisplay = 5\n"
        "vncunused = 0\n"
        'serial = "pty"\n'
        'on_poweroff = "preserve"\n'
        'on_reboot = "preserve"\n'
        'on_crash = "preserve"\n'
    )


def test_what_there_is_none_of_is_an_empty_list() -> None:
    text = render_xl(domu(vifs=[], disks=[]))

    assert "disk = []\n" in text
    assert "vif = []\n" in text
    assert "vfb" not in text
    assert "serial" not in text


def test_a_guest_that_runs_is_restarted_by_its_own_reboot() -> None:
    assert 'on_reboot = "restart"\n' in render_xl(domu())


def test_an_installer_is_started_again_neither_by_its_reboot_nor_by_its_crash() -> None:
    boot = {
        "phase": "install",
        "install": {"kernel": "/srv/xen/k"},
        "run": {"kernel": "/srv/xen/k"},
    }

    assert 'on_reboot = "preserve"\non_crash = "preserve"\n' in render_xl(domu(boot=boot))
    assert 'on_crash = "destroy"\n' in render_xl(domu(boot=boot, onCrash="destroy"))


def test_a_tombstone_has_no_configuration() -> None:
    with pytest.raises(ValueError, match="vm01: a tombstone has no configuration"):
        render_xl(domu(state="absent"))


def test_a_pv_guest_has_its_screen_in_a_frame_buffer() -> None:
    console = {"vnc": {"listen": "127.0.0.1", "display": "5", "passwordSecret": "a"}}

    assert (
        '    "vnc=1,vnclisten=127.0.0.1,vncdisplay=5,vncunused=0,vncpasswd=@domgit-secret:a@",\n'
        in render_xl(domu(console=console))
    )
    assert "vnc" not in render_xl(domu())


def test_an_hvm_guest_without_a_screen_says_so_because_libxl_would_give_it_one_without_a_password() -> None:
    assert "\nvnc = 0\n" in render_xl(domu(type="hvm"))


def test_a_screen_on_an_ipv6_address_has_its_display_behind_it_because_libxl_takes_the_last_colon_for_that() -> (
    None
):
    console = {"vnc": {"listen": "2001:DB8::5", "display": "7"}}

    assert '"vnc=1,vnclisten=[2001:db8::5]:7,vncunused=0"' in render_xl(domu(console=console))
    assert '\nvnclisten = "[2001:db8::5]:7"\nvncunused = 0\n' in render_xl(domu(type="hvm", console=console))


def test_of_many_addresses_those_are_told_that_fit_into_xenstore() -> None:
    addresses = [f"2001:db8:39::1:{number:x}" for number in range(1, 257)]
    told = next(
        each for each in vif_arguments(domu(vifs=[{"ips": addresses}]).vifs[0]) if each.startswith("ip=")
    )

    assert 1900 < len(told) <= 2048 + len("ip=")
    assert addresses[: len(told.split())] == told.removeprefix("ip=").split()


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", "a\x7fb", "a\0b"])
def test_a_value_that_would_end_its_string_is_refused_here_once_more(value: str) -> None:
    found = domu()
    assert found.boot is not None

    with pytest.raises(ValueError, match=r"cmdline: .* cannot be written into an xl configuration"):
        render_xl(replace(found, boot=replace(found.boot, cmdline=value)))


@pytest.mark.parametrize("value", ["a,b", 'a"b', "a\\b", "a\nb"])
@pytest.mark.parametrize("what", ["vif", "disk"])
def test_a_value_that_would_start_another_key_is_refused_here_once_more(what: str, value: str) -> None:
    found = domu()
    broken = (
        replace(found, vifs=(replace(found.vifs[0], bridge=value),))
        if what == "vif"
        else replace(found, disks=(replace(found.disks[0], path=value),))
    )

    with pytest.raises(ValueError, match="cannot be written into a vif, disk or vfb string"):
        render_xl(broken)


def test_a_vif_is_told_to_network_attach_in_the_words_of_the_file() -> None:
    found = domu(vifs=[{"rate": "10Mb/s"}])

    assert f'"{",".join(vif_arguments(found.vifs[0]))}"' in render_xl(found)
