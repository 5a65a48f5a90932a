"""The judge of rules: a kernel that loads them, and the frames of tests/packets. Needs root.

What kills a mutant here fails in the packet tests too: nft does not take the script, the kernel lists other rules than
were loaded, or a frame of the table is treated wrong. It is only told much sooner.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from state.nft import probe_features, read_table
from tests.mutation.campaign import source_of
from tests.mutation.mutants import Mutant
from tests.packets.cases import CASES, LLDP_GROUP, Case
from tests.packets.lab import Lab, has_br_netfilter
from tests.packets.parties import GUARD, A
from tests.packets.test_frames import complaint

RULES, SCRIPTS, LOCK = (f"reconciler.guard.{name}" for name in ("nftables_rules", "nftables", "port_lock"))
JUDGED = (RULES, SCRIPTS, LOCK)  # each after what it imports


class Bench:
    """One bench for all mutants."""

    def __init__(self) -> None:
        self._lab = Lab()
        self._features = probe_features(self._lab.dom0)
        self._order = [*CASES]
        wrong = self._complaint()
        if wrong is not None:
            raise RuntimeError(f"the packet tests fail without any mutant: {wrong}")

    def judge(self, mutant: Mutant, tree: ast.Module) -> str | None:
        """The first complaint about a mutant. The tree is as before afterwards."""
        with mutant.applied(), _loaded(mutant.module, tree):
            return self._complaint()

    def _complaint(self) -> str | None:
        try:
            return next(self._complaints(), None)
        except Exception as exc:  # noqa: BLE001  # whatever a mutant raises, a test would see it
            return f"{type(exc).__name__}: {exc}"[:200]

    def _complaints(self) -> Iterator[str]:
        lab, rendering = self._lab, sys.modules[SCRIPTS]
        lab.clear()
        load = lab.dom0.run(["nft", "-f", "-"], stdin=rendering.full(GUARD, self._features))
        if load.rc != 0:
            yield f"nft refuses it: {load.stderr[:100]}"
            return
        for again in (True, False):
            table = read_table(lab.dom0)
            if table is None or not rendering.rules_match(table, GUARD, self._features):
                yield "the kernel lists other rules"
            elif again:
                script = rendering.reload_rules(table, GUARD, self._features)
                if (load := lab.dom0.run(["nft", "-f", "-"], stdin=script)).rc != 0:
                    yield f"nft refuses to load the rules again: {load.stderr[:100]}"
        for filtered in (True, False) if has_br_netfilter() else ():
            lab.filter_by_iptables(enabled=filtered)
            yield from self._frames(self._order, every=not filtered)
        for argv in sys.modules[LOCK].lock(A.port, A.mac):
            lab.dom0.must(*argv)
        yield from self._frames(LLDP_GROUP, every=True)

    def _frames(self, cases: Sequence[Case], *, every: bool) -> Iterator[str]:
        """First all at once, without a look at what dom0 has learned; then those, or every one, as the packet tests do."""
        odd = [case for case in [*cases] if not self._as_expected(case)]
        for case in [*odd, *(each for each in [*cases] if every and each not in odd)]:
            wrong = complaint(case, self._lab.send(case.frame, case.sender))
            if wrong is not None:
                if case in self._order:
                    self._order.remove(case)
                    self._order.insert(0, case)  # what has seen one sees others
                yield wrong

    def _as_expected(self, case: Case) -> bool:
        (where,) = self._lab.send_all([case.frame], case.sender)
        return not where if case.verdict == "drop" else case.to <= where


@contextmanager
def _loaded(changed: str, tree: ast.Module) -> Iterator[None]:
    """The judged modules made anew, one of them from this tree."""
    before = {name: sys.modules[name] for name in JUDGED}
    try:
        for name in JUDGED:
            source = tree if name == changed else ast.parse(source_of(name).read_text(encoding="utf-8"))
            sys.modules[name] = made = ModuleType(name)
            exec(compile(source, str(source_of(name)), "exec"), made.__dict__)  # noqa: S102  # our own source
        yield
    finally:
        sys.modules.update(before)
