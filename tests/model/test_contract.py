"""The dom0 in memory answers as the real tools do: the same commands, the same sights through the real parsers.

`python -m tests.dom0 -- python -m pytest -m dom0 tests/model` checks the simulated dom0 against the same sentences.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler import hotplug
from reconciler.guard import nftables, port_lock
from reconciler.render_xl import render_xl
from state.nft import probe_features
from state.observed import observe_for
from state.run import TornError
from state.xenstore import read_vifs
from state.xl import read_saved
from tests.model.places import Place, domain_of, seen
from tests.model.subjects import (
    FIRST,
    FREE_MAC,
    MAC,
    desired,
    guard_of,
    living,
    load,
    run,
    table,
    vifs,
    vm01,
)


def test_a_created_domain_is_listed_with_what_it_was_given(guarded: Place) -> None:
    domain = living(guarded)

    assert domain.running
    assert vifs(domain) == [FIRST]
    assert domain.uuid == vm01().uuid
    saved = domain.saved
    assert saved is not None
    assert (saved.memory_mib, saved.max_memory_mib, saved.vcpus, saved.max_vcpus) == (256, 256, 1, 1)
    assert (saved.kernel, saved.on_poweroff, saved.on_reboot) == ("/srv/xen/vmlinuz", "preserve", "restart")
    assert [(disk.vdev, disk.path, disk.writable) for disk in saved.disks] == [
        ("xvda", "/srv/xen/images/vm01.img", True)
    ]
    assert [(vif.interface, vif.script, vif.rate) for vif in saved.vifs] == [
        ("vm01", "vif-domgit", (62500, 50000))
    ]
    assert "/etc/xen/vm01.cfg" in seen(guarded).monitors
    assert "/srv/xen/images/vm01.img" in guarded.files.holders(["/srv/xen/images/vm01.img"])


def test_one_domain_alone_is_read_as_among_all_others(guarded: Place) -> None:
    assert run(guarded, "xl", "create", "-q", "-f", "/etc/xen/vm02.cfg") == 0
    guarded.wait(lambda: all(each.vifs and each.saved for each in seen(guarded).domains), "both up")
    both = seen(guarded)

    alone = observe_for(guarded.runner, guarded.files, [f"memory:{vm01().uuid}", "name:vm02"])

    assert alone.by_uuid[vm01().uuid] == both.by_uuid[vm01().uuid]
    assert [(each.domid, each.uuid, each.name) for each in alone.domains] == [
        (each.domid, each.uuid, each.name) for each in both.domains
    ]
    assert [each.saved is None for each in alone.domains] == [False, True]
    domid = both.domains[-1].domid + 1
    assert read_vifs(guarded.runner, [domid]) == ()
    with pytest.raises(TornError):
        read_saved(guarded.runner, [domid])


def test_a_port_comes_up_locked_to_its_mac(guarded: Place) -> None:
    found = seen(guarded)

    port = found.ports["vm01"]
    assert (port.bridge, port.locked, port.learning) == ("xenbr0", True, False)
    assert found.links["vm01"].up
    assert [(each.mac, each.static, each.sticky) for each in found.fdb if each.port == "vm01"] == [
        (MAC, True, True)
    ]


def test_a_port_is_unlocked_and_locked_again(guarded: Place) -> None:
    for argv in port_lock.unlock("vm01", MAC):
        assert run(guarded, *argv) == 0
    opened = seen(guarded)
    for argv in port_lock.lock("vm01", MAC):
        assert run(guarded, *argv) == 0
    closed = seen(guarded)

    assert (opened.ports["vm01"].locked, opened.ports["vm01"].learning) == (False, True)
    assert not [each for each in opened.fdb if each.port == "vm01" and each.static]
    assert (closed.ports["vm01"].locked, closed.ports["vm01"].learning) == (True, False)
    assert [(each.mac, each.sticky) for each in closed.fdb if each.port == "vm01" and each.static] == [
        (MAC, True)
    ]


def test_a_port_taken_off_its_bridge_forgets_its_lock(guarded: Place) -> None:
    assert run(guarded, "ip", "link", "set", "dev", "vm01", "nomaster") == 0
    without = seen(guarded)
    assert run(guarded, "ip", "link", "set", "dev", "vm01", "master", "xenbr0") == 0
    again = seen(guarded)

    assert "vm01" not in without.ports
    assert not [each for each in without.fdb if each.port == "vm01" and each.static]
    assert (again.ports["vm01"].locked, again.ports["vm01"].learning) == (False, True)


def test_a_vif_without_a_binding_is_refused_and_stays_behind(guarded: Place) -> None:
    domid = str(living(guarded).domid)
    arguments = (f"mac={FREE_MAC}", "bridge=xenbr0", "vifname=extra", "script=vif-domgit")

    refused = run(guarded, "xl", "network-attach", domid, "devid=1", *arguments)
    left = living(guarded)
    ports = seen(guarded).ports
    taken = run(guarded, "xl", "network-attach", domid, "devid=1", *arguments)
    detached = run(guarded, "xl", "network-detach", domid, "1")
    again = run(guarded, "xl", "network-detach", domid, "1")

    assert (refused, taken, detached, again) == (1, 1, 0, 1)
    assert vifs(left) == [FIRST, (1, FREE_MAC, "xenbr0", "extra", None, "error")]
    assert left.saved is not None
    assert [vif.index for vif in left.saved.vifs] == [0, 1]
    assert "extra" not in ports
    assert vifs(living(guarded)) == [FIRST]


def test_a_vif_is_detached_and_attached_again(guarded: Place) -> None:
    domid = str(living(guarded).domid)

    detached = run(guarded, "xl", "network-detach", domid, "0")
    without, links = living(guarded), seen(guarded).links
    arguments = (f"mac={MAC}", "bridge=xenbr0", "vifname=vm01", "script=vif-domgit")
    attached = run(guarded, "xl", "network-attach", domid, "devid=0", *arguments)

    assert (detached, attached) == (0, 0)
    assert vifs(without) == []
    assert "vm01" not in links
    assert vifs(living(guarded)) == [(0, MAC, "xenbr0", "vm01", None, "connected")]
    assert seen(guarded).ports["vm01"].locked


@pytest.mark.parametrize(
    "part", ["bridge=nobr", "vifname=vm01"], ids=["a bridge that is not there", "a name that is taken"]
)
def test_a_vif_with(guarded: Place, part: str) -> None:
    assert run(guarded, "xl", "create", "-q", "-f", "/etc/xen/vm02.cfg") == 0
    domid = str(living(guarded, "vm02").domid)
    parts = {"bridge": "xenbr0", "vifname": "extra"} | dict([part.split("=")])
    arguments = [f"mac={MAC}", *(f"{key}={value}" for key, value in parts.items()), "script=vif-domgit"]

    assert run(guarded, "xl", "network-attach", domid, "devid=1", *arguments) == 1
    assert [each.hotplug_status for each in living(guarded, "vm02").vifs] == ["connected", "error"]
    assert seen(guarded).ports["vm01"].locked


def test_memory_and_vcpus_change_up_to_their_ceilings(guarded: Place) -> None:
    domid, free = str(living(guarded).domid), seen(guarded).free_memory_mib

    assert run(guarded, "xl", "mem-set", domid, "200") == 0
    assert run(guarded, "xl", "mem-set", domid, "300") == 1
    assert run(guarded, "xl", "vcpu-set", domid, "2") == 1
    saved = living(guarded).saved
    assert saved is not None
    assert (saved.memory_mib, saved.max_memory_mib, saved.vcpus) == (200, 256, 1)
    guarded.wait(lambda: seen(guarded).free_memory_mib == free + 56, "ballooned")


def test_a_rate_is_what_xenstore_says_and_what_was_saved_stays(guarded: Place) -> None:
    path = f"/local/domain/0/backend/vif/{living(guarded).domid}/0/rate"

    assert run(guarded, "xenstore-write", path, "1000,50000") == 0
    limited = living(guarded)
    assert run(guarded, "xenstore-rm", path) == 0
    free = living(guarded)

    assert [vif.rate for vif in limited.vifs] == [(1000, 50000)]
    assert [vif.rate for vif in free.vifs] == [None]
    assert free.saved is not None
    assert [vif.rate for vif in free.saved.vifs] == [(62500, 50000)]


def test_a_name_is_changed_unless_another_has_it(guarded: Place) -> None:
    assert run(guarded, "xl", "create", "-q", "-f", "/etc/xen/vm02.cfg") == 0
    domid = str(living(guarded).domid)

    assert run(guarded, "xl", "rename", domid, "vm02") == 1
    assert run(guarded, "xl", "rename", domid, "vm03") == 0
    renamed = living(guarded, "vm03")
    assert (renamed.domid, renamed.uuid) == (int(domid), vm01().uuid)
    assert renamed.saved is not None
    assert renamed.saved.name == "vm03"


def test_a_staged_configuration_comes_with_the_guests_own_reboot(guarded: Place) -> None:
    before = living(guarded)
    boot = vm01().boot
    assert boot is not None
    text = render_xl(replace(vm01(), max_memory_mib=320, boot=replace(boot, cmdline="root=/dev/xvda")))
    guarded.write("/etc/xen/vm01.cfg", text)

    assert run(guarded, "xl", "config-update", str(before.domid), "/etc/xen/vm01.cfg") == 0
    staged = living(guarded)
    guarded.guest("vm01", "reboot")
    guarded.wait(
        lambda: (now := domain_of(guarded, "vm01")) is not None and now.domid != before.domid, "the next boot"
    )
    guarded.wait(lambda: living(guarded).saved is not None, "created whole")
    after = living(guarded)

    assert staged.staged == text
    assert staged.saved == before.saved
    assert after.saved is not None
    assert (after.saved.cmdline, after.saved.max_memory_mib) == ("root=/dev/xvda", 320)
    assert after.staged is None
    assert vifs(after) == [FIRST]


def test_live_changes_outlive_a_reboot_without_a_staged_configuration(guarded: Place) -> None:
    before = living(guarded)
    assert run(guarded, "xl", "mem-set", str(before.domid), "200") == 0
    assert run(guarded, "xl", "network-detach", str(before.domid), "0") == 0

    guarded.guest("vm01", "reboot")
    guarded.wait(
        lambda: (now := domain_of(guarded, "vm01")) is not None and now.domid != before.domid, "the next boot"
    )
    guarded.wait(lambda: living(guarded).saved is not None, "created whole")

    after = living(guarded)
    assert after.saved is not None
    assert after.saved.memory_mib == 200
    assert vifs(after) == []


def test_a_guest_whose_binding_is_gone_does_not_come_back(guarded: Place) -> None:
    assert run(guarded, "nft", "flush", "ruleset") == 0

    guarded.guest("vm01", "reboot")

    guarded.wait(lambda: not seen(guarded).domains and not seen(guarded).monitors, "refused by the script")
    assert "vm01" not in seen(guarded).links


def test_a_poweroff_is_preserved_without_a_monitor_until_somebody_destroys_it(guarded: Place) -> None:
    guarded.guest("vm01", "poweroff")
    guarded.wait(lambda: living(guarded).shutdown is not None, "the poweroff")
    guarded.wait(lambda: not seen(guarded).monitors, "the end of its monitor")
    there = living(guarded)

    assert there.shutdown == "poweroff"
    assert not there.running
    assert there.saved is not None
    assert run(guarded, "xl", "destroy", str(there.domid)) == 0
    assert domain_of(guarded, "vm01") is None
    assert "vm01" not in seen(guarded).links


def test_a_guest_that_is_asked_to_shut_down_powers_off(guarded: Place) -> None:
    domid = str(living(guarded).domid)
    guarded.wait(lambda: vifs(living(guarded)) == [FIRST], "up")

    assert run(guarded, "xl", "shutdown", domid) == 0
    guarded.wait(lambda: living(guarded).shutdown == "poweroff", "the poweroff")


def test_a_destroyed_domain_leaves_nothing(guarded: Place) -> None:
    assert run(guarded, "xl", "destroy", str(living(guarded).domid)) == 0

    found = seen(guarded)
    assert found.domains == ()
    assert found.stale == ()
    assert "vm01" not in found.links
    guarded.wait(lambda: not guarded.files.holders(["/srv/xen/images/vm01.img"]), "the loop device is let go")


def test_a_vif_without_a_name_gets_its_binding_from_the_script(place: Place) -> None:
    wanted = desired()
    unnamed = replace(vm01(), vifs=(replace(vm01().vifs[0], name=None),))
    place.write(hotplug.PATH, hotplug.script())
    place.make_image(unnamed.disks[0].path)
    load(place, nftables.full(guard_of(replace(wanted, domus=())), probe_features(place.runner)))
    change = next(
        hotplug.diff_templates(
            unnamed,
            replace(seen(place), files={hotplug.template_path(unnamed, unnamed.vifs[0]): None}),
            None,
            "nftables",
        )
    )
    place.write(hotplug.template_path(unnamed, unnamed.vifs[0]), getattr(change.steps[0], "text"))  # noqa: B009  # a union
    place.write("/etc/xen/vm01.cfg", render_xl(unnamed))

    assert run(place, "xl", "create", "-q", "-f", "/etc/xen/vm01.cfg") == 0

    port = f"vif{living(place).domid}.0"
    assert seen(place).ports[port].locked
    assert table(place).elements["own_mac"] == {f'"{port}" . {MAC}'}
