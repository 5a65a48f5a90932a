"""Our guard as it is loaded, whatever with, and what it could be loaded with. argv and parser side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Literal

from state import iptables_guard, nft
from state.files import Files
from state.foreign import parse_tables
from state.iptables_guard import VARIANTS, Variant
from state.nft import Features, LoadedTable, Loader
from state.run import Completed, NotInstalledError, ReadError, Runner, read

_Tool = Literal["iptables", "ip6tables"]
IPTABLES_VERSION = ("iptables", "--version")
# A network namespace of its own, which is gone with the shell: whatever is loaded there meets no frame.
SCRATCH = ("unshare", "--net", "sh")
_LACKING = (
    "Could not process rule: Operation not supported",
    "Could not process rule: Protocol error",
    "Could not process rule: No such file or directory",
    "Could not process rule: Invalid argument",
    "syntax error",
    "nft: not found",
)
_LEGACY_TABLES: Mapping[_Tool, str] = {
    "iptables": "/proc/net/ip_tables_names",
    "ip6tables": "/proc/net/ip6_tables_names",
}
_MARK = ":domgit"
_BY: Mapping[Variant, Loader] = {variant: by for by, variant in VARIANTS.items()}


def read_guards(runner: Runner, files: Files) -> tuple[LoadedTable, ...]:
    """What is loaded of ours, in either backend: two of them in the middle of a switch from one to the other.

    Raises:
        ReadError: a tool failed, or what it lists is not whole.
    """
    table = nft.read_table(runner)
    found = (table, *_read_iptables(runner, files))
    return tuple(each for each in found if each is not None)


def _read_iptables(runner: Runner, files: Files) -> Iterator[LoadedTable]:
    """Ours in either kind of iptables: the kernel goes through both, and each tool shows its own.

    Also where somebody has deleted its half in ebtables: the other goes on dropping what it does not know.
    """
    tables = parse_tables(read(runner, nft.LIST_TABLES))
    variants = [variant for variant in _BY if _has_chains(runner, files, tables, variant)]
    # To list what is not there would have the kernel make it.
    if not variants and ("bridge", "nat") in tables and _MARK in read(runner, iptables_guard.EBTABLES_SAVE):
        variants = ["nft"]
    for variant in variants:
        loaded = iptables_guard.read_loaded(runner, variant)
        if loaded is not None:
            yield replace(loaded, by=_BY[variant])


def _has_chains(runner: Runner, files: Files, tables: Collection[tuple[str, str]], variant: Variant) -> bool:
    """Whether a table `raw` of this kind has chains of ours."""
    families: Mapping[_Tool, str] = {"iptables": "ip", "ip6tables": "ip6"}
    for tool, family in families.items():
        used = (
            (family, "raw") in tables
            if variant == "nft"
            else "raw" in (files.read_text(_LEGACY_TABLES[tool]) or "").split()
        )
        if used and _MARK in read(runner, iptables_guard.iptables_save(tool, variant)):
            return True
    return False


def read_features(runner: Runner, loaded: Collection[Loader], programs: Mapping[Loader, str]) -> Features:
    """What the guard can be loaded with here: with what it is, or with what a program shows to work.

    `programs` load it with each; they are tried in a network namespace of their own, never guessed from a version.

    Raises:
        ReadError: that cannot be tried.
    """
    able = {*loaded}
    # In the order of preference: what comes behind the first that works is not asked for.
    wanted = [*takewhile(lambda by: by not in loaded, programs)]
    if any(by in _BY.values() for by in loaded):
        # Of iptables' two kinds the one that is loaded stays: both go by the same rules of ebtables.
        wanted = [by for by in wanted if by == "nftables"]
    for by, why in try_out(runner, {by: programs[by] for by in wanted}):
        if why is None:
            able.add(by)
            break
    return replace(nft.probe_features(runner), backends=frozenset(able))


def try_out(runner: Runner, programs: Mapping[Loader, str]) -> Iterator[tuple[Loader, str | None]]:
    """For each of the programs that can be of use here, why it fails; of iptables' two kinds the host's own is tried.

    Raises:
        ReadError: there is no telling.
    """
    own = None
    for by, program in programs.items():
        if by != "nftables":
            own = own or read_variant(runner)
            if own is None or by != _BY[own]:
                continue
        completed = runner.run(SCRATCH, stdin=program)
        if completed.rc != 0 and (by == "nftables" or completed.stderr.startswith("unshare: ")):
            _see_lacking(completed)
        yield by, None if completed.rc == 0 else str(completed)


def _see_lacking(completed: Completed) -> None:
    """See that it is the kernel, or the tool, that lacks something: want of memory, say, is no reason for another backend.

    Raises:
        ReadError: it may work the next time.

    Source: nft 1.0.6, sh of Debian 12.
    """
    if not any(each in completed.stderr for each in _LACKING):
        raise ReadError(str(completed))


def read_variant(runner: Runner) -> Variant | None:
    """Which kind of iptables this host uses; None where there is none.

    Raises:
        ReadError: it does not say.

    Source: `iptables v1.8.9 (nf_tables)`, `iptables v1.8.9 (legacy)`; before 1.8 there was one kind, and no word of it.
    """
    try:
        said = read(runner, IPTABLES_VERSION)
    except NotInstalledError:
        return None
    return "nft" if "(nf_tables)" in said else "legacy"
