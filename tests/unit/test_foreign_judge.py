"""What becomes of classes of frames under rules of others: for certain, in part, or not known. Never a wrong certainty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_network
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.foreign.frames import frames
from reconciler.foreign.judge import Judge, Place, Verdict
from reconciler.foreign.match import Truth, apart, common, holds, one, without
from reconciler.foreign.path import Called
from reconciler.foreign.weaken import rewritten, weaknesses
from schemas.address import Address
from state.foreign import Foreign, parse_rules, stateless
from state.netfilter import Masked, Named, Ranges, Sometimes, Tuples, Unknown, Within, merged
from tests.packets import foreign_bench
from tests.packets.corpora import CORPORA
from tests.packets.foreign_rules import OWN, Tool, scripts

BRIDGE, PORT, MAC, OTHER, UPLINK = "xenbr0", "vm01", "00:16:3e:00:53:01", "vm02", "eth0"
PLACE = Place(PORT, MAC, BRIDGE, frozenset({UPLINK}), OTHER)
V4, V6 = ip_network("172.16.39.101"), ip_network("2001:db8:39::101")
BOTH = frozenset({"what it sends", "what is sent to it"})


def judge(sources: dict[str, str], *, called: bool = True) -> Judge:
    rules = parse_rules(Foreign(sources))
    assert rules.unread == ()
    return Judge(rules, {BRIDGE: Called(ip=called, ip6=called)})


def legacy(
    *lines: str, policy: str = "ACCEPT", table: str = "filter", called: bool = True, more: Iterable[str] = ()
) -> Judge:
    chains = "".join(f":{each} -\n" for each in ("one", "two", *more))
    body = "".join(f"{line if line.startswith('-A') else f'-A FORWARD {line}'}\n" for line in lines)
    return judge(
        {
            "iptables-legacy-save": f"*{table}\n:PREROUTING ACCEPT\n:FORWARD {policy}\n:POSTROUTING ACCEPT\n{chains}{body}COMMIT\n"
        },
        called=called,
    )


def bridge(*lines: str, head: str = "type filter hook forward priority 0; policy accept;") -> Judge:
    body = "".join(f"\t\t{line}\n" for line in (head, *lines))
    return judge({"table bridge t": f"table bridge t {{\n\tchain c {{\n{body}\t}}\n}}\n"})


def dark(judged: Judge, address: Address = V4, place: Place = PLACE) -> set[str]:
    return {what for what, _ in judged.address(place, address).dark}


def partly(verdict: Verdict) -> set[tuple[str, bool]]:
    return {(event.rule.text, event.flow.doubt) for event in verdict.partly}


def test_what_is_dropped_for_everybody_is_dark() -> None:
    assert dark(legacy("-j DROP")) == BOTH
    assert dark(legacy(policy="DROP")) == BOTH
    assert dark(legacy("-j DROP"), V6) == set()
    assert dark(legacy("-j DROP", called=False)) == set()
    assert dark(legacy("-d 172.16.39.0/24 -j REJECT --reject-with icmp-port-unreachable")) == {
        "what is sent to it"
    }
    assert dark(legacy("-m physdev --physdev-in vm+ -j DROP")) == {"what it sends"}


def test_what_is_dropped_of_a_part_makes_nobody_dark_and_is_told() -> None:
    for rule in (
        "-p tcp -m tcp --dport 25 -j DROP",
        "-p udp -j DROP",
        "-s 203.0.113.0/24 -j DROP",
        "-p icmp -j DROP",
    ):
        verdict = legacy(rule).address(PLACE, V4)
        assert (verdict.dark, partly(verdict)) == ((), {(f"-A FORWARD {rule}", False)}), rule


def test_one_way_in_lets_some_pass_and_dhcp_is_none() -> None:
    assert dark(legacy("-p tcp -m tcp --dport 80 -j ACCEPT", "-j DROP")) == set()
    assert dark(legacy("-p udp -m udp --sport 68 --dport 67 -j ACCEPT", "-j DROP")) == BOTH
    assert dark(legacy("-p icmp -j ACCEPT", "-j DROP")) == BOTH


def test_what_is_not_understood_is_never_certain() -> None:
    for rule in (
        "-m u32 --u32 0 -j ACCEPT",
        "-j NFQUEUE --queue-num 0",
        "-m u32 --u32 0 -j one",
        "-j WHATEVER",
    ):
        more = ["-A one -j ACCEPT"] if rule.endswith("one") else []
        verdict = legacy(rule, "-j DROP", *more).address(PLACE, V4)
        assert verdict.dark == (), rule
        assert all(doubt for _, doubt in partly(verdict)), rule
    verdict = legacy("-m u32 --u32 0 -j one", "-A one -j DROP").address(PLACE, V4)
    assert (verdict.dark, partly(verdict)) == ((), {("-A one -j DROP", True)})
    # Whoever drops it, it is gone.
    assert dark(legacy("-m u32 --u32 0 -j DROP", "-j DROP")) == BOTH
    assert dark(legacy("-m u32 --u32 0 -j LOG", "-j DROP")) == BOTH


def test_limits_are_no_drops() -> None:
    assert (
        legacy("-m hashlimit --hashlimit-above 5/sec --hashlimit-name x -j DROP").address(PLACE, V4)
        == Verdict()
    )
    assert legacy("-m limit --limit 5/sec -j LOG").address(PLACE, V4) == Verdict()
    assert dark(legacy("-m limit --limit 5/sec -j ACCEPT", "-j DROP")) == set()


def test_chains_are_followed_left_by_goto_and_returned_from() -> None:
    assert dark(legacy("-j one", "-j DROP", "-A one -j RETURN")) == BOTH
    assert dark(legacy("-j one", "-j DROP", "-A one -j ACCEPT")) == set()
    assert dark(legacy("-g one", "-j DROP", "-A one -j RETURN")) == set()
    assert dark(legacy("-j one", "-A one -g two", "-A one -j DROP", "-A two -j RETURN")) == set()
    assert dark(legacy("-j one", "-j DROP", "-A one -p tcp -j ACCEPT", "-A one -p udp -j ACCEPT")) == set()
    web = "-A one -d 203.0.113.0/24 -p tcp -m tcp --dport 80 -j ACCEPT"
    assert dark(legacy("-j one", "-j DROP", web)) == {"what is sent to it"}
    # What leads back to itself the kernel refuses; read so, it says nothing.
    assert dark(legacy("-j one", "-j DROP", "-A one -j two", "-A two -j one")) == set()


def test_chains_that_lead_to_the_same_ones_again_and_again_are_not_followed_for_ever() -> None:
    doubled = [f"-A c{at} -j c{at + 1}" for at in range(40) for _ in range(2)]
    chains = "".join(f":c{at} -\n" for at in range(42))
    text = (
        f"*filter\n:FORWARD ACCEPT\n{chains}-A FORWARD -j c0\n"
        + "".join(f"{line}\n" for line in doubled)
        + "-A FORWARD -j DROP\nCOMMIT\n"
    )

    assert dark(judge({"iptables-legacy-save": text})) == set()


def test_marks_are_followed() -> None:
    marked = ["-A PREROUTING -m physdev --physdev-in vm01 -j MARK --set-xmark 0x1/0xffffffff"]
    assert dark(legacy(*marked, table="mangle")) == set()
    assert dark(legacy(*marked, "-m mark --mark 0x1 -j DROP", table="mangle")) == {"what it sends"}
    assert dark(legacy(*marked, "-m mark ! --mark 0x1 -j DROP", table="mangle")) == {"what is sent to it"}
    assert dark(legacy("-m mark --mark 0x0/0xff -j DROP")) == BOTH
    saved = [
        "-A PREROUTING -j CONNMARK --set-xmark 0x1/0xffffffff",
        "-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
    ]
    assert dark(legacy(*saved, "-m mark --mark 0x1 -j DROP", table="mangle")) == BOTH


def test_answers_are_asked_for_where_what_began_passes() -> None:
    assert dark(legacy("-m conntrack --ctstate ESTABLISHED -m physdev --physdev-out vm01 -j DROP")) == {
        "the answers to it"
    }
    assert dark(
        legacy(
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-m physdev --physdev-in vm01 -j ACCEPT",
            "-j DROP",
        )
    ) == {"what is sent to it"}


def test_what_is_not_tracked_has_no_answers() -> None:
    raw = "*raw\n:PREROUTING ACCEPT\n-A PREROUTING -m physdev --physdev-in vm01 -j NOTRACK\nCOMMIT\n"
    strict = "*filter\n:FORWARD ACCEPT\n-A FORWARD -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT\n-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A FORWARD -j DROP\nCOMMIT\n"

    assert dark(judge({"iptables-legacy-save": strict})) == set()
    assert dark(judge({"iptables-legacy-save": raw + strict})) == {"the answers to it"}


def test_without_its_neighbours_an_address_is_dark() -> None:
    assert dark(bridge("arp operation request drop")) == {
        "what it asks its neighbours",
        "what its neighbours ask it",
    }
    assert dark(bridge("icmpv6 type nd-neighbor-advert drop"), V6) == {
        "what it answers its neighbours",
        "what its neighbours answer",
    }
    ip6 = "*filter\n:FORWARD DROP\n-A FORWARD -p tcp -j ACCEPT\n-A FORWARD -p udp -j ACCEPT\nCOMMIT\n"
    assert dark(judge({"ip6tables-nft-save": ip6}), V6) == {
        "what it asks its neighbours",
        "what it answers its neighbours",
        "what its neighbours ask it",
        "what its neighbours answer",
    }


def test_a_part_of_a_prefix_is_a_part() -> None:
    prefix = ip_network("172.16.39.96/28")

    assert dark(legacy("-s 172.16.39.101/32 -j DROP"), prefix) == set()
    assert dark(legacy("-s 172.16.39.0/24 -j DROP"), prefix) == {"what it sends"}


def test_what_becomes_of_frames_between_guests_makes_nobody_dark() -> None:
    judged = legacy("-m physdev --physdev-in vm+ --physdev-out vm+ -j DROP")

    verdict = judged.address(PLACE, V4)

    assert verdict.dark == ()
    assert partly(verdict) == {("-A FORWARD -m physdev --physdev-in vm+ --physdev-out vm+ -j DROP", False)}
    inside = Place(PORT, MAC, BRIDGE, frozenset({OTHER}), OTHER)
    assert {what for what, _ in judged.address(inside, V4).dark} == BOTH


def test_a_destination_that_is_changed_for_all_is_dark_and_for_some_is_not() -> None:
    assert dark(
        legacy("-A PREROUTING -d 172.16.39.101/32 -j DNAT --to-destination 192.0.2.1", table="nat")
    ) == {"what is sent to it"}
    assert dark(legacy("-A PREROUTING -p udp -m udp --dport 53 -j REDIRECT", table="nat")) == set()


def test_devices_of_a_chain_are_those_that_frames_come_by() -> None:
    head = 'type filter hook ingress device "{}" priority filter; policy accept;'
    text = "table netdev t {{\n\tchain c {{\n\t\t{}\n\t\tdrop\n\t}}\n}}\n"
    at = {port: judge({"table netdev t": text.format(head.format(port))}) for port in (PORT, OTHER, UPLINK)}
    egress = text.format('type filter hook egress device "vm01" priority filter; policy accept;')
    two = Place(PORT, MAC, BRIDGE, frozenset({UPLINK, "eth1"}), OTHER)

    assert "what it sends" in dark(at[PORT])
    assert dark(at[OTHER]) == set()
    assert "what is sent to it" in dark(at[UPLINK])
    assert dark(at[UPLINK], place=two) == set()
    assert "what is sent to it" in dark(judge({"table netdev t": egress}))


def test_of_chains_with_one_priority_marks_say_nothing() -> None:
    chain = "\tchain {} {{\n\t\ttype filter hook forward priority 0; policy accept;\n\t\t{}\n\t}}\n"
    text = (
        "table ip t {\n"
        + chain.format("a", "meta mark set 0x00000001")
        + chain.format("b", "meta mark 0x00000001 drop")
        + "}\n"
    )

    assert dark(judge({"table ip t": text})) == set()
    assert dark(judge({"table ip t": text.replace("priority 0", "priority -1", 1)})) == BOTH


def test_other_tables_on_the_way_are_all_met() -> None:
    for place in ("prerouting", "forward", "postrouting"):
        text = f"table inet t {{\n\tchain c {{\n\t\ttype filter hook {place} priority 0; policy drop;\n\t}}\n}}\n"
        assert dark(judge({"table inet t": text}), V6) >= BOTH, place
        assert dark(judge({"table inet t": text.replace(place, "input")}), V6) == set()
    assert dark(bridge("drop", head="type filter hook prerouting priority 10; policy accept;")) >= BOTH
    assert dark(bridge('meta ibrname "xenbr0" drop')) >= BOTH
    assert dark(bridge('oifname "xenbr0" drop')) == set()
    assert dark(legacy("-i xenbr0 -o xenbr0 -j DROP")) == BOTH
    assert dark(legacy("-i vm01 -j DROP")) == set()


@pytest.mark.parametrize("style", ["docker", "ufw"])
def test_rules_in_the_manner_of_other_tools_keep_bridged_guests_dark(style: str) -> None:
    text = stateless((CORPORA / f"{style}.iptables.rules").read_text(encoding="utf-8"))
    judged = judge({"iptables-nft-save": text})

    assert dark(judged) == BOTH
    assert judged.sees(BRIDGE)
    assert not [*weaknesses(judged, [PLACE])]


@pytest.mark.parametrize("style", ["libvirt", "fail2ban"])
def test_rules_in_the_manner_of_other_tools_let_bridged_guests_alone(style: str) -> None:
    for source, name in (("iptables-legacy-save", f"{style}.iptables.rules"), ("table", f"{style}.nft")):
        text = stateless((CORPORA / name).read_text(encoding="utf-8"))
        key = " ".join(text.split()[:3]) if source == "table" else source
        assert dark(judge({key: text})) == set()


def test_a_rewritten_source_is_sure_where_one_frame_can_be_named() -> None:
    def said(judged: Judge) -> set[bool]:
        return {each.sure for each in rewritten(judged, PLACE, judged.address(PLACE, V4).rewritten)}

    mark = "-A PREROUTING -d 10.96.0.10/32 -p udp -m udp --dport 53 -j MARK --set-xmark 0x1/0x1"
    masq = "-A POSTROUTING -m mark --mark 0x1/0x1 -j MASQUERADE"
    assert said(legacy("-A POSTROUTING -p udp -j MASQUERADE", table="nat")) == {True}
    assert said(legacy(mark, masq, table="nat")) == {True}
    assert said(
        legacy(mark, "-A POSTROUTING -d 10.96.0.11/32 -m mark --mark 0x1/0x1 -j MASQUERADE", table="nat")
    ) == {False}
    assert said(legacy("-A POSTROUTING -m u32 --u32 0 -j MASQUERADE", table="nat")) == {False}
    assert said(legacy("-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE", table="nat")) == set()


def test_what_comes_before_the_guard_meets_forged_frames_as_well() -> None:
    def found(*lines: str, priority: int = -400) -> list[tuple[str, bool]]:
        head = f"type filter hook prerouting priority {priority}; policy accept;"
        return sorted(
            {
                (each.how.rpartition("` ")[2], each.sure)
                for each in weaknesses(bridge(*lines, head=head), [PLACE])
            }
        )

    changes = "changes frames before the guard sees them"
    assert found("ip saddr 203.0.113.9 ip saddr set 172.16.39.101") == [(changes, True)]
    assert found("ip saddr 203.0.113.9 ip saddr set 172.16.39.101", priority=-309) == []
    assert found("ether type 0x88b5 ether saddr set 00:16:3e:00:53:01") == [(changes, True)]
    assert found("ip ttl 5 ether saddr set 00:16:3e:00:53:01") == [(changes, False)]
    assert found("meta broute set 1") == [("takes frames past the guard", True)]
    assert found("queue num 0") == [
        ("may change frames before the guard sees them, which cannot be judged", False)
    ]
    assert found("ip saddr 203.0.113.9 accept", "drop") == []
    assert found('iifname "vm02" ether saddr set 00:16:3e:00:53:01') == []


RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=4).map(
    lambda pairs: merged((low, low + more) for low, more in pairs)
)


def numbers(ranges: Ranges) -> set[int]:
    return {number for low, high in ranges for number in range(low, high + 1)}


@given(RANGES, RANGES)
def test_ranges_are_sets_of_numbers(left: Ranges, right: Ranges) -> None:
    assert numbers(common(left, right)) == numbers(left) & numbers(right)
    assert numbers(without(left, right)) == numbers(left) - numbers(right)


CONDITIONS = st.one_of(
    st.builds(Within, st.just("n"), RANGES, st.booleans()),
    st.builds(Masked, st.just("n"), st.integers(0, 7), st.integers(0, 7), st.booleans()),
    st.builds(Tuples, st.just(("n",)), st.lists(st.tuples(RANGES), max_size=3).map(tuple), st.booleans()),
)


@given(CONDITIONS, RANGES.filter(bool))
def test_a_condition_holds_for_a_class_as_it_does_for_its_members(
    condition: Within | Masked | Tuples, domain: Ranges
) -> None:
    each = {number: holds(condition, {"n": one(number)})[0] for number in numbers(domain)}
    assert set(each.values()) <= {Truth.ALL, Truth.NO}
    met = {number for number, truth in each.items() if truth is Truth.ALL}

    truth, taken = holds(condition, {"n": domain})

    if truth is Truth.SOME:
        # Of several members of a set, one may be met by each of them.
        assert isinstance(condition, Tuples) or (met and met != numbers(domain))
        if taken is not None:
            assert not isinstance(taken, frozenset)
            assert numbers(taken) == met
            rest = apart([condition], {"n": domain})
            assert rest is not None
            assert rest[1] == () or numbers(rest[1]) == numbers(domain) - met  # type: ignore[arg-type]  # numbers
    else:
        assert met == (numbers(domain) if truth is Truth.ALL else set())


def test_what_a_frame_does_not_have_meets_nothing_negated_or_not() -> None:
    for negated in (False, True):
        assert holds(Within("gone", ((1, 1),), negated), {})[0] is Truth.NO
        assert holds(Named("gone", ("x",), negated), {})[0] is Truth.NO
        assert holds(Masked("gone", 1, 1, negated), {})[0] is Truth.NO
        assert holds(Tuples(("gone",), ((((1, 1),),),), negated), {})[0] is Truth.NO
    assert holds(Sometimes(), {})[0] is Truth.SOME
    assert holds(Sometimes(rarely=True), {})[0] is Truth.NO
    assert holds(Unknown("?"), {})[0] is Truth.UNKNOWN


def rules(dice: Random) -> Iterable[str]:
    hosts = [f"172.16.39.{number}/{dice.choice((32, 32, 28))}" for number in range(98, 106)]
    for _ in range(60):
        parts = [
            dice.choice(("", f"-s {dice.choice(hosts)}", f"! -s {dice.choice(hosts)}", "-s 203.0.113.0/24")),
            dice.choice(("", f"-d {dice.choice(hosts)}", "-d 198.51.100.7/32")),
            dice.choice(("", "-p tcp", "-p udp -m udp --dport 53")),
            dice.choice(("", "", f"-m physdev --physdev-in {dice.choice((PORT, OTHER, 'vm+', UPLINK))}")),
        ]
        yield " ".join([*filter(None, parts), f"-j {dice.choice(('ACCEPT', 'DROP', 'DROP', 'one', 'LOG'))}"])


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(12))
def test_a_long_chain_is_judged_like_the_short_ones_that_it_could_be_cut_into(seed: int) -> None:
    lines = [*rules(Random(seed))]  # noqa: S311  # the same each time
    cut = [f"-A part{at // 10} {line}" for at, line in enumerate(lines)]
    parts = sorted({line.split()[1] for line in cut})
    accepts = "-A one -s 172.16.39.101/32 -j ACCEPT"
    long = legacy(*lines, accepts)
    short = legacy(*(f"-j {part}" for part in parts), *cut, accepts, more=parts)

    for number in range(98, 106):
        address = ip_network(f"172.16.39.{number}")
        assert dark(long, address) == dark(short, address)


@pytest.mark.no_cover
@pytest.mark.parametrize("tool", ["iptables-legacy", "ebtables"])
def test_what_is_certain_of_a_class_is_so_of_each_of_its_frames(tool: Tool) -> None:
    place, dice, said = foreign_bench.PLACE, Random(tool), Counter[bool | None]()  # noqa: S311  # the same each time
    for _ in range(40):
        texts = {
            script.argv[0].replace("-restore", "-save"): stateless(script.text)
            for script in scripts(tool, dice)
        }
        judged = judge(texts)
        for address in (OWN[4][0], OWN[6][0]):
            for frame in frames(place.mac, ip_network(address)):
                whole = foreign_bench.certain(judged, frame)
                said[whole] += 1
                for serial in range(6 if whole is not None else 0):
                    one_of_them = foreign_bench.single(frame, dice, serial)
                    arrives, _ = foreign_bench.said(judged, frame, one_of_them)
                    assert arrives in {None, whole}, (texts, frame, one_of_them)
    assert min(said.values()) > 40


def test_many_rules_that_drop_a_part_each_are_told_by_some_of_them() -> None:
    lines = [f"-s 203.0.{number // 256}.{number % 256}/32 -j DROP" for number in range(600)]

    verdict = legacy(*lines, "-d 172.16.39.101/32 -j ACCEPT").address(PLACE, V4)

    assert verdict.dark == ()
    assert 0 < len(verdict.partly) < 600


def test_classes_are_whole_frames() -> None:
    for address in (V4, V6):
        kinds = [(each.way, each.kind) for each in frames(MAC, address)]
        assert len(kinds) == len(set(kinds)) == 14
