"""Rules of each tool as data: what is understood, and that what is not is never taken for nothing."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from state import ebtables, ipset, iptables, nft_rules, tc
from state.netfilter import (
    Chain,
    CopyMark,
    Hook,
    Leave,
    Masked,
    Named,
    Rewrite,
    SetMark,
    Sometimes,
    Step,
    Tuples,
    Unknown,
    Untrack,
    Verdict,
    Within,
    mac_number,
    merged,
)

ACCEPT, DROP, ASK = Verdict("accept"), Verdict("drop"), Verdict("ask")
ALL32 = 0xFFFFFFFF
TCP, UDP = Within("proto", ((6, 6),)), Within("proto", ((17, 17),))
V4, V6 = Within("nfproto", ((2, 2),)), Within("nfproto", ((10, 10),))


def ip(text: str) -> int:
    return int(IPv6Address(text) if ":" in text else IPv4Address(text))


def host(text: str) -> tuple[tuple[int, int], ...]:
    return ((ip(text), ip(text)),)


def chain_of(text: str, family: str = "inet") -> Chain:
    listing = f"table {family} t {{\n{SETS}\tchain c {{\n\t\t{text}\n\t}}\n\n\tchain own {{\n\t}}\n}}\n"
    return nft_rules.parse_table(listing).chains["c"]


SETS = """\
	set bad {
		type ipv4_addr
		flags interval,timeout
		elements = { 192.0.2.1 timeout 1h expires 59m comment "a, b", 198.51.100.0/24,
			203.0.113.1-203.0.113.9 counter }
	}

	set pairs {
		type ifname . ipv4_addr
		elements = { "vm01" . 192.0.2.1 }
	}

	map ways {
		type ipv4_addr : verdict
		elements = { 192.0.2.1 counter : drop, 192.0.2.2 : jump own comment "x", 192.0.2.3 : continue }
	}

"""


def nft(text: str, family: str = "inet") -> list[tuple[Step, ...]]:
    return [rule.steps for rule in chain_of(text, family).rules]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("ip saddr 192.0.2.1 drop", (Within("saddr4", host("192.0.2.1")), DROP)),
        ("ip daddr != 192.0.2.0/24 accept", (Within("daddr4", ((ip("192.0.2.0"), ip("192.0.2.255")),), negated=True), ACCEPT)),
        ("ip6 saddr 2001:db8::/32 drop", (Within("saddr6", ((ip("2001:db8::"), ip("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")),)), DROP)),
        ("ip saddr 192.0.2.1-192.0.2.9 drop", (Within("saddr4", ((ip("192.0.2.1"), ip("192.0.2.9")),)), DROP)),
        ("ip saddr @bad drop", (Within("saddr4", merged([*host("192.0.2.1"), (ip("198.51.100.0"), ip("198.51.100.255")), (ip("203.0.113.1"), ip("203.0.113.9"))])), DROP)),
        ("ip saddr & 255.0.255.0 == 10.0.7.0 drop", (Masked("saddr4", ip("255.0.255.0"), ip("10.0.7.0")), DROP)),
        ("tcp dport { 22, 80-90 } accept", (TCP, Within("dport", ((22, 22), (80, 90))), ACCEPT)),
        ("udp sport != 53 drop", (UDP, Within("sport", ((53, 53),), negated=True), DROP)),
        ("tcp sport >= 1024 accept", (TCP, Within("sport", ((1024, 2**128),)), ACCEPT)),
        ("tcp sport < 1024 accept", (TCP, Within("sport", ((1024, 2**128),), negated=True), ACCEPT)),
        ("th dport > 1024 accept", (Within("dport", ((1025, 2**128),)), ACCEPT)),
        ("th dport <= 1024 accept", (Within("dport", ((1025, 2**128),), negated=True), ACCEPT)),
        ("meta l4proto { tcp, ipv6-icmp } accept", (Within("proto", ((6, 6), (58, 58))), ACCEPT)),
        ("ip protocol icmp accept", (V4, Within("proto", ((1, 1),)), ACCEPT)),
        ("ip6 nexthdr tcp accept", (V6, TCP, ACCEPT)),
        ("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept", (Within("icmp6_type", ((135, 136),)), ACCEPT)),
        ("icmp type echo-request accept", (Within("icmp4_type", ((8, 8),)), ACCEPT)),
        ('iifname "vm*" drop', (Named("iif", ("vm*",)), DROP)),
        ('oifname != { "vm01", "vm02" } drop', (Named("oif", ("vm01", "vm02"), negated=True), DROP)),
        ('meta ibrname "xenbr0" drop', (Named("ibr", ("xenbr0",)), DROP)),
        ("ct state established,related accept", (Within("ctstate", ((2, 2), (4, 4))), ACCEPT)),
        ("ct state ! invalid accept", (Within("ctstate", ((1, 1),), negated=True), ACCEPT)),
        ("ct status dnat accept", (Masked("ctstatus", 32, 0, negated=True), ACCEPT)),
        ("ct direction reply accept", (Within("ctdir", ((1, 1),)), ACCEPT)),
        ("tcp flags syn accept", (TCP, Masked("tcp_flags", 2, 0, negated=True), ACCEPT)),
        ("tcp flags == syn accept", (TCP, Within("tcp_flags", ((2, 2),)), ACCEPT)),
        ("tcp flags ! fin,syn accept", (TCP, Masked("tcp_flags", 3, 0), ACCEPT)),
        ("tcp flags != syn / fin,syn,rst,ack drop", (TCP, Masked("tcp_flags", 23, 2, negated=True), DROP)),
        ("meta mark & 0x000000ff == 0x00000001 drop", (Masked("mark", 255, 1), DROP)),
        ("meta pkttype { unicast, broadcast } drop", (Named("pkttype", ("host", "broadcast")), DROP)),
        ("fib daddr type local accept", (Named("daddr_type", ("local",)), ACCEPT)),
        ("vlan id 5 drop", (Within("vlan", ((5, 5),)), DROP)),
        ("iifname . ip saddr @pairs accept", (Tuples(("iif", "saddr4"), ((("vm01",), host("192.0.2.1")),)), ACCEPT)),
        ("meta mark set 0x00000005", (SetMark("mark", 0, 5),)),
        ("meta mark set meta mark | 0x00000010", (Within("mark", ((0, ALL32),)), SetMark("mark", ALL32 & ~16, 16))),
        ("meta mark set meta mark & 0xffffff10 | 0x00000010", (Within("mark", ((0, ALL32),)), SetMark("mark", 0xFFFFFF00, 16))),
        ("meta mark set meta mark ^ 0x00000010", (Within("mark", ((0, ALL32),)), SetMark("mark", ALL32, 16))),
        ("ct mark set meta mark", (Within("mark", ((0, ALL32),)), CopyMark("ctmark", 0, ALL32))),
        ("meta mark set ct mark & 0x000000ff", (Within("ctmark", ((0, ALL32),)), CopyMark("mark", 0, 255))),
        ("notrack", (Untrack(),)),
        ("limit rate 10/second burst 5 packets accept", (Sometimes(), ACCEPT)),
        ("limit rate over 10 mbytes/second drop", (Sometimes(rarely=True), DROP)),
        ('limit name "l" accept', (Sometimes(), ACCEPT)),
        ("quota over 10 mbytes used 3 bytes drop", (Sometimes(rarely=True), DROP)),
        ('quota name "q" drop', (Sometimes(), DROP)),
        ("ct count over 10 drop", (Sometimes(rarely=True), DROP)),
        ("add @bad { ip saddr timeout 10s } drop", (DROP,)),
        ("update @bad { ip saddr limit rate over 10/second } drop", (Sometimes(rarely=True), DROP)),
        ("add @bad { ip saddr ct count over 3 } drop", (Sometimes(rarely=True), DROP)),
        ('log prefix "drop, all" level info flags tcp sequence,options counter drop', (DROP,)),
        ('counter name "c" return comment "accept"', (Verdict("return"),)),
        ("continue", ()),
        ("goto own", (Verdict("goto", "own"),)),
        ("reject with icmpx admin-prohibited", (DROP,)),
        ("queue num 3 bypass", (ASK,)),
        ("ip saddr 192.0.2.1 masquerade random", (Within("saddr4", host("192.0.2.1")), Rewrite("source", ends=True))),
        ("snat ip to 192.0.2.1", (Rewrite("source", ends=True),)),
        ("redirect to :8080", (Rewrite("destination", ends=True),)),
        ("ip saddr set 192.0.2.1 accept", (Rewrite("source", ends=False), ACCEPT)),
        ("ether daddr set 00:00:5e:00:53:01", (Rewrite("destination", ends=False),)),
        ("meta pkttype set host accept", (Rewrite("destination", ends=False), ACCEPT)),
        ("meta broute set 1", (Leave("broute"),)),
        ("meta nftrace set 1", ()),
        ("ip dscp set cs1", ()),
        ("tcp option maxseg size set rt mtu", ()),
        ("flow add @f", ()),
        ("rt ipsec exists drop", (Unknown("rt ipsec exists"), DROP)),
        ("ip ttl < 3 drop", (Unknown("ip ttl < 3"), DROP)),
        ('meta time "2026-01-01 00:00:00" drop', (Unknown('meta time "2026-01-01 00:00:00"'), DROP)),
        ("@nh,16,16 22 drop", (Unknown("@nh,16,16 22"), DROP)),
        ("ct original ip saddr 192.0.2.1 drop", (Unknown("ct original ip saddr 192.0.2.1"), DROP)),
        ("fib saddr . iif oif missing drop", (Unknown("fib saddr . iif oif missing"), DROP)),
        ('xt match "physdev" counter drop', (Unknown("xt match physdev"), DROP)),
        ('xt target "TCPOPTSTRIP"', (ASK,)),
        ("meta mark set ip saddr map @m accept", (Unknown("ip saddr map @m accept"), ASK)),
        ("ip saddr @gone drop", (Unknown("drop"), ASK)),
        ("ip saddr 192.0.2.300 drop", (Unknown("drop"), ASK)),
        ("something new drop", (Unknown("something new drop"), ASK)),
        ("ip saddr 192.0.2.1 jump { drop }", (Within("saddr4", host("192.0.2.1")), Unknown("jump { drop }"), ASK)),
    ],
)  # fmt: skip
def test_what_nft_lists_is_understood_or_said_not_to_be(text: str, steps: tuple[Step, ...]) -> None:
    assert [*map(repr, nft(text))] == [repr(steps)]


def test_what_nft_lists_of_bridges_and_devices_is_understood() -> None:
    arp = Within("ethertype", ((0x806, 0x806),))
    assert nft("arp operation request arp saddr ip 192.0.2.1 drop", "bridge") == [
        (Within("arp_op", ((1, 1),)), arp, Within("arp_saddr", host("192.0.2.1")), DROP)
    ]
    assert nft("ether daddr & ff:ff:ff:00:00:00 == 01:00:5e:00:00:00 accept", "bridge") == [
        (Masked("dmac", mac_number("ff:ff:ff:0:0:0"), mac_number("1:0:5e:0:0:0")), ACCEPT)
    ]
    assert nft('ip saddr 192.0.2.1 fwd to "eth0"', "netdev") == [
        (Within("saddr4", host("192.0.2.1")), Leave("fwd", "eth0"))
    ]
    assert nft('fwd ip to 192.0.2.1 device "eth0"', "netdev") == [(Leave("fwd", "eth0"),)]
    assert nft('dup to "eth0" accept', "netdev") == [(Leave("dup", "eth0"), ACCEPT)]


def test_a_verdict_map_is_a_rule_for_each_of_its_members() -> None:
    ways = [
        (Within("saddr4", host("192.0.2.1")), DROP),
        (Within("saddr4", host("192.0.2.2")), Verdict("jump", "own")),
    ]

    assert nft("ip saddr vmap @ways") == ways
    assert nft("ip saddr vmap { 192.0.2.1 : drop, 192.0.2.2 : jump own }") == ways
    assert nft("ct state vmap { invalid : drop, established : accept }") == [
        (Within("ctstate", ((1, 1),)), DROP),
        (Within("ctstate", ((2, 2),)), ACCEPT),
    ]
    assert nft("ip saddr vmap { 192.0.2.1 : queue }")[0][-1] == ASK


def test_what_a_rule_asks_after_it_has_acted_is_not_trusted() -> None:
    text = "meta mark set 0x00000001 ip saddr 192.0.2.1 drop"

    assert nft(text) == [(SetMark("mark", 0, 1), Unknown(text), ASK)]
    assert nft("meta mark set 0x00000001 meta mark set meta mark | 0x00000002 accept")[0][-1] == ACCEPT


def test_two_negated_fields_that_nft_may_have_made_one_of_are_not_trusted() -> None:
    said = Unknown("several != of one header")

    assert nft("ether daddr != 00:00:5e:00:53:0b ether saddr != 00:00:5e:00:53:0a drop") == [
        (said, said, DROP)
    ]
    assert nft("tcp sport != 5 tcp dport != 6 drop") == [(TCP, said, TCP, said, DROP)]
    assert nft("ip saddr != 192.0.2.1 ip daddr != 192.0.2.2 drop") == [
        (
            Within("saddr4", host("192.0.2.1"), negated=True),
            Within("daddr4", host("192.0.2.2"), negated=True),
            DROP,
        )
    ]
    assert nft("tcp sport != { 5, 6 } tcp dport != 7 drop")[0][1] == Within("sport", ((5, 6),), negated=True)


@pytest.mark.parametrize(
    ("line", "hook"),
    [
        (
            "type filter hook prerouting priority dstnat - 10; policy accept;",
            Hook("bridge", "prerouting", -310),
        ),
        (
            "type filter hook forward priority filter; policy drop;",
            Hook("bridge", "forward", -200, drops=True),
        ),
        ("type filter hook forward priority 5;", Hook("bridge", "forward", 5)),
    ],
)
def test_base_chains_hang_where_they_are_listed_to(line: str, hook: Hook) -> None:
    assert chain_of(line, "bridge").hook == hook


def test_chains_of_devices_and_dormant_tables() -> None:
    one = chain_of('type filter hook ingress device "vm01" priority filter; policy accept;', "netdev").hook
    two = chain_of(
        "type filter hook egress devices = { vm01, vm02 } priority 5; policy accept;", "netdev"
    ).hook
    asleep = nft_rules.parse_table(
        "table ip t {\n\tflags dormant\n\n\tchain c {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n"
    )

    assert one == Hook("netdev", "ingress", 0, devices=("vm01",))
    assert two == Hook("netdev", "egress", 5, devices=("vm01", "vm02"))
    assert asleep.chains["c"].hook is None


def save(rule: str, source: str = "iptables-legacy-save", sets: str = "") -> tuple[Step, ...]:
    text = f"*filter\n:FORWARD ACCEPT\n:own -\n-A FORWARD {rule}\nCOMMIT\n"
    (table,) = iptables.parse_save(source, text, ipset.parse_sets(sets))
    return table.chains["FORWARD"].rules[0].steps


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        ("-s 192.0.2.1/32 -j DROP", (Within("saddr4", host("192.0.2.1")), DROP)),
        ("! -d 192.0.2.0/24 -j ACCEPT", (Within("daddr4", ((ip("192.0.2.0"), ip("192.0.2.255")),), negated=True), ACCEPT)),
        ("-s 10.0.0.0/255.0.255.0 -j DROP", (Masked("saddr4", ip("255.0.255.0"), ip("10.0.0.0")), DROP)),
        ("-i vif+ ! -o lo -j DROP", (Named("iif", ("vif*",)), Named("oif", ("lo",), negated=True), DROP)),
        ("-p tcp -m tcp --dport 80:90 -j DROP", (TCP, Within("dport", ((80, 90),)), DROP)),
        ("! -p udp -j DROP", (Within("proto", ((17, 17),), negated=True), DROP)),
        ("-p all -j DROP", (Within("proto", ((0, 255),)), DROP)),
        ("-p 47 -f -j DROP", (Within("proto", ((47, 47),)), Within("fragment", ((1, 1),)), DROP)),
        ("-p tcp -m multiport ! --dports 22,80:90 -j DROP", (TCP, Within("dport", ((22, 22), (80, 90)), negated=True), DROP)),
        ("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP", (TCP, Masked("tcp_flags", 23, 2, negated=True), DROP)),
        ("-p icmp -m icmp --icmp-type 3/4 -j ACCEPT", (Within("proto", ((1, 1),)), Within("icmp4_type", ((3, 3),)), Within("icmp4_code", ((4, 4),)), ACCEPT)),
        ("-p icmp -m icmp --icmp-type any -j ACCEPT", (Within("proto", ((1, 1),)), ACCEPT)),
        ("-p icmp -m icmp ! --icmp-type 3/4 -j ACCEPT", (Within("proto", ((1, 1),)), Unknown("! --icmp-type 3/4"), ACCEPT)),
        ("-m physdev --physdev-in vm01 ! --physdev-out vm+ --physdev-is-bridged -j DROP", (Named("physin", ("vm01",)), Named("physout", ("vm*",), negated=True), Named("physout", ("",), negated=True), DROP)),
        ("-m physdev ! --physdev-is-in -j DROP", (Named("physin", ("",)), DROP)),
        ("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP", (Within("ctstate", ((2, 2), (4, 4)), negated=True), DROP)),
        ("-m conntrack --ctstate SNAT -j DROP", (Unknown("--ctstate SNAT"), DROP)),
        ("-m state --state NEW -j ACCEPT", (Within("ctstate", ((8, 8),)), ACCEPT)),
        ("-m mark ! --mark 0x4/0xff -j DROP", (Masked("mark", 255, 4, negated=True), DROP)),
        ("-m connmark --mark 0x4 -j DROP", (Masked("ctmark", ALL32, 4), DROP)),
        ("-m mac --mac-source 00:00:5e:00:53:01 -j DROP", (Within("smac", ((mac_number("0:0:5e:0:53:1"),) * 2,)), DROP)),
        ("-m addrtype --dst-type LOCAL,MULTICAST -j DROP", (Named("daddr_type", ("local", "multicast")), DROP)),
        ("-m pkttype --pkt-type unicast -j DROP", (Named("pkttype", ("host",)), DROP)),
        ("-m iprange ! --src-range 192.0.2.1-192.0.2.9 -j DROP", (Within("saddr4", ((ip("192.0.2.1"), ip("192.0.2.9")),), negated=True), DROP)),
        ("-m limit --limit 15/min --limit-burst 5 -j ACCEPT", (Sometimes(), ACCEPT)),
        ("-m hashlimit --hashlimit-above 10/sec --hashlimit-burst 5 --hashlimit-name y -j DROP", (Sometimes(rarely=True), DROP)),
        ("-m connlimit --connlimit-upto 5 --connlimit-mask 32 --connlimit-saddr -j ACCEPT", (Sometimes(), ACCEPT)),
        ("-m recent --set --name x --mask 255.255.255.255 --rsource", ()),
        ("-m recent --update --seconds 30 --hitcount 6 --name x --mask 255.255.255.255 --rsource -j DROP", (Unknown("--update"), Sometimes(rarely=True), DROP)),
        ('-m comment --comment "a \\"b\\" -j DROP" -j ACCEPT', (ACCEPT,)),
        ("-m rpfilter --validmark --invert -j DROP", (Unknown("-m rpfilter"), DROP)),
        ("-m tcp --tcp-option 5 -j DROP", (Unknown("--tcp-option 5"), DROP)),
        ("-m mark --mark x -j DROP", (Unknown("--mark x"), DROP)),
        ("-j MARK --set-xmark 0x4000/0x4000", (SetMark("mark", ALL32 & ~0x4000, 0x4000),)),
        ("-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff", (CopyMark("ctmark", ALL32 & ~255, 255),)),
        ("-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf", (CopyMark("mark", ALL32 & ~255, 15),)),
        ("-j CONNMARK --set-xmark 0x1/0xffffffff", (SetMark("ctmark", 0, 1),)),
        ("-j CT --notrack", (Untrack(),)),
        ("-j CT --zone 5", ()),
        ('-j LOG --log-prefix "x y"', ()),
        ("-j SNAT --to-source 192.0.2.1", (Rewrite("source", ends=True),)),
        ("-j NETMAP --to 192.0.2.0/24", (Rewrite("destination", ends=True),)),
        ("-j NFQUEUE --queue-num 0", (ASK,)),
        ("-j SOMETHING --new", (ASK,)),
        ("-j MARK --new", (ASK,)),
        ("-j own", (Verdict("jump", "own"),)),
        ("-g own", (Verdict("goto", "own"),)),
        ("-m set --match-set gone src -j DROP", (Unknown("--match-set gone src"), DROP)),
    ],
)  # fmt: skip
def test_what_iptables_saves_is_understood_or_said_not_to_be(rule: str, steps: tuple[Step, ...]) -> None:
    assert save(rule) == steps


def test_ip6tables_and_the_other_tables() -> None:
    steps = save("-p ipv6-icmp -m icmp6 --icmpv6-type 135 -s fe80::/10 -j ACCEPT", "ip6tables-nft-save")
    text = "*nat\n:PREROUTING DROP\n:POSTROUTING ACCEPT\nCOMMIT\n*raw\n:PREROUTING ACCEPT\nCOMMIT\n"
    nat, raw = iptables.parse_save("ip6tables-nft-save", text, {})

    assert steps[0] == Within("proto", ((58, 58),))
    assert steps[1] == Within("icmp6_type", ((135, 135),))
    assert isinstance(steps[2], Within)
    assert steps[2].field == "saddr6"
    assert nat.chains["PREROUTING"].hook == Hook("ip6", "prerouting", -100, "nat", drops=True)
    assert nat.chains["POSTROUTING"].hook == Hook("ip6", "postrouting", 100, "nat")
    assert raw.chains["PREROUTING"].hook == Hook("ip6", "prerouting", -300)
    assert (nat.where, nat.address) == ("ip6tables-nft -t nat", "foreign.ip6tables-nft.nat")


IPSETS = """\
create one hash:ip family inet hashsize 1024 maxelem 65536 timeout 0
add one 192.0.2.1 timeout 5
create six hash:net family inet6
add six 2001:db8::/32
create ports hash:ip,port family inet
add ports 192.0.2.1,tcp:80
create cards hash:mac
add cards 00:00:5E:00:53:01
create ways hash:net,iface family inet
add ways 192.0.2.0/24,xenbr0
add ways 192.0.2.0/24,physdev:vm01
create sides bitmap:port range 1-100
add sides 80
create lists list:set size 8
create but hash:net
add but 192.0.2.0/24 nomatch
create bad hash:ip
add bad nonsense
"""


@pytest.mark.parametrize(
    ("rule", "condition"),
    [
        ("--match-set one src", Within("saddr4", host("192.0.2.1"))),
        ("! --match-set one dst", Within("daddr4", host("192.0.2.1"), negated=True)),
        ("--match-set six src", Within("proto", ())),
        ("! --match-set six src", Within("proto", ((0, 255),))),
        ("--match-set ports src,dst", Tuples(("saddr4", "proto", "dport"), ((host("192.0.2.1"), ((6, 6),), ((80, 80),)),))),
        ("--match-set cards src", Within("smac", ((mac_number("0:0:5e:0:53:1"),) * 2,))),
        ("--match-set cards dst", Unknown("--match-set cards dst")),
        ("--match-set ways src,src", Tuples(("saddr4", "iif"), ((((ip("192.0.2.0"), ip("192.0.2.255")),), ("xenbr0",)),))),
        ("--match-set sides dst", Tuples(("proto", "dport"), ((((0, 255),), ((80, 80),)),))),
        ("--match-set lists src", Unknown("--match-set lists src")),
        ("--match-set but src", Unknown("--match-set but src")),
        ("--match-set bad src", Unknown("--match-set bad src")),
        ("--match-set ports src", Unknown("--match-set ports src")),
    ],
)  # fmt: skip
def test_sets_are_judged_by_their_members(rule: str, condition: Step) -> None:
    assert repr(save(f"-m set {rule} -j DROP", sets=IPSETS)) == repr((condition, DROP))


def bridged(rule: str, table: str = "filter", chain: str = "FORWARD") -> tuple[Step, ...]:
    text = f"*{table}\n:{chain} ACCEPT\n:own RETURN\n-A {chain} {rule}\n"
    (found,) = ebtables.parse_save("ebtables-nft-save", text)
    return found.chains[chain].rules[0].steps


ARP = Within("ethertype", ((0x806, 0x806),))


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        ("-p IPv4 -i vm01 --ip-src 192.0.2.1 --ip-proto tcp --ip-dport 80:90 -j DROP", (Within("ethertype", ((0x800, 0x800),)), Named("iif", ("vm01",)), Within("saddr4", host("192.0.2.1")), TCP, Within("dport", ((80, 90),)), DROP)),
        ("-p ! ARP -o ! vm+ -j DROP", (Within("ethertype", ((0x806, 0x806),), negated=True), Named("oif", ("vm*",), negated=True), DROP)),
        ("-p ARP --arp-op Request --arp-ip-dst 192.0.2.0/24 --arp-mac-src 00:00:5e:00:53:01 -j ACCEPT", (ARP, Within("arp_op", ((1, 1),)), Within("arp_daddr", ((ip("192.0.2.0"), ip("192.0.2.255")),)), Within("arp_smac", ((mac_number("0:0:5e:0:53:1"),) * 2,)), ACCEPT)),
        ("-p ARP --arp-op 2 --arp-htype 1 --arp-ptype 0x800 -j ACCEPT", (ARP, Within("arp_op", ((2, 2),)), Within("arp_htype", ((1, 1),)), Within("arp_ptype", ((0x800, 0x800),)), ACCEPT)),
        ("-p IPv6 --ip6-src fe80::/ffc0:: --ip6-proto ipv6-icmp --ip6-icmp-type neighbour-solicitation -j DROP", (Within("ethertype", ((0x86DD, 0x86DD),)), Masked("saddr6", ip("ffc0::"), ip("fe80::")), Within("proto", ((58, 58),)), Within("icmp6_type", ((135, 135),)), DROP)),
        ("-p IPv6 --ip6-icmp-type 1:4 -j DROP", (Within("ethertype", ((0x86DD, 0x86DD),)), Within("icmp6_type", ((1, 4),)), DROP)),
        ("-p IPv6 --ip6-icmp-type 1/2 -j DROP", (Within("ethertype", ((0x86DD, 0x86DD),)), Unknown("--ip6-icmp-type 1/2"), DROP)),
        ("-p LENGTH -j DROP", (Within("ethertype", ((0, 0x5FF),)), DROP)),
        ("-p 0x88cc -j DROP", (Within("ethertype", ((0x88CC, 0x88CC),)), DROP)),
        ("-p NetBEUI -j DROP", (Unknown("-p NetBEUI"), DROP)),
        ("-s Multicast -d ! Broadcast -j DROP", (Masked("smac", 1 << 40, 1 << 40), Within("dmac", ((2**48 - 1,) * 2,), negated=True), DROP)),
        ("--logical-in xenbr0 --mark 0x1/0x3 -j own", (Named("ibr", ("xenbr0",)), Masked("mark", 3, 1), Verdict("jump", "own"))),
        ("--mark /0x3 -j DROP", (Masked("mark", 3, 0, negated=True), DROP)),
        ("--pkttype-type otherhost --limit 10/sec --limit-burst 5 -j ACCEPT", (Named("pkttype", ("other",)), Sometimes(), ACCEPT)),
        ('--log-level notice --log-prefix "foo bar" -j CONTINUE', ()),
        ("--among-src 0:0:5e:0:53:1 -j DROP", (Unknown("--among-src 0:0:5e:0:53:1"), DROP)),
        ("-j mark --mark-set 0x10 --mark-target CONTINUE", (SetMark("mark", 0, 16),)),
        ("-j mark --mark-or 0x10 --mark-target ACCEPT", (SetMark("mark", ALL32 & ~16, 16), ACCEPT)),
        ("-j mark --mark-and 0x10 --mark-target RETURN", (SetMark("mark", 16, 0), Verdict("return"))),
        ("-j mark --mark-xor 0x10", (SetMark("mark", ALL32, 16), ACCEPT)),
        ("-j snat --to-src 00:00:5e:00:53:01 --snat-target ACCEPT", (Rewrite("source", ends=False), ACCEPT)),
        ("-j redirect", (Rewrite("destination", ends=False), ACCEPT)),
        ("-j arpreply --arpreply-mac 00:00:5e:00:53:01", (ASK,)),
    ],
)  # fmt: skip
def test_what_ebtables_saves_is_understood_or_said_not_to_be(rule: str, steps: tuple[Step, ...]) -> None:
    assert bridged(rule) == steps


def test_ebtables_own_chains_have_policies_and_broute_means_dom0() -> None:
    (filtered,) = ebtables.parse_save(
        "ebtables-nft-save", "*filter\n:FORWARD DROP\n:own DROP\n:other RETURN\n-A own -j ACCEPT\n"
    )

    assert filtered.chains["FORWARD"].hook == Hook("bridge", "forward", -200, drops=True)
    assert [rule.steps for rule in filtered.chains["own"].rules] == [(ACCEPT,), (DROP,)]
    assert filtered.chains["other"].rules == ()
    assert bridged("-i vm01 -j DROP", "broute", "BROUTING") == (Named("iif", ("vm01",)), Leave("broute"))


def test_the_old_ebtables_lists_commands() -> None:
    listing = "ebtables -t filter -P FORWARD DROP\nebtables -t filter -N own -P ACCEPT\nebtables -t filter -N bare\nebtables -t filter -A FORWARD -i vm01 -j own\n\n"

    assert (
        ebtables.legacy_saved("filter", listing)
        == "*filter\n:FORWARD DROP\n:own ACCEPT\n:bare ACCEPT\n-A FORWARD -i vm01 -j own\n"
    )


def filters(*rules: str) -> list[tuple[Step, ...]]:
    source = "tc filter show dev vm01 ingress"
    table = tc.parse_filters(source, "[" + ",".join(rules) + "]")
    assert table.chains["ingress"].hook == Hook("netdev", "ingress", -(2**31), devices=("vm01",))
    return [rule.steps for rule in table.chains["ingress"].rules]


def test_filters_of_traffic_control_are_understood_by_what_they_do() -> None:
    def one(kind: str, *actions: str, protocol: str = "all", more: str = "") -> str:
        return f'{{"protocol":"{protocol}","pref":1,"kind":"{kind}","chain":0,"options":{{{more}"actions":[{",".join(actions)}]}}}}'

    redirect = '{"kind":"mirred","mirred_action":"redirect","direction":"egress","to_dev":"eth0","control_action":{"type":"stolen"}}'
    mirror = '{"kind":"mirred","mirred_action":"mirror","direction":"egress","to_dev":"eth0","control_action":{"type":"pipe"}}'
    drop, passes = (f'{{"kind":"gact","control_action":{{"type":"{each}"}}}}' for each in ("drop", "pass"))
    found = filters(
        '{"protocol":"all","pref":1,"kind":"u32","chain":0}',
        one("matchall", redirect),
        one("u32", mirror, drop, protocol="ip"),
        one("flower", passes),
        one("matchall", '{"kind":"police"}'),
        one("matchall", '{"kind":"pedit"}'),
        one("bpf", more='"direct-action":true,'),
        one("u32", drop, protocol="odd"),
    )

    assert found == [
        (Leave("fwd", "eth0"),),
        (Within("ethertype", ((0x800, 0x800),)), Sometimes(), Leave("dup", "eth0"), DROP),
        (Sometimes(), ACCEPT),
        (),
        (ASK,),
        (Unknown("a program"), ASK),
        (Unknown("protocol odd"), Sometimes(), DROP),
    ]
