"""What the contract is checked with: two domUs and their guard, and short words for looking at a place."""

from __future__ import annotations

from reconciler.config import Paths
from reconciler.diff_guard import specified_guard
from reconciler.guard.binding import Guard
from reconciler.guard_kept import made_from
from schemas.fleet import view
from state.desired import Desired, DomU
from state.nft import LoadedTable, read_listing, read_table
from state.observed import Domain
from state.resolve import resolve
from tests.model.places import Place, domain_of
from tests.unit.fleets import documents, domu, fleet_of, host, network

MAC, OTHER_MAC, FREE_MAC = "00:16:3e:00:53:01", "00:16:3e:00:53:02", "00:16:3e:00:53:07"
# vm01's vif as it is when all is well: index, MAC, bridge, port, rate, state of its script.
FIRST = (0, MAC, "xenbr0", "vm01", (62500, 50000), "connected")


def desired(**changes: str) -> Desired:
    """Two domUs with a vif each; `changes` are further keys of vm01's vif."""
    more = "".join(f", {key}: {value}" for key, value in changes.items())
    files = {
        **host(),
        **network("a", "172.16.39.0/24", "172.16.39.1"),
        **network("a6", "2001:db8:39::/64", "2001:db8:39::1"),
        **network("b6", "2001:db8:39:1::/64", "2001:db8:39:1::1"),
        **domu("vm01", f'name: vm01, mac: "{MAC}", rate: 10Mb/s, guard: enforce{more}'),
        **domu("vm02", f'name: vm02, mac: "{OTHER_MAC}", ips: [172.16.39.102], guard: enforce'),
    }
    fleet = fleet_of(files)
    assert fleet.valid, fleet.diagnostics
    found = view(fleet, "dom0-a")
    assert found.host is not None
    return resolve(found.host, documents(found), networks=found.networks)


def vm01() -> DomU:
    return desired().domus[0]


def guard_of(wanted: Desired) -> Guard:
    return specified_guard(wanted.host, wanted.domus)


def run(place: Place, *argv: str, stdin: str = "") -> int:
    return place.runner.run(argv, stdin=stdin, timeout_s=90.0).rc


def load(place: Place, script: str) -> None:
    """Load a guard, and keep it as a pass does: the hotplug script holds each vif of the two domUs against that."""
    done = place.runner.run(("nft", "-f", "-"), stdin=script)
    assert done.rc == 0, done.stderr
    owners = {
        f'"{vif.name}" {domu.uuid}.{vif.index} {vif.bridge}' for domu in desired().domus for vif in domu.vifs
    }
    if read_table(place.runner) is not None:
        kept = made_from(read_listing(place.runner), "boot", owners)
        place.write(str(Paths().guard / "boot.nft"), kept.text())


def table(place: Place) -> LoadedTable:
    found = read_table(place.runner)
    assert found is not None
    return found


def living(place: Place, name: str = "vm01") -> Domain:
    found = domain_of(place, name)
    assert found is not None
    return found


def vifs(domain: Domain) -> list[tuple[int, str, str, str, object, str]]:
    return [
        (each.index, each.mac, each.bridge, each.interface, each.rate, each.hotplug_status)
        for each in domain.vifs
    ]
