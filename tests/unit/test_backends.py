"""What the guard is loaded with here: what is tried, in which order, and what a failure says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest

from reconciler.guard.backend import Wanted, chosen, loaders, programs
from state.guard import IPTABLES_VERSION, SCRATCH, read_features, try_out
from state.nft import PROBE, Features, Loader
from state.run import Completed, NotInstalledError, ReadError
from tests.unit.machines import Machine

LACKS = "/dev/stdin:1:2-3: Error: Could not process rule: Operation not supported"


@dataclass(slots=True)
class Tools(Machine):
    """A machine with some backends; `iptables` is what `iptables --version` says, "" for none. `says` that where one does not."""

    works: Collection[str] = ()
    iptables: str = "iptables v1.8.9 (nf_tables)"
    says: str = LACKS
    tried: list[str] = field(default_factory=list)

    def run(self, argv: Sequence[str], *, stdin: str = "", **_: object) -> Completed:
        command = tuple(argv)
        if command == IPTABLES_VERSION:
            if not self.iptables:
                raise NotInstalledError("iptables: No such file or directory")
            return Completed(command, 0, f"{self.iptables}\n", "", 1, 0.0)
        if command == SCRATCH:
            tool = "nft" if stdin.startswith("nft ") else "legacy" if "-legacy-" in stdin else "iptables"
            self.tried.append(tool)
            return Completed(
                command, 0 if tool in self.works else 1, "", "" if tool in self.works else self.says, 1, 0.0
            )
        assert command == PROBE
        return Completed(command, 0, "", "", 1, 0.0)


def features(tools: Tools, wanted: Wanted, loaded: Collection[Loader] = ()) -> frozenset[Loader]:
    return read_features(tools, loaded, programs(wanted)).backends


@pytest.mark.parametrize(
    ("tools", "wanted", "loaded", "uses", "tried"),
    [
        (Tools(works={"nft", "iptables"}), "auto", (), "nftables", ["nft"]),
        (Tools(works={"iptables"}), "auto", (), "iptables-nft", ["nft", "iptables"]),
        (
            Tools(works={"legacy"}, iptables="iptables v1.8.9 (legacy)"),
            "auto",
            (),
            "iptables-legacy",
            ["nft", "legacy"],
        ),
        (Tools(works={"legacy"}, iptables="iptables v1.6.1"), "iptables", (), "iptables-legacy", ["legacy"]),
        (Tools(works={"nft"}), "iptables", (), None, ["iptables"]),
        (Tools(iptables=""), "auto", (), None, ["nft"]),
        (Tools(), "nftables", (), None, ["nft"]),
        # What is loaded works: nothing is tried, and of iptables' two kinds it stays with the one.
        (Tools(), "auto", ("nftables",), "nftables", []),
        (Tools(works={"iptables"}), "iptables", ("iptables-legacy",), "iptables-legacy", []),
        (Tools(works={"nft"}), "auto", ("iptables-nft",), "nftables", ["nft"]),
        (Tools(), "auto", ("iptables-nft",), "iptables-nft", ["nft"]),
        (Tools(works={"iptables"}), "iptables", ("nftables",), "iptables-nft", ["iptables"]),
    ],
)
def test_a_backend_is_used_because_its_rules_load(
    tools: Tools, wanted: Wanted, loaded: Collection[Loader], uses: Loader | None, tried: list[str]
) -> None:
    able = features(tools, wanted, loaded)

    assert chosen(wanted, Features(ibrname=False, backends=able)) == uses
    assert tools.tried == tried


@pytest.mark.parametrize(
    "said",
    [
        "unshare: unshare failed: Cannot allocate memory",
        "Error: Could not process rule: Cannot allocate memory",
        "",
    ],
)
def test_a_failure_that_says_nothing_of_the_kernel_changes_nothing(said: str) -> None:
    with pytest.raises(ReadError):
        features(Tools(works={"iptables"}, says=said), "auto")


def test_everything_is_tried_for_who_wants_to_know() -> None:
    tried = dict(try_out(Tools(works={"iptables"}), programs("auto")))

    assert tried["iptables-nft"] is None
    assert "Operation not supported" in (tried["nftables"] or "")
    assert "iptables-legacy" not in tried


def test_no_command_that_loads_rules_has_a_value_in_it() -> None:
    assert {argv[0] for argv in loaders()} == {
        "nft", "ipset", "ebtables-nft-restore", "iptables-nft-restore", "ip6tables-nft-restore",
        "iptables-legacy-restore", "ip6tables-legacy-restore",
    }  # fmt: skip
    assert {word for argv in loaders() for word in argv[1:]} == {
        "-f",
        "-",
        "restore",
        "-exist",
        "--noflush",
        "-w",
    }
