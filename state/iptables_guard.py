"""What of our guard ebtables, iptables, ip6tables and ipset have loaded, for a host whose guard lives there.

Which elements are bound is read from ebtables' chains, which see every frame; all the rest is kept as text, chain by
chain, for who knows what should stand there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Literal

from state.ipset import SAVE as IPSET_SAVE
from state.nft import LoadedTable, Loader, rule_blocks
from state.run import ReadError, Runner, read

Variant = Literal["nft", "legacy"]
Layout = Mapping[str, tuple[str, ...]]
VARIANTS: Mapping[Loader, Variant] = {"iptables-nft": "nft", "iptables-legacy": "legacy"}
EBTABLES_SAVE = ("ebtables-nft-save",)
# The chain of the tool's own that leads to ours, by `TOOL TABLE`.
BUILTIN: Mapping[str, str] = {
    "ebtables filter": "INPUT",
    "ebtables nat": "PREROUTING",
    "iptables raw": "PREROUTING",
    "ip6tables raw": "PREROUTING",
}
_OURS = re.compile(r"domgit(?:[./-].*)?")
_SETS = re.compile(r"domgit[46](?:\.spare)?")
# Blocks of nft's listing: a chain of ours, a rule that leads to one, a table with nothing but hooks that let all pass.
_LISTED_CHAIN = re.compile(r"\tchain domgit(?:[./-]\S*)? \{\n(?:\t\t.*\n)*\t\}\n\n?")
_LISTED_WAY = re.compile(r"\t\t.* (?:jump|goto) domgit(?:[./-]\S*)?\n")
_LISTED_NOTHING = re.compile(
    r"table \S+ \S+ \{\n(?:\tchain \S+ \{\n\t\ttype .*; policy accept;\n\t\}\n\n?)*\}\n"
)
_TO_OURS = re.compile(r"(?:^| )-[jg] domgit(?:[./-]\S*)?$")
_CHAIN = re.compile(r":(?P<name>\S+) (?P<policy>\S+)(?: \[\d+:\d+\])?")
_RULE = re.compile(r"-A (?P<chain>\S+)(?: (?P<rule>\S.*))?")
_LIMIT = re.compile(r"--limit (\d+)/(sec|min|hour|day)")
_SECONDS = {"sec": 1, "min": 60, "hour": 3600, "day": 86400}
_PORT = re.compile(r"-i (?P<port>\S+) -j domgit(?P<chain>[./-]\S*)")
_MAC = re.compile(r"-s ! (?P<mac>[0-9a-f]{2}(?::[0-9a-f]{2}){5}) -j domgit\.(?P<mode>drop|note)\.mac")
_SOURCE = re.compile(r"-p IPv[46] --ip6?-src (?P<address>\S+) -j RETURN")
_SET = re.compile(
    r"create (?P<name>\S+) (?P<kind>\S+) family (?P<family>\S+)(?: .*)?|add (?P<set>\S+) (?P<member>\S+)"
)


def iptables_save(tool: Literal["iptables", "ip6tables"], variant: Variant) -> tuple[str, ...]:
    """The command that lists the table `raw`."""
    return (f"{tool}-{variant}-save", "-t", "raw")


def read_loaded(runner: Runner, variant: Variant) -> LoadedTable | None:
    """Our guard; None where nothing of it is loaded.

    Raises:
        ReadError: a tool failed, or what it lists is not whole.
    """
    return parse(
        ebtables=read(runner, EBTABLES_SAVE),
        iptables=read(runner, iptables_save("iptables", variant)),
        ip6tables=read(runner, iptables_save("ip6tables", variant)),
        ipset=read(runner, IPSET_SAVE),
    )


def parse(*, ebtables: str, iptables: str, ip6tables: str, ipset: str) -> LoadedTable | None:
    """Our guard in what ebtables-save, iptables-save, ip6tables-save and ipset save list; None where nothing of it is there.

    `elements` are named and written as those of the nftables table, `rules` is everything of ours, chain by chain.

    Raises:
        ReadError: a text is none of that command, or was cut.

    Source: iptables-save(8), ebtables-nft(8), iptables 1.8.9, both variants; ipset(8), ipset 7.17.
    """
    layout: dict[str, tuple[str, ...]] = {}
    for tool, text in (("ebtables", ebtables), ("iptables", iptables), ("ip6tables", ip6tables)):
        for table, lines in _tables(tool, text):
            if f"{tool} {table}" in BUILTIN:
                layout.update(_chains(f"{tool} {table}", lines))
    layout.update(_sets(ipset))
    # A chain of the tool's own, without a jump of ours, is nothing of ours.
    if not any(lines or not name.endswith(tuple(BUILTIN.values())) for name, lines in layout.items()):
        return None
    return LoadedTable(_elements(layout), layout_text(layout))


def layout_text(layout: Layout) -> str:
    """All chains and sets as one text, equal for equal ones; rule_blocks takes it apart again."""
    return "".join(
        f"{name}\n" + "".join(f"\t{line}\n" for line in lines) for name, lines in sorted(layout.items())
    )


def loaded_layout(loaded: LoadedTable) -> Layout:
    """The chains and sets of a loaded guard."""
    return rule_blocks(loaded.rules)


def late_ports(layout: Layout) -> frozenset[str]:
    """The ports that the hotplug script has bound, and nobody has sorted in among the others yet."""
    found = (_PORT.fullmatch(line) for line in layout.get("ebtables nat domgit.late", ()))
    return frozenset(match["port"] for match in found if match is not None)


def normalised(line: str) -> str:
    """A rule in the one form that rules are compared in.

    A limit may be saved in another unit than it was given in, and a protocol by its number where /etc/protocols has no name.
    """
    line = line.replace("-p 103 ", "-p pim ")
    if "--limit " not in line:
        return line
    return _LIMIT.sub(lambda match: f"--limit {_SECONDS[match[2]] * 10000 // int(match[1])}", line)


def foreign_text(saved: str) -> str:
    """The output of a save command without what is ours: chains, ways to them, sets.

    A table that was used once is there for good. Whether that was for ours alone nobody can say: one that does nothing is
    left out, whoever made it.
    """
    kept, table = list[str](), list[str]()
    for line in saved.splitlines(keepends=True):
        if _is_ours(line.rstrip("\n")):
            continue
        table.append(line)
        if line.startswith("# Completed on "):
            kept += () if _unused(table) else table
            table = []
    return "".join((*kept, *table))


def _is_ours(line: str) -> bool:
    chain, rule, member = _CHAIN.fullmatch(line), _RULE.fullmatch(line), _SET.fullmatch(line)
    if member is not None:
        return _SETS.fullmatch(member["name"] or member["set"]) is not None
    if rule is not None:
        return bool(_OURS.fullmatch(rule["chain"]) or _TO_OURS.search(rule["rule"] or ""))
    return chain is not None and _OURS.fullmatch(chain["name"]) is not None


def _unused(lines: list[str]) -> bool:
    """Whether a table does nothing: no rule in it, and only chains of its own that let everything pass."""
    return not any(
        line.startswith("-A ") or (line.startswith(":") and line.split()[1:2] != ["ACCEPT"]) for line in lines
    )


def foreign_listing(listed: str) -> str:
    """What `nft list table` says of a table of ebtables or iptables, without what is ours; "" where nothing else is in it."""
    rest = _LISTED_CHAIN.sub("", listed)
    rest = _LISTED_WAY.sub("", rest)
    if _LISTED_NOTHING.fullmatch(rest):
        return ""  # a table that does nothing: see foreign_text
    return listed if rest == listed else rest.replace("\n\n}", "\n}")


def _tables(tool: str, text: str) -> Iterator[tuple[str, list[str]]]:
    """The tables of a listing; each ends with a comment that says so."""
    table, lines = "", list[str]()
    for line in text.splitlines():
        if line.startswith("*") and not table:
            table, lines = line[1:], []
        elif line.startswith("# Completed on ") and table:
            yield table, lines
            table = ""
        elif table and line != "COMMIT":
            lines.append(line)
        elif line and line[0] != "#" and line != "COMMIT":
            raise ReadError(f"{tool}-save: cannot read the line {line[:120]!r}")
    if table or (text and not text.endswith("\n")):
        raise ReadError(f"{tool}-save: it ends in the middle of the table {table!r}")


def _chains(place: str, lines: list[str]) -> Layout:
    """Our chains of one table, and our rules in the one chain that leads to them."""
    found: dict[str, list[str]] = {}
    builtin, standing = BUILTIN[place], 0
    for line in lines:
        if chain := _CHAIN.fullmatch(line):
            if _OURS.fullmatch(chain["name"]):
                # A chain of ebtables has a policy: what it does at its end. Ours return.
                own = [] if chain["policy"] in {"-", "RETURN"} else [f"policy {chain['policy']}"]
                found[chain["name"]] = own
            elif chain["name"] == builtin:
                found[builtin] = []
            continue
        rule = _RULE.fullmatch(line)
        if rule is None:
            raise ReadError(f"{place}: cannot read the line {line[:120]!r}")
        name, text = rule["chain"], rule["rule"] or ""
        if _OURS.fullmatch(name):
            if name not in found:
                raise ReadError(f"{place}: a rule of the chain {name!r}, which is not there")
            found[name].append(text)
        elif name == builtin:
            if _TO_OURS.search(text):
                # Behind a rule of somebody else's ours would not see what that one lets pass.
                found.setdefault(builtin, []).append(text if standing == 0 else f"at {standing}: {text}")
            standing += 1
    return {f"{place} {name}": tuple(rules) for name, rules in found.items()}


def _sets(text: str) -> Layout:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        match = _SET.fullmatch(line)
        name = (match["name"] or match["set"]) if match else line.partition(" ")[2].partition(" ")[0]
        if not _SETS.fullmatch(name):
            continue
        if match is None:
            raise ReadError(f"ipset save: cannot read the line {line[:120]!r}")
        if match["name"]:
            found[name] = [f"{match['kind']} {match['family']}"]
        elif name not in found:
            raise ReadError(f"ipset save: a member of the set {name!r}, which is not there")
        else:
            found[name].append(match["member"])
    if text and not text.endswith("\n"):
        raise ReadError("ipset save: it ends in the middle of a line")
    return {f"ipset {name}": (rest[0], *sorted(rest[1:])) for name, rest in found.items()}


def _elements(layout: Layout) -> Mapping[str, frozenset[str]]:
    """What ebtables' chains bind, and who is on the way to them."""
    found: dict[str, set[str]] = {
        name: set()
        for name in (
            "bridges", "ports", "audited", "own_mac", "own_v4", "own_v6", "own_net4", "own_net6", "own_target",
            "own_target_net", "own_inner_mac",
        )
    }  # fmt: skip
    for rule in layout.get("iptables raw domgit", ()):
        if rule.startswith("-i ") and rule.endswith(" -g domgit.bridge"):
            found["bridges"].add(f'"{rule.split()[1]}"')
    for name, rules in layout.items():
        if name == "ebtables nat domgit":
            found["ports"].update(
                f'"{rule.split()[1]}" : accept'
                for rule in rules
                if rule.startswith("-i ") and rule.endswith(" -j RETURN")
            )
        if re.fullmatch(r"ebtables nat domgit(?:-.*|\.late)?", name):
            for rule in rules:
                match = _PORT.fullmatch(rule)
                if match is not None and not match["port"].endswith("+"):
                    _bind(found, layout, match["port"], match["chain"])
    return {name: frozenset(members) for name, members in found.items()}


def _bind(found: dict[str, set[str]], layout: Layout, port: str, chain: str) -> None:
    """Add what one port may send: nothing where its own chain is not the one that it leads to."""
    if chain == ".unknown":
        found["ports"].add(f'"{port}" : goto refused_unknown')
    own = layout.get(f"ebtables nat domgit/{port}", ())
    match = _MAC.fullmatch(own[0]) if own else None
    if chain != f"/{port}" or match is None:
        return
    mac = match["mac"]
    found["ports"].add(f'"{port}" : goto from_guest')
    found["own_mac"].add(f'"{port}" . {mac}')
    found["own_inner_mac"].add(f'"{port}" . 0x{int(mac.replace(":", ""), 16):x}')
    if match["mode"] == "note":
        found["audited"].add(f'"{port}"')
    for rule in own:
        source = _SOURCE.fullmatch(rule)
        if source is not None:
            _bind_address(found, f'"{port}"', mac, source["address"])


def _bind_address(found: dict[str, set[str]], port: str, mac: str, address: str) -> None:
    try:
        network = ip_network(address)
    except ValueError:
        return  # a mask that is no prefix: none of ours, and seen as a rule
    single = network.prefixlen == network.max_prefixlen
    written = str(network.network_address) if single else str(network)
    found[f"own_{'v' if single else 'net'}{network.version}"].add(f"{port} . {mac} . {written}")
    if network.version == 6:  # noqa: PLR2004  # IPv6
        first, last = int(network.network_address), int(network.broadcast_address)
        name, value = (
            ("own_target", f"0x{first:x}") if single else ("own_target_net", f"0x{first:x}-0x{last:x}")
        )
        found[name].add(f"{port} . {value}")
