"""What is made of counters, bindings and the kernel's log: violations, rates, since-whens, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler import tally
from reconciler.guard import nftables
from reconciler.guard.loaded import Bound, bound
from reconciler.metrics import metrics_text
from reconciler.tally import Since, Tally
from reconciler.violations import Moment, Owner, last_frames, packets, violation_facts, violation_lines
from state.drops import Count, Drops, OpenFor, parse_drops
from state.run import ReadError
from tests.unit.captures import GUARD, capture

NOW = Moment(datetime(2026, 11, 28, 1, 0, 0, tzinfo=UTC), 36000.0)
OWNERS = {"vm01": Owner("vm01", 0), "vm02": Owner("customer", 1), "vm03": Owner("vm03", 0)}
TABLE = """table bridge domgit {
	map ports {
		type ifname : verdict
		elements = { "vm01" : goto from_guest, "vm02" : goto from_guest }
	}

	set audited {
		type ifname
		elements = { "vm02" }
	}

	set own_mac {
		type ifname . ether_addr
		elements = { "vm01" . 00:16:3e:7c:1f:65, "vm02" . 00:16:3e:7c:1f:66 }
	}

	set own_v4 {
		type ifname . ether_addr . ipv4_addr
		elements = { "vm01" . 00:16:3e:7c:1f:65 . 172.16.39.101 }
	}

	set own_net6 {
		type ifname . ether_addr . ipv6_addr
		flags interval
		elements = { "vm01" . 00:16:3e:7c:1f:65 . 2001:db8:1::/64 }
	}

	set bypassed {
		type ifname . ether_addr
		flags timeout
		elements = { "vm01" . 00:16:3e:7c:1f:65 timeout 1h expires 59m3s996ms comment "until 2026-11-28T02:00:00Z" }
	}

	set count_v4 {
		type ifname
		size 65535
		flags dynamic,timeout
		counter
		timeout 30d
		elements = { "vm02" counter packets 7 bytes 203 expires 29d23h59m59s996ms, "vif7.0" counter packets 1 bytes 60 }
	}

	set count_arp {
		type ifname
		elements = { "vm01" counter packets 300 bytes 8400 expires 29d, "odd" }
	}

	chain log_refused {
		update @log_share { iifname limit rate 5/minute burst 2 packets } limit rate 10/minute burst 3 packets log prefix "Dropped: " level debug
	}
}
"""
DROPS = parse_drops(TABLE)
ARP = "7,1,35990000000,-;Dropped: IN=vm01 OUT= ARP HTYPE=1 PTYPE=0x0800 OPCODE=1 MACSRC=00:16:3e:7c:1f:65 IPSRC=172.16.39.1 MACDST=00:00:00:00:00:00 IPDST=172.16.39.9\n"
UDP = "7,1,35000000000,-;Dropped: IN=vm02 OUT= MAC=00:00:5e:00:53:0b:00:16:3e:7c:1f:66:08:00 SRC=192.0.2.11 DST=192.0.2.21 LEN=31 PROTO=UDP SPT=5000 DPT=4321 LEN=11 \n"


def facts(
    records: tuple[str, ...] = (ARP, UDP), before: Tally | None = None, drops: Drops = DROPS
) -> list[dict[str, Any]]:
    return violation_facts(drops, OWNERS, last_frames(records, "Dropped: "), now=NOW, before=before)


def test_counters_are_read_by_port_and_reason_and_what_is_none_of_ours_is_left_out() -> None:
    assert DROPS.counts == {
        "vm01": {"arp": Count(300, 8400)},
        "vm02": {"v4": Count(7, 203)},
        "vif7.0": {"v4": Count(1, 60)},
    }
    assert DROPS.prefix == "Dropped: "
    assert DROPS.bypassed == {"vm01": OpenFor("00:16:3e:7c:1f:65", 59 * 60 + 3, "until 2026-11-28T02:00:00Z")}


def test_counters_are_read_of_a_kernel_that_shows_a_sets_own_timeout_at_each_element() -> None:
    """Linux 6.1 does, 6.18 does not. Taken on a real dom0 whose second guest had forged frames."""
    counts = parse_drops(capture("nft-list-table-1.0.6-counted-by-linux-6-1.txt")).counts

    assert counts["vm02"] == {
        "arp": Count(2, 56),
        "dhcp": Count(2, 560),
        "mac": Count(11, 642),
        "nd": Count(2, 144),
        "router": Count(2, 128),
        "type": Count(2, 88),
        "v4": Count(10, 592),
    }
    assert counts["mail-b"] == {"arp": Count(1, 28)}


@pytest.mark.parametrize("end", [0, 20, len(TABLE) - 3])
def test_a_listing_that_was_cut_short_is_refused(end: int) -> None:
    with pytest.raises(ReadError):
        parse_drops(TABLE[:end])


def test_what_a_port_is_bound_to_is_the_kernels_word() -> None:
    assert bound(DROPS.table) == {
        "vm01": Bound(
            "00:16:3e:7c:1f:65",
            ("172.16.39.101", "2001:db8:1::/64"),
            "enforce",
            "until 2026-11-28T02:00:00Z",
        ),
        "vm02": Bound("00:16:3e:7c:1f:66", (), "audit"),
    }


def test_what_a_human_has_opened_makes_no_plan_stale() -> None:
    table = DROPS.table
    closed = replace(table, elements={**table.elements, "bypassed": frozenset()})
    enforced = replace(table, elements={**table.elements, "audited": frozenset()})

    assert repr(table) == repr(closed)
    assert repr(table) != repr(enforced)


def test_what_is_bound_is_what_was_loaded() -> None:
    loaded = replace(DROPS.table, elements=nftables.elements(GUARD))

    found = bound(loaded)

    assert sorted(found) == ["vm01", "vm02", "vm03", "vm03-emu"]
    assert found["vm01"].addresses == (
        "172.16.39.101",
        "172.16.39.64/29",
        "2001:db8:39::101",
        "fe80::216:3eff:fe7c:1f65",
    )
    assert found["vm02"].mode == "audit"


def test_who_sends_most_comes_first_with_what_he_claims_and_what_is_bound() -> None:
    first, second, third = facts()

    assert first == {
        "vif": "vm01",
        "domu": "vm01",
        "index": 0,
        "mode": "bypassed",
        "packets": 300,
        "reasons": [{"reason": "arp", "packets": 300, "bytes": 8400, "packets_per_minute": None}],
        "bound": {"mac": "00:16:3e:7c:1f:65", "addresses": ["172.16.39.101", "2001:db8:1::/64"]},
        "last_frame": {
            "time": "2026-11-28T00:59:50Z",
            "untrusted_kind": "ARP request",
            "untrusted_mac": None,
            "untrusted_sender_mac": "00:16:3e:7c:1f:65",
            "untrusted_source": "172.16.39.1",
            "untrusted_target": "172.16.39.9",
        },
    }
    assert (second["vif"], second["domu"], second["index"], second["mode"]) == (
        "vm02",
        "customer",
        1,
        "audit",
    )
    assert (third["vif"], third["domu"], third["mode"], third["bound"]) == ("vif7.0", None, "unknown", None)
    assert third["last_frame"] is None


def test_the_last_line_of_a_port_counts() -> None:
    later = ARP.replace("35990000000", "35995000000").replace("172.16.39.1 ", "172.16.39.2 ")

    first = facts((ARP, UDP, later))[0]

    assert first["last_frame"]["untrusted_source"] == "172.16.39.2"


@pytest.mark.parametrize(
    ("before", "rates"),
    [
        (None, [None, None, None]),
        (Tally("t", 35880.0, {"vm01": {"arp": 100}, "vm02": {"v4": 7}}), [100.0, 0.0, 0.5]),
        (Tally("t", 35880.0, {"vm01": {"arp": 900}}), [150.0, 3.5, 0.5]),  # a counter that began anew
        (Tally("t", 36000.0, {"vm01": {"arp": 100}}), [None, None, None]),  # no time has passed
    ],
)
def test_rates_are_since_the_look_before(before: Tally | None, rates: list[float | None]) -> None:
    assert [each["reasons"][0]["packets_per_minute"] for each in facts(before=before)] == rates


def shown(found: list[dict[str, Any]], **more: Any) -> str:
    said = {"violations": found, "rates_since": None, "kernel_log": True, **more}
    return "\n".join(violation_lines(said))


def test_what_a_terminal_shows() -> None:
    text = shown(
        facts(before=Tally("t", 35880.0, {"vm01": {"arp": 100}})), rates_since="2026-11-28T00:58:00Z"
    )

    assert text == (
        "rates since 2026-11-28T00:58:00Z\n"
        "vm01  domu.vm01.vif.0: 300 packets counted, bypassed now\n"
        "    arp      300 packets, 100 a minute\n"
        "    bound    00:16:3e:7c:1f:65: 172.16.39.101, 2001:db8:1::/64\n"
        "    last     2026-11-28T00:59:50Z ARP request says that 00:16:3e:7c:1f:65 has 172.16.39.1 asks for 172.16.39.9\n"
        "vm02  domu.customer.vif.1: 7 packets would have been dropped (audit)\n"
        "    v4       7 packets, 3.5 a minute\n"
        "    bound    00:16:3e:7c:1f:66: no addresses\n"
        "    last     2026-11-28T00:43:20Z UDP 5000 to 4321 from 00:16:3e:7c:1f:66 as 192.0.2.11 to 192.0.2.21\n"
        "vif7.0  no domU: 1 packets of an unknown vif\n"
        "    v4       1 packets, 0.5 a minute\n"
        "    last     not known: the kernel's log has no line of it"
    )


def test_what_is_not_known_is_said() -> None:
    assert shown([]).startswith("No violations")
    assert shown(facts()).startswith("no rates: nothing is remembered since boot")
    assert "not known: the kernel's log cannot be read" in shown(facts(()), kernel_log=False)


# ---------------------------------------------------------------- what is remembered

AUDITED = {"vm02": Bound("00:16:3e:7c:1f:66", (), "audit"), "vm01": Bound("00:16:3e:7c:1f:65", (), "enforce")}


def taken(
    before: Tally | None, counts: Mapping[str, Mapping[str, int]], held: Mapping[str, Bound] = AUDITED
) -> Tally:
    return tally.taken(before, held, counts, time="now", uptime_s=100.0)


def test_since_when_a_vif_is_audited_is_kept_for_as_long_as_it_is_that_vif_and_its_counters_go_on() -> None:
    first = taken(None, {"vm02": {"v4": 5}, "vm01": {"arp": 1}})
    known = Tally("t", 50.0, {}, {"vm02": Since("then", "00:16:3e:7c:1f:66", "audit", {"v4": 5})})

    assert first.audited == {"vm02": Since("now", "00:16:3e:7c:1f:66", "audit", {"v4": 5})}
    assert first.counts == {"vm01": {"arp": 1}, "vm02": {"v4": 5}}
    assert taken(known, {"vm02": {"v4": 9}}).audited == known.audited
    # Its counters were lost with the table, another vif has its name, or it was enforced meanwhile.
    assert taken(known, {"vm02": {"v4": 4}}).audited["vm02"].time == "now"
    other = {"vm02": Bound("00:16:3e:7c:1f:99", (), "audit")}
    assert taken(known, {"vm02": {"v4": 9}}, other).audited["vm02"] == Since(
        "now", "00:16:3e:7c:1f:99", "audit", {"v4": 9}
    )
    assert taken(known, {}, {"vm02": replace(AUDITED["vm02"], mode="enforce")}).audited == {}


def test_what_was_remembered_comes_back_and_what_is_damaged_or_from_before_a_reboot_does_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "run" / "tally.json"
    look = taken(None, packets(DROPS))
    tally.save(file, look)

    assert tally.load(file, 100.0) == look
    assert tally.load(file, 99.0) is None
    file.write_text("{", encoding="utf-8")
    assert tally.load(file, 200.0) is None
    assert tally.load(tmp_path / "none", 200.0) is None


# ---------------------------------------------------------------- metrics


def test_metrics_carry_the_same_counts() -> None:
    text = metrics_text(DROPS, OWNERS, taken_s=1764291600.0)

    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "domgit_guard_loaded 1",
        'domgit_guard_vifs{mode="audit"} 1',
        'domgit_guard_vifs{mode="bypassed"} 1',
        'domgit_guard_vifs{mode="enforce"} 0',
        'domgit_guard_drops_total{vif="vif7.0",domu="",reason="v4",mode="unknown"} 1',
        'domgit_guard_drops_total{vif="vm01",domu="vm01",reason="arp",mode="bypassed"} 300',
        'domgit_guard_drops_total{vif="vm02",domu="customer",reason="v4",mode="audit"} 7',
        'domgit_guard_drop_bytes_total{vif="vif7.0",domu="",reason="v4",mode="unknown"} 60',
        'domgit_guard_drop_bytes_total{vif="vm01",domu="vm01",reason="arp",mode="bypassed"} 8400',
        'domgit_guard_drop_bytes_total{vif="vm02",domu="customer",reason="v4",mode="audit"} 203',
        "domgit_guard_read_timestamp_seconds 1764291600",
    ]
    assert text.count("# TYPE ") == text.count("# HELP ") == 5
    assert text.endswith("\n")


def test_a_guard_that_is_not_loaded_shows_in_the_metrics() -> None:
    assert "domgit_guard_loaded 0\n" in metrics_text(None, {}, taken_s=0)


def test_labels_are_escaped() -> None:
    odd = replace(DROPS, counts={'a"\\b': {"v4": Count(1, 2)}})

    assert 'vif="a\\"\\\\b"' in metrics_text(odd, {}, taken_s=0)
