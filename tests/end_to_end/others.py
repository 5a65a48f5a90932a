"""Rules of others on the simulated dom0: loaded by their own tools, and listed by them, word for word."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.dom0.toolstack import run
from tests.packets.corpora import corpora, loaded_by
from tests.packets.foreign_bench import CHAINS
from tests.packets.foreign_rules import Script

SWITCHES = [Path(f"/proc/sys/net/bridge/bridge-nf-call-{family}tables") for family in ("ip", "ip6", "arp")]
DUMPS: Mapping[str, tuple[str, ...]] = {
    "iptables-nft": ("iptables-nft-save",),
    "ip6tables-nft": ("ip6tables-nft-save",),
    "iptables-legacy": ("iptables-legacy-save",),
    "ip6tables-legacy": ("ip6tables-legacy-save",),
    "ebtables": ("ebtables-nft-save",),
    "tc qdisc": ("tc", "qdisc", "show", "dev", "eth0"),
    "tc filter": ("tc", "filter", "show", "dev", "eth0", "ingress"),
}
# By hand on the bridges: these drop guests that they do not know, and are tests of their own.
BY_HAND = frozenset({"by-hand nft", "by-hand ebtables", "monitor nft"})
_SHAPING = (
    ("tc", "qdisc", "add", "dev", "eth0", "clsact"),
    ("tc", "filter", "add", "dev", "eth0", "ingress", "protocol", "ip", "u32", "match", "ip", "dst", "203.0.113.9/32",
     "flowid", "1:1"),
)  # fmt: skip


def load(scripts: Iterable[Script]) -> None:
    """Load scripts beside what is there."""
    for script in scripts:
        argv = [*script.argv, *(["--noflush"] if "-restore" in script.argv[0] else [])]
        subprocess.run(argv, input=script.text, text=True, check=True)


def load_everything() -> None:
    """Every rule set of tests/cases/foreign that leaves guests alone as long as br_netfilter is not asked, and traffic control."""
    for name in corpora():
        if name not in BY_HAND:
            load(loaded_by(name))
    for argv in _SHAPING:
        subprocess.run(argv, check=True)


def dumps() -> Mapping[str, str]:
    """All of it but our own table, as each tool lists it, without the time of the call and what counts by itself."""
    tables = [line.split()[1:] for line in run("nft", "list", "tables").stdout.splitlines()]
    found = {
        " ".join(table): run("nft", "-s", "list", "table", *table).stdout
        for table in tables
        if table != ["bridge", "domgit"]
    }
    for name, argv in DUMPS.items():
        lines = run(*argv).stdout.splitlines()
        found[name] = "\n".join(line.partition(" [")[0] for line in lines if not line.startswith("#"))
    return found


def clear() -> None:
    """None of it, and no bridged frame passes iptables."""
    for tool, names in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
        for table in Path("/proc/net", names).read_text().split():
            policies = "".join(f":{chain} ACCEPT [0:0]\n" for chain in CHAINS[table])
            text = f"*{table}\n{policies}COMMIT\n"
            subprocess.run([f"{tool}-legacy-restore"], input=text, text=True, check=True)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    run("tc", "qdisc", "del", "dev", "eth0", "clsact")
    for switch in SWITCHES:
        if switch.exists():
            switch.write_text("0\n")


@contextmanager
def handed_over() -> Iterator[None]:
    """Bridged frames pass iptables meanwhile.

    Raises:
        FileNotFoundError: this kernel has no br_netfilter.
    """
    for switch in SWITCHES:
        switch.write_text("1\n")
    try:
        yield
    finally:
        for switch in SWITCHES:
            switch.write_text("0\n")
