"""What xl refuses, with which exit status and words, and what it leaves behind."""

from __future__ import annotations

import json

import pytest

from state.xl import parse_info
from tests.contract.here import marks
from tests.contract.host import MAX_MEMORY_MIB, MEMORY_MIB, Host, mac_of, uuid_of

pytestmark = marks(60)

NOBODY = "32000"  # a domid that Xen could give and has not
NUMBER, MAC = 150, mac_of(150)
GONE = f"Error: Domain '{NOBODY}' does not exist."
NO_TYPE = f"unable to get domain type for domid={NOBODY}"


@pytest.mark.parametrize(
    ("command", "rc", "reason"),
    [
        ("list {}", 1, GONE),
        ("list --long {}", 1, GONE),
        ("domname {}", 1, f"Can't get domain name of domain id '{NOBODY}'"),
        ("shutdown {}", 1, "shutdown failed (rc=-3)"),
        ("reboot {}", 1, "reboot failed (rc=-3)"),
        ("destroy {}", 1, f"Domain {NOBODY}:Non-existant domain"),
        ("rename {} name", 1, f"Can't rename domain '{NOBODY}'."),
        ("mem-set {} 64", 1, f"cannot set domid {NOBODY} dynamic max memory to : 64"),
        ("vcpu-set {} 1", 1, ""),
        ("network-attach {} mac=00:16:3e:00:53:01 bridge=xenbr0", 1, NO_TYPE),
        ("network-detach {} 0", 1, "Unknown device 0."),
        ("block-attach {} format=raw,vdev=xvdb,access=rw,target=/dev/zero", 1, NO_TYPE),
        ("block-detach {} xvdb", 1, "Device xvdb not connected."),
        # These fail as well, but do not say so.
        ("pause {}", 0, "Pausing domain: No such process"),
        ("unpause {}", 0, NO_TYPE),
        ("network-list {}", 0, ""),
        ("block-list {}", 0, ""),
    ],
    ids=lambda value: value.replace(" {}", "") if isinstance(value, str) and "{}" in value else "",
)
def test_a_domid_that_nobody_has(host: Host, command: str, rc: int, reason: str) -> None:
    done = host.xl(*command.format(NOBODY).split())

    assert done.rc == rc
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("verb", "rc"),
    [("list", 1), ("destroy", 1), ("shutdown", 1), ("pause", 1), ("network-list", 1), ("block-list", 0)],
)
def test_a_name_that_nobody_has(host: Host, verb: str, rc: int) -> None:
    done = host.xl(verb, "nobody")

    assert done.rc == rc
    assert "nobody is an invalid domain identifier" in done.stderr


def test_the_domid_of_a_name_that_nobody_has_is_not_told(host: Host) -> None:
    done = host.xl("domid", "nobody")

    assert (done.rc, done.stdout) == (1, "")
    assert "Can't get domid of domain name 'nobody'" in done.stderr


def test_dom0_itself_is_not_destroyed(host: Host) -> None:
    done = host.xl("destroy", "0")

    assert done.rc == 1
    assert "Not destroying domain 0" in done.stderr


@pytest.mark.parametrize(
    ("changes", "rc", "reason"),
    [
        ({"kernel": '"/srv/xen/missing"'}, 3, "xc_dom_kernel_file failed: No such file or directory"),
        ({"ramdisk": '"/srv/xen/missing"'}, 3, "xc_dom_ramdisk_file failed"),
        ({"vif": '["mac=00:16:3e:00:53:01,bridge=nobr"]'}, 3, "Could not find bridge device nobr"),
        ({"vif": '["bridge=xenbr0,vifname=sixteen-letters-"]'}, 3, "exited with error status"),
        ({"vif": '["bridge=xenbr0,script=/srv/xen/missing"]'}, 3, "exited with error status 255"),
        ({"disk": '["format=raw,vdev=xvda,access=rw,target=/srv/xen/missing"]'}, 3, "failed to stat"),
        ({"memory": "99999", "maxmem": "99999"}, 3, "xc_dom_boot_mem_init failed"),
        ({"type": '"paravirtual"'}, 1, "Invalid domain type"),
        ({"kernel": ""}, 1, "Neither kernel nor bootloader specified"),
        ({"vcpus": "3"}, 1, "xl: maxvcpus < vcpus"),
        ({"on_crash": '"sleep"'}, 1, 'Unknown on_crash action "sleep" specified'),
        (
            {"disk": '["format=raw,vdev=xvda,access=rw,nonsense,target=/dev/zero"]'},
            1,
            "config parsing error in disk specification",
        ),
        ({"vif": '["bridge=xenbr0,rate=fast"]'}, 1, "invalid rate in `fast'"),
        ({"memory": "-1"}, 1, "config parsing error"),
    ],
    ids=[
        *("kernel", "ramdisk", "bridge", "long vif name", "script", "disk", "memory"),
        *(
            "unknown type",
            "no kernel",
            "too many vcpus",
            "unknown reaction",
            "no disk",
            "no rate",
            "no configuration",
        ),
    ],
)
def test_a_create_that_fails_leaves_nothing(
    host: Host, changes: dict[str, str], rc: int, reason: str
) -> None:
    rows, ports, path = host.rows(), {*host.network().ports}, host.write("ct-never", NUMBER, **changes)
    backends = host.nodes("/local/domain/0/backend/vif") | host.nodes("/local/domain/0/backend/vbd")

    done = host.xl("create", "-q", "-f", path)

    assert done.rc == rc
    assert reason in done.stderr
    assert host.rows() == rows
    assert host.monitors("ct-never") == 0
    assert {*host.network().ports} == ports
    assert host.loops(host.image("ct-never")) == 0
    # Folders of vifs may stay, with nothing in them that makes one.
    assert {vif.domid for domid in backends for vif in host.vifs(int(domid)).values()} <= {*rows}


def test_a_file_that_is_not_there_is_not_created_from(host: Host) -> None:
    assert host.xl("create", "-q", "-f", "/etc/xen/nobody.cfg").rc == 3


def test_a_dry_run_prints_what_would_be_kept_and_makes_nothing(host: Host) -> None:
    rows = host.rows()
    path = host.write(
        "ct-dry",
        NUMBER,
        vif=f'["vifname=ct-dry,mac={MAC},ip=192.0.2.7,bridge=xenbr0,rate=10Mb/s@20ms"]',
        vfb='["vnc=1,vnclisten=127.0.0.1,vncdisplay=5,vncunused=0,vncpasswd=secret"]',
        on_poweroff='"preserve"',
    )

    done = host.xl("create", "-q", "-n", "-f", path)

    assert (done.rc, done.stderr) == (0, "")
    config = json.loads(done.stdout)
    assert config["c_info"] == {
        "type": "pv",
        "name": "ct-dry",
        "uuid": uuid_of("ct-dry"),
        "run_hotplug_scripts": "True",
    }
    built = config["b_info"]
    assert (built["target_memkb"], built["max_memkb"]) == (MEMORY_MIB * 1024, MAX_MEMORY_MIB * 1024)
    assert (built["avail_vcpus"], built["max_vcpus"]) == ([0], 2)
    assert config["disks"][0] | {"format": "raw", "vdev": "xvda", "readwrite": 1} == config["disks"][0]
    assert config["nics"] == [
        {
            "devid": 0,
            "mac": MAC,
            "ip": "192.0.2.7",
            "bridge": "xenbr0",
            "ifname": "ct-dry",
            "rate_bytes_per_interval": 25000,
            "rate_interval_usecs": 20000,
        }
    ]
    assert config["vfbs"][0]["vnc"] == {
        "enable": "True",
        "listen": "127.0.0.1",
        "passwd": "secret",
        "display": 5,
        "findunused": "False",
    }
    assert (config["on_poweroff"], config["on_reboot"], "on_crash" in config) == (
        "preserve",
        "restart",
        False,
    )
    assert host.rows() == rows


@pytest.mark.parametrize("vif", ["mac=no,bridge=xenbr0", "bridge=xenbr0,colour=red"])
def test_what_is_wrong_with_a_vif_is_said_and_no_error(host: Host, vif: str) -> None:
    done = host.xl("create", "-q", "-n", "-f", host.write("ct-dry", NUMBER, vif=f'["{vif}"]'))

    assert done.rc == 0
    assert done.stderr
    assert "nics" in json.loads(done.stdout)


def test_the_machine_tells_its_version_and_its_memory(host: Host) -> None:
    info = parse_info(host.xl("info").output())

    assert info.version.startswith("4.17")
    assert 0 < info.free_memory_mib < info.total_memory_mib
