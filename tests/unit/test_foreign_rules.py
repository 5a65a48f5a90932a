"""Rules of others: opaque text, without what moves by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from state.foreign import parse_tables, read_foreign, stateless
from state.nft import LIST_TABLES
from state.run import Completed, NotInstalledError, ReadError
from tests.unit.captures import capture
from tests.unit.test_observe import Drawer

TABLES = capture("nft-tables-1.0.6-three-families.txt")
SAVED = capture("iptables-save-1.8.9-one-rule.txt")
RULE = "-A FORWARD -m physdev --physdev-in vm01 -j DROP\n"


class Tools:
    """What netfilter's tools print; an exception is raised, an exit status above 0 comes with `no` on stderr."""

    def __init__(self, answers: Mapping[str, str | int | Exception]) -> None:
        self.answers, self.ran = answers, list[str]()

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


def test_every_table_but_ours_is_somebody_elses() -> None:
    assert parse_tables(TABLES) == (("inet", "filter"), ("bridge", "other"))
    assert parse_tables("") == ()


def test_counters_and_the_time_of_the_call_are_left_out() -> None:
    assert stateless(SAVED) == f"*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n{RULE}COMMIT\n"
    assert stateless(SAVED.replace("[0:0]", "[12:3456]")) == stateless(SAVED)


def test_all_rules_of_others_are_read() -> None:
    tools = Tools(
        {
            " ".join(LIST_TABLES): TABLES,
            "nft -s list table bridge other": "rules",
            "nft -s list table inet filter": 1,
            "iptables-save": SAVED,
        }
    )

    found = read_foreign(tools, Drawer())

    assert found.rules == {
        "table bridge other": "rules",
        "table inet filter": "nft -s list table inet filter: exit status 1: no",
        "iptables-save": stateless(SAVED),
    }
    assert not any("legacy" in command for command in tools.ran)


def test_the_old_tools_are_asked_only_where_they_were_used() -> None:
    tools = Tools({"iptables-legacy-save": SAVED, "ip6tables-save": 1})

    found = read_foreign(
        tools, Drawer({"/proc/net/ip_tables_names": "filter\n", "/proc/net/ip6_tables_names": "\n"})
    )

    assert found.rules == {
        "iptables-legacy-save": stateless(SAVED),
        "ip6tables-save": "ip6tables-save: exit status 1: no",
    }
    assert "ip6tables-legacy-save" not in tools.ran


def test_a_tool_that_is_not_installed_was_not_used() -> None:
    tools = Tools(
        {"iptables-save": NotInstalledError("iptables-save: No such file"), "ip6tables-save": SAVED}
    )

    assert set(read_foreign(tools, Drawer()).rules) == {"ip6tables-save"}


def test_without_an_answer_from_nft_nothing_is_known() -> None:
    with pytest.raises(ReadError, match="nft list tables: exit status 1"):
        read_foreign(Tools({" ".join(LIST_TABLES): 1}), Drawer())
