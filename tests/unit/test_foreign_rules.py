"""Rules of others as they are read: text without what moves by itself, each tool asked only where it was used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from state.foreign import Foreign, parse_rules, parse_tables, read_foreign, stateless
from state.nft import LIST_TABLES
from state.run import Completed, NotInstalledError, ReadError
from tests.unit.captures import capture
from tests.unit.test_observe import Drawer

TABLES = capture("nft-tables-1.0.6-three-families.txt")
SAVED = capture("iptables-save-1.8.9-one-rule.txt")
RULE = "-A FORWARD -m physdev --physdev-in vm01 -j DROP\n"
QDISCS = "tc -j qdisc show"


class Tools:
    """What netfilter's tools print; an exception is raised, an exit status above 0 comes with `no` on stderr."""

    def __init__(self, answers: Mapping[str, str | int | Exception]) -> None:
        self.answers, self.ran = {QDISCS: "[]", **answers}, list[str]()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        del stdin, timeout_s, environment
        command = " ".join(argv)
        self.ran.append(command)
        answer = self.answers.get(command, "")
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return Completed(tuple(argv), answer, "", "no\n", 1, 0.0)
        return Completed(tuple(argv), 0, answer, "", 1, 0.0)


def tables(*names: str) -> dict[str, str | int | Exception]:
    return {" ".join(LIST_TABLES): "".join(f"table {name}\n" for name in names)}


def test_every_table_but_ours_is_somebody_elses() -> None:
    assert parse_tables(TABLES) == (("inet", "filter"), ("bridge", "other"))
    assert parse_tables("") == ()


def test_counters_and_the_time_of_the_call_are_left_out() -> None:
    assert stateless(SAVED) == f"*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n{RULE}COMMIT\n"
    assert stateless(SAVED.replace("[0:0]", "[12:3456]")) == stateless(SAVED)


def test_all_tables_of_others_are_read_as_text() -> None:
    tools = Tools(
        {
            " ".join(LIST_TABLES): TABLES,
            "nft -s list table bridge other": "rules",
            "nft -s list table inet filter": 1,
        }
    )

    found = read_foreign(tools, Drawer())

    assert found.rules == {
        "table bridge other": "rules",
        "table inet filter": "nft -s list table inet filter: exit status 1: no",
    }
    assert not any("save" in command for command in tools.ran)


def test_save_commands_are_asked_only_where_their_tables_are() -> None:
    tools = Tools(
        {
            **tables("ip filter", "bridge nat", "ip6 own"),
            "iptables-nft-save": SAVED,
            "ebtables-nft-save": "*nat\n",
        }
    )

    found = read_foreign(tools, Drawer())

    assert found.rules["iptables-nft-save"] == stateless(SAVED)
    assert found.rules["ebtables-nft-save"] == "*nat\n"
    assert "ip6tables-nft-save" not in tools.ran


def test_the_old_tools_are_asked_only_where_they_were_used() -> None:
    tools = Tools(
        {
            "iptables-legacy-save": SAVED,
            "ebtables-legacy -t nat -L --Lx": "ebtables -t nat -P PREROUTING DROP\n",
        }
    )
    files = {
        "/proc/net/ip_tables_names": "filter\n",
        "/proc/net/ip6_tables_names": "\n",
        "/sys/module/ebtable_nat/initstate": "live\n",
    }

    found = read_foreign(tools, Drawer(files))

    assert found.rules == {
        "iptables-legacy-save": stateless(SAVED),
        "ebtables-legacy -t nat -L --Lx": "ebtables -t nat -P PREROUTING DROP\n",
    }
    assert "ip6tables-legacy-save" not in tools.ran
    assert "ebtables-legacy -t filter -L --Lx" not in tools.ran


def test_sets_are_read_where_a_rule_asks_for_one_without_what_moves_in_them() -> None:
    rule = "*filter\n:FORWARD ACCEPT\n-A FORWARD -m set --match-set bad src -j DROP\nCOMMIT\n"
    save = "create bad hash:ip family inet timeout 600\nadd bad 192.0.2.1 timeout 512 packets 3 bytes 180\n"
    tools = Tools({**tables("ip filter"), "iptables-nft-save": rule, "ipset save": save})

    found = read_foreign(tools, Drawer())

    assert found.rules["ipset save"] == "create bad hash:ip family inet timeout 600\nadd bad 192.0.2.1\n"
    assert "ipset save" not in Tools(tables("ip filter")).ran


def test_filters_of_traffic_control_are_read_where_a_device_has_any() -> None:
    one = '[{"protocol":"all","pref":1,"kind":"matchall","chain":0,"options":{"actions":[{"kind":"gact","ref":1,"bind":1}]}}]'
    tools = Tools(
        {
            QDISCS: '[{"kind":"clsact","dev":"vm01"},{"kind":"fq_codel","dev":"eth0"}]',
            "tc -j -batch -": f"{one}\n[]\n",
        }
    )

    found = read_foreign(tools, Drawer())

    assert found.rules == {"tc filter show dev vm01 ingress": one.replace(',"ref":1,"bind":1', "")}


@pytest.mark.parametrize("answer", ["[]\n", 1], ids=["fewer answers than questions", "a device that went"])
def test_filters_that_cannot_be_read_are_said_to_be(answer: str | int) -> None:
    tools = Tools({QDISCS: '[{"kind":"ingress","dev":"vm01"}]', "tc -j -batch -": answer})

    rules = parse_rules(read_foreign(tools, Drawer()))

    assert [(each.address, "tc" in each.why) for each in rules.unread] == [("foreign.tc.filter.show", True)]


def test_a_tool_that_is_not_installed_was_not_used() -> None:
    gone = NotInstalledError("no such file")
    tools = Tools(
        {
            **tables("ip filter", "ip6 filter"),
            "iptables-nft-save": gone,
            QDISCS: gone,
            "ip6tables-nft-save": SAVED,
        }
    )

    found = read_foreign(tools, Drawer()).rules

    assert "iptables-nft-save" not in found
    assert "ip6tables-nft-save" in found


def test_without_an_answer_from_nft_nothing_is_known() -> None:
    with pytest.raises(ReadError, match="nft list tables: exit status 1"):
        read_foreign(Tools({" ".join(LIST_TABLES): 1}), Drawer())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("table ip cut", "table ip cut {\n\tchain c {\n"),
        ("table ip filter", "nft -s list table ip filter: exit status 1: no"),
        ("table ip odd", "table ip odd {\n\tchain c {\n\t\ttype filter hook nowhere at all;\n\t}\n}\n"),
        (
            "table ip odd",
            "table ip odd {\n\tchain c {\n\t\ttype filter hook forward priority odd; policy accept;\n\t}\n}\n",
        ),
        ("iptables-nft-save", "iptables-nft-save: exit status 1: no"),
        ("iptables-nft-save", "*filter\n:FORWARD\n"),
        ("ebtables-nft-save", "no"),
        ("tc filter show dev vm01 ingress", "["),
        ("tc filter show dev vm01 ingress", '[{"options":{"actions":[]}}]'),
        ("something else", "*filter\n"),
    ],
)
def test_what_cannot_be_read_as_rules_is_named(source: str, text: str) -> None:
    rules = parse_rules(Foreign({source: text}))

    assert rules.tables == ()
    assert [each.address for each in rules.unread] == [
        f"foreign.{source.removeprefix('table ').replace(' ', '.')}"
    ]
    assert "\n" not in rules.unread[0].why


def test_a_table_that_a_save_command_lists_is_judged_by_that() -> None:
    shown = "table ip filter {\n\tflowtable f {\n\t\thook ingress priority filter\n\t\tdevices = { vm01 }\n\t}\n\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t\txt match physdev counter drop\n\t}\n}\n"
    both = parse_rules(Foreign({"table ip filter": shown, "iptables-nft-save": stateless(SAVED)}))
    alone = parse_rules(Foreign({"table ip filter": shown}))

    assert [(each.where, [*each.chains], each.offloaded) for each in both.tables] == [
        ("iptables-nft -t filter", ["INPUT", "FORWARD", "OUTPUT"], ()),
        ("nft table ip filter", [], ("vm01",)),
    ]
    assert [[*each.chains] for each in alone.tables] == [["FORWARD"]]
