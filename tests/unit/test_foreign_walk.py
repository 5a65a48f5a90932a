"""What rules do to frames on their way changes what later rules see of them."""

from __future__ import annotations

import pytest

from reconciler.foreign.judge import Judge
from schemas.address import Address
from tests.unit.test_foreign_judge import BOTH, PLACE, V4, V6, bridge, dark, judge, legacy, partly

# Of TCP alone: whoever can still send UDP is not cut off, but nothing that he begins by TCP is answered.
REPLIES = {"its answers", "the answers to it"}
SENDS, GETS = {"what it sends"}, {"what is sent to it"}
ASKS, ANSWERS = {"what it asks its neighbours"}, {"what it answers its neighbours"}


@pytest.mark.parametrize(
    ("address", "changes", "drops", "seen"),
    [
        (V4, "ip saddr set 192.0.2.1", ["ip saddr 172.16.39.101 drop"], SENDS),
        (V4, "ip daddr set 192.0.2.1", ["ip daddr 172.16.39.101 drop"], GETS),
        (V6, "ip6 saddr set 2001:db8::1", ["ip6 saddr 2001:db8:39::101 drop"], SENDS | ASKS | ANSWERS),
        (V6, "ip6 daddr set 2001:db8::1", ["ip6 daddr 2001:db8:39::101 drop"], GETS | {"what its neighbours answer"}),
        (V4, "ether saddr set 00:00:5e:00:53:01", ["ether saddr 00:16:3e:00:53:01 drop"], SENDS | ASKS | ANSWERS),
        (V4, "ether daddr set 00:00:5e:00:53:01", ["ether daddr 00:16:3e:00:53:01 drop"], GETS | {"what its neighbours answer"}),
        (V4, "arp saddr ip set 192.0.2.1", ["arp saddr ip 172.16.39.101 drop"], ASKS | ANSWERS),
        (V4, "arp daddr ip set 192.0.2.1", ["arp daddr ip 172.16.39.101 drop"], {"what its neighbours ask it", "what its neighbours answer"}),
        (V4, "arp saddr ether set 00:00:5e:00:53:01", ["arp saddr ether 00:16:3e:00:53:01 drop"], ASKS | ANSWERS),
        (V4, "arp daddr ether set 00:00:5e:00:53:01", ["arp daddr ether 00:16:3e:00:53:01 drop"], {"what its neighbours answer"}),
        (V4, "ip saddr set 192.0.2.1", ["meta l4proto tcp drop", "udp sport != { 67, 68, 546, 547 } drop"], BOTH),
        (V4, "ip daddr set 192.0.2.1", ["meta l4proto tcp drop", "udp dport != { 67, 68, 546, 547 } drop"], BOTH),
    ],
)  # fmt: skip
def test_what_was_changed_may_be_anything_for_later_rules(
    address: Address, changes: str, drops: list[str], seen: set[str]
) -> None:
    assert dark(bridge(*drops), address) == seen
    assert dark(bridge(changes, *drops), address) == (REPLIES if len(drops) > 1 else set())


def test_a_rule_that_acts_and_goes_on_is_followed_by_the_next() -> None:
    assert dark(bridge("ip saddr set 192.0.2.1", "drop")) >= BOTH
    assert dark(legacy("-A PREROUTING -j DNAT --to-destination 192.0.2.1", table="nat")) == BOTH
    # A source that was changed is the last word of its chain, and of no other.
    nat = "*nat\n:POSTROUTING ACCEPT\n-A POSTROUTING -j MASQUERADE\n-A POSTROUTING -j DROP\nCOMMIT\n"
    assert dark(judge({"iptables-legacy-save": nat})) == set()
    egress = 'table netdev t {\n\tchain c {\n\t\ttype filter hook egress device "eth0" priority 0; policy drop;\n\t}\n}\n'
    assert dark(judge({"iptables-legacy-save": nat, "table netdev t": egress})) >= SENDS


def test_a_copy_takes_nothing_away_and_a_detour_all() -> None:
    head = 'type filter hook ingress device "vm01" priority 0; policy accept;'

    def at_ingress(line: str) -> Judge:
        return judge(
            {"table netdev t": f"table netdev t {{\n\tchain c {{\n\t\t{head}\n\t\t{line}\n\t}}\n}}\n"}
        )

    assert dark(at_ingress('dup to "eth0"')) == set()
    assert at_ingress('dup to "eth0"').address(PLACE, V4).partly == ()
    assert dark(at_ingress('fwd to "eth0"')) >= SENDS
    assert partly(at_ingress('tcp dport 25 fwd to "eth0"').address(PLACE, V4)) == {
        ('tcp dport 25 fwd to "eth0"', False)
    }


def test_who_asks_somebody_else_may_get_any_mark_and_any_verdict() -> None:
    asked = bridge("queue num 0", "meta mark 0x00000000 drop")
    verdict = asked.address(PLACE, V4)

    assert verdict.dark == ()
    assert partly(verdict) == {("queue num 0", True), ("meta mark 0x00000000 drop", True)}


def test_marks_keep_what_they_are_told_to_keep_and_flip_the_rest() -> None:
    def marked(*marks: str, asked: str) -> set[str]:
        chain = [f"-A PREROUTING -j MARK --set-xmark {each}" for each in marks]
        return dark(legacy(*chain, f"-m mark --mark {asked} -j DROP", table="mangle"))

    assert marked("0x3/0xf", asked="0x3") == BOTH
    assert marked("0x3/0xf", "0x1/0x2", asked="0x0") == BOTH
    assert marked("0x3/0xf", "0x0/0x1", asked="0x2") == BOTH
    assert marked("0x3/0xf", "0x4/0x0", asked="0x7") == BOTH
    assert marked("0x3/0xf", "0x5/0xffffffff", asked="0x5") == BOTH
    assert marked("0x3/0xf", "0x5/0xffffffff", asked="0x3") == set()


def test_the_mark_of_a_connection_is_one_of_its_own_until_it_is_copied() -> None:
    def marked(*lines: str) -> set[str]:
        return dark(legacy(*(f"-A PREROUTING -j {line}" for line in lines[:-1]), lines[-1], table="mangle"))

    save, restore = (
        "CONNMARK --save-mark --nfmask 0xff --ctmask 0xff",
        "CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
    )
    drop, drop_connection = "-m mark --mark 0x1 -j DROP", "-m connmark --mark 0x1 -j DROP"
    assert marked("CONNMARK --set-xmark 0x1/0xffffffff", drop) == set()
    assert marked("CONNMARK --set-xmark 0x1/0xffffffff", restore, drop) == BOTH
    assert marked("CONNMARK --set-xmark 0x101/0xffffffff", restore, drop) == BOTH
    assert marked("MARK --set-xmark 0x1/0xffffffff", drop_connection) == set()
    assert marked("MARK --set-xmark 0x1/0xffffffff", save, drop_connection) == BOTH
    assert marked("MARK --set-xmark 0x101/0xffffffff", save, drop_connection) == BOTH


def test_a_mark_that_only_some_frames_have_is_not_one_of_all() -> None:
    some = "-A PREROUTING -p tcp -j MARK --set-xmark 0x1/0xffffffff"

    assert dark(legacy(some, "-m mark --mark 0x1 -j DROP", table="mangle")) == REPLIES
    assert dark(legacy(some, "-m mark --mark 0x0 -j DROP", table="mangle")) == set()
    assert dark(legacy(some, "-m mark --mark 0x0/0xfe -j DROP", table="mangle")) == BOTH
    twice = "-A PREROUTING -p tcp -m tcp --dport 1:80 -j MARK --set-xmark 0x2/0xffffffff"
    assert (
        dark(legacy(some, twice, "-m mark --mark 0x0/0xfc -p tcp -j DROP", "-p udp -j DROP", table="mangle"))
        == BOTH
    )
    assert (
        dark(legacy(some, twice, "-m mark --mark 0x1 -p tcp -j DROP", "-p udp -j DROP", table="mangle"))
        == set()
    )


def test_what_is_left_of_a_class_is_what_no_earlier_rule_took() -> None:
    assert (
        dark(
            legacy(
                "-p tcp -m tcp --dport 0:1023 -j ACCEPT",
                "-p tcp -m tcp --dport 1024:65535 -j DROP",
                "-p udp -j DROP",
            )
        )
        == set()
    )
    assert (
        dark(
            legacy(
                "-p tcp -m tcp --dport 0:1023 -j DROP",
                "-p tcp -m tcp --dport 1024:65535 -j DROP",
                "-p udp -j DROP",
            )
        )
        == BOTH
    )
    assert (
        dark(
            legacy(
                "-p tcp -m tcp --dport 0:1023 -j one",
                "-p tcp -m tcp --dport 1024:65535 -j DROP",
                "-p udp -j DROP",
                "-A one -j DROP",
            )
        )
        == BOTH
    )
    assert dark(legacy("-m u32 --u32 0 -j RETURN", "-j DROP")) == set()
    assert dark(legacy("-m statistic --mode random --probability 0.5 -j RETURN", "-j DROP")) == set()


def test_where_it_was_untracked_before_conntrack_looked_it_has_no_state() -> None:
    untracked = "-m conntrack --ctstate UNTRACKED -j DROP"
    raw = "*raw\n:PREROUTING ACCEPT\n-A PREROUTING -j NOTRACK\nCOMMIT\n"
    drop = f"*filter\n:FORWARD ACCEPT\n-A FORWARD {untracked}\nCOMMIT\n"
    late = "*mangle\n:FORWARD ACCEPT\n-A FORWARD -j NOTRACK\nCOMMIT\n"

    assert dark(judge({"iptables-legacy-save": raw + drop})) == BOTH
    assert dark(judge({"iptables-legacy-save": drop})) == set()
    assert dark(judge({"iptables-legacy-save": late + drop})) == set()
    connmark = "*mangle\n:PREROUTING ACCEPT\n-A PREROUTING -m connmark --mark 0x0 -j DROP\nCOMMIT\n"
    assert dark(judge({"iptables-legacy-save": connmark})) == BOTH
    assert dark(judge({"iptables-legacy-save": raw + connmark})) == set()
