"""Lines by which somebody binds vifs by hand, told from rules that only look like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.foreign.by_hand import Line, LogLine, lines, log_of
from state.foreign import Foreign, parse_rules
from state.netfilter import Rule

CORPUS = Path(__file__).resolve().parents[1] / "cases" / "foreign" / "by-hand.iptables.rules"
OWN = "-s 172.16.39.101/32 -m physdev --physdev-in vm01 -j ACCEPT"
ONE = (0xAC102765, 0xAC102765)


def found(
    text: str, source: str = "iptables-legacy-save", uplinks: tuple[str, ...] = ("eth0",)
) -> tuple[Line, ...]:
    return lines(parse_rules(Foreign({source: text})), uplinks)


def beside(rule: str, table: str = "filter", chain: str = "FORWARD", tool: str = "iptables") -> list[Line]:
    """What a rule is taken for where a line about vm01 stands before it."""
    own = OWN if tool == "iptables" else "-s 2001:db8::1/128 -m physdev --physdev-in vm01 -j ACCEPT"
    first = f"-A {chain} {own if table == 'filter' else '-m physdev --physdev-in vm01 -j NOTRACK'}\n"
    text = f"*{table}\n:{chain} ACCEPT\n:other -\n{first}-A {chain} {rule}\nCOMMIT\n"
    return [*found(text, f"{tool}-nft-save")][1:]


def test_the_file_of_the_usual_how_to_is_taken_apart_line_by_line() -> None:
    said = [(line.kind, line.port, line.addresses) for line in found(CORPUS.read_text(encoding="utf-8"))]

    assert said == [
        ("answers", "vm01", ()),
        ("dhcp", "vm01", ()),
        ("source", "vm01", (ONE,)),
        ("destination", "vm01", (ONE,)),
        ("log", "", ()),
        ("drop", "", ()),
    ]


@pytest.mark.parametrize(
    ("rule", "kind", "port"),
    [
        ("-m physdev --physdev-in vm02 --physdev-is-bridged -j ACCEPT", "any_source", "vm02"),
        ("-m physdev --physdev-out vm02 --physdev-is-bridged -j ACCEPT", "any_destination", "vm02"),
        ("-m physdev --physdev-is-bridged --physdev-out vm02 -j ACCEPT", "any_destination", "vm02"),
        ("-m conntrack --ctstate ESTABLISHED -m physdev --physdev-out vm02 -j ACCEPT", "answers", "vm02"),
        ("! -s 172.16.39.102/32 -m physdev --physdev-in vm02 -j DROP", "source", "vm02"),
        (
            "-s 172.16.39.102/32 -m physdev --physdev-in vm02 -m mac --mac-source 00:16:3e:00:53:02 -j ACCEPT",
            "source",
            "vm02",
        ),
        ("-m physdev --physdev-in vm02 -j DROP", "drop", "vm02"),
        ('-m physdev --physdev-in vm02 -j LOG --log-prefix "spoofed "', "log", "vm02"),
        ("-j REJECT --reject-with icmp-port-unreachable", "drop", ""),
    ],
)
def test_a_line_is_known_by_what_it_asks_and_does(rule: str, kind: str, port: str) -> None:
    assert [(line.kind, line.port) for line in beside(rule)] == [(kind, port)]


@pytest.mark.parametrize(
    "rule",
    [
        "-m physdev --physdev-in eth0 -j ACCEPT",
        "-m physdev --physdev-in vm+ -j ACCEPT",
        "-m physdev ! --physdev-in vm02 -j DROP",
        "-m physdev --physdev-in vm02 --physdev-out vm01 -j ACCEPT",
        "-p tcp -m physdev --physdev-in vm02 -m tcp --dport 25 -j DROP",
        "-p udp -m physdev --physdev-in vm02 -m udp --sport 67 --dport 68 -j ACCEPT",
        "! -s 172.16.39.102/32 -m physdev --physdev-in vm02 -j ACCEPT",
        "-s 172.16.39.102/32 -m physdev --physdev-in vm02 -j DROP",
        "-m state --state INVALID -m physdev --physdev-out vm02 -j ACCEPT",
        "-m state ! --state ESTABLISHED -m physdev --physdev-out vm02 -j ACCEPT",
        "-s 172.16.39.102/32 -m physdev --physdev-out vm02 -j ACCEPT",
        "-s 172.16.39.102/32 -m physdev --physdev-in vm02 -m owner --uid-owner 0 -j ACCEPT",
        "-m physdev --physdev-in vm02 -j other",
        "-i xenbr0 -j DROP",
        "-j ACCEPT",
        "-j other",
        "-m limit --limit 5/sec -j ACCEPT",
    ],
)
def test_a_rule_that_asks_for_more_less_or_something_else_is_no_such_line(rule: str) -> None:
    assert beside(rule) == []


def test_a_drop_and_a_log_are_such_lines_beside_one_of_a_vif_alone() -> None:
    rest = "-A FORWARD -m limit --limit 1/sec -j LOG\n-A FORWARD -j DROP\nCOMMIT\n"

    assert found(f"*filter\n:FORWARD DROP\n{rest}") == ()
    assert [line.kind for line in found(f"*filter\n:FORWARD DROP\n-A FORWARD {OWN}\n{rest}")] == [
        "source",
        "log",
        "drop",
        "drop",
    ]


def test_lines_of_raw_are_those_that_switch_tracking_off_for_a_port() -> None:
    said = beside(
        "-p udp -m physdev --physdev-in vm02 -m udp --sport 68 -j CT --notrack", "raw", "PREROUTING"
    )

    assert [(line.kind, line.port) for line in said] == [("untracked", "vm02")]
    assert beside("-i eth0 -j NOTRACK", "raw", "PREROUTING") == []
    assert beside("-m physdev --physdev-in vm02 -j DROP", "raw", "PREROUTING") == []


def test_addresses_of_ip6tables_are_of_ipv6_and_other_hooks_and_tools_are_not_looked_at() -> None:
    (line,) = beside("-d 2001:db8::5/128 -m physdev --physdev-out vm02 -j ACCEPT", tool="ip6tables")
    nft = 'table ip t {\n\tchain c {\n\t\ttype filter hook forward priority 0;\n\t\tiifname "vm01" accept\n\t}\n}\n'

    assert (line.version, line.addresses) == (6, ((0x20010DB8 << 96 | 5,) * 2,))
    assert found(f"*filter\n:INPUT ACCEPT\n-A INPUT {OWN}\nCOMMIT\n") == ()
    assert found(nft, "table ip t") == ()
    assert found(f"*filter\n:FORWARD ACCEPT\n-A FORWARD {OWN}\nCOMMIT\n", uplinks=("vm01",)) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '-m limit --limit 15/min -j LOG --log-prefix "Dropped by firewall: " --log-level 7',
            LogLine("Dropped by firewall: ", "debug", 15, "minute"),
        ),
        ("-m limit --limit 1/sec --limit-burst 9 -j LOG", LogLine("", "warn", 1, "second")),
        ("-j LOG --log-prefix x --log-level 4", LogLine("x", "warn", None, None)),
        ("-m limit --limit 15/min -j NFLOG", None),
        ("-m limit --limit 15/min", None),
    ],
)
def test_what_a_line_logs_is_read_from_its_text(text: str, said: LogLine | None) -> None:
    assert log_of(Rule(f"-A FORWARD {text}", ())) == said
