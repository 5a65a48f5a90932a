"""`python -m tests.mutation [--module M]... [--tests FILE]... [--shard I/N] [--fresh] [--packets]`: the last line is its own count.

A run that was cut short goes on where it was: what was killed stays so while the function is the same, what survived is
tried again when the tests have changed. Results lie in build/mutation, one line a mutant.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import pytest

from tests.mutation import campaign
from tests.mutation.campaign import (
    BUILD,
    KILLED,
    ROOT,
    SURVIVED,
    TIMEOUT,
    Functions,
    Known,
    Order,
    Result,
    source_of,
)
from tests.mutation.mutants import Mutant, mutants

RULES = "reconciler.guard.nftables_rules"
EQUIVALENT = Path(__file__).parent / "equivalent.txt"
MODULES = (
    *(
        f"reconciler.{name}"
        for name in (
            "claims",
            "diff",
            "diff_config",
            "diff_disk",
            "diff_domain",
            "diff_end",
            "diff_foreign",
            "diff_guard",
            "diff_start",
            "diff_vif",
            "file_change",
            "granted",
            "guard_limits",
            "leaving",
            "life",
            "lint",
            "plan",
            "plan_document",
            "plan_text",
            "policy",
            "render_xl",
            "review",
            "scope",
            "step",
            "way_out",
            "whole",
        )
    ),
    *(
        f"reconciler.explain.{name}"
        for name in (
            "answer",
            "build",
            "claims",
            "headers",
            "host",
            "judge",
            "packet",
            "selectors",
            "walk",
            "words",
        )
    ),
    *(
        f"reconciler.foreign.{name}"
        for name in ("frames", "index", "judge", "match", "path", "walk", "weaken")
    ),
    *(
        f"reconciler.guard.{name}"
        for name in ("binding", "nftables", "nftables_rules", "port_lock", "render")
    ),
    *(f"schemas.{name}" for name in ("claims", "fleet", "ground", "rules", "segments")),
)


def digest(paths: Iterable[Path]) -> str:
    found = sha256()
    for path in sorted(paths):
        found.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


class Records:
    """What is known of mutants: one line each, {"key", "how", "by", "tests"}; `tests` is the state of the tests then."""

    def __init__(self, module: str, tests: str) -> None:
        self._path = BUILD / f"{module}.jsonl"
        self._tests = tests
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        self._known = {each["key"]: each for each in map(json.loads, lines)}

    def get(self, mutant: Mutant) -> Result | None:
        """How it ended, where that still holds."""
        known = self._known.get(mutant.key)
        if known is None or (known["how"] == SURVIVED and not known["tests"].startswith(self._tests)):
            return None
        return known["how"], known["by"]

    def add(self, mutant: Mutant, result: Result) -> None:
        """Keep it, also over a kill of this process."""
        how, by = result
        line = {"key": mutant.key, "how": how, "by": by, "tests": self._tests, "name": mutant.name}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def equivalents() -> dict[str, str]:
    """Mutants that behave like the product, each with why: lines of `module | function | change | why`."""
    lines = EQUIVALENT.read_text(encoding="utf-8").splitlines()
    parts = (line.rpartition(" | ") for line in lines if line and not line.startswith("#"))
    return {name: why for name, _, why in parts}


def parsed(module: str) -> ast.Module:
    """The source of a module."""
    return ast.parse(source_of(module).read_text(encoding="utf-8"))


class Campaign:
    """One run."""

    def __init__(self, shard: str, *, thorough: bool, files: Sequence[str] = ()) -> None:
        self.files = files
        self.shard, self.shards = (int(part) for part in shard.split("/"))
        self.equivalent = equivalents()
        self.tests = digest(
            path
            for path in (ROOT / "tests").rglob("*")
            if path.is_file() and path.parent != EQUIVALENT.parent
        )
        self.level = f"{self.tests}+" if thorough else self.tests
        if files:
            some = sha256(" ".join(files).encode()).hexdigest()[:8]
            self.level = f"some {some} {self.level}"  # what survives these has survived no others
        # How many mutants at import the tests of a file have killed.
        self._saw: Counter[tuple[str, str]] = Counter()

    @cached_property
    def order(self) -> Order:
        """Which tests come first."""
        return Order(self.known.usual_s)

    @cached_property
    def known(self) -> Known:
        """Which tests run which lines; measured where that is not known."""
        if self.files:
            return Known()  # they are few: all of them are run
        product = digest(source_of(module) for module in MODULES)
        for path in BUILD.glob("covered-*.json"):
            if path.name.split("-")[1] != product:
                path.unlink()  # its lines are those of other sources
        path = BUILD / f"covered-{product}-{self.tests}.json"
        if not path.exists():
            before = sorted(BUILD.glob("covered-*.json"), key=lambda each: each.stat().st_mtime)
            known = Known.load(before[-1]) if before else Known()
            known.measure(MODULES, path)
        return Known.load(path)

    def run(self, module: str, items: Mapping[str, pytest.Item] | None, functions: Functions) -> None:
        """Try the mutants of a module that nothing is known of: those inside functions with these tests, or those at import."""
        tree = parsed(module)
        records = Records(module, self.level)
        for mutant in self.mine(mutants(module, tree, {} if items is None else vars(import_module(module)))):
            result = records.get(mutant)
            if mutant.at_import and module == RULES:
                continue  # what rules mean is for a kernel to say: see by_packets
            if mutant.at_import == (items is None) and mutant.name not in self.equivalent and result is None:
                result = (
                    self._at_import(mutant, tree)
                    if items is None
                    else self._tried(mutant, tree, functions, items)
                )
                records.add(mutant, result)
            if result is not None and result[0] == KILLED and not result[1].startswith("packets"):
                self.order.saw(mutant, result[1])

    def by_packets(self, modules: Collection[str]) -> None:
        """Show the kernel, and the frames of tests/packets, what survived in the modules that are made for it."""
        from tests.mutation.packets import JUDGED, Bench  # needs root, and the product loaded

        bench = Bench()
        for module in (each for each in JUDGED if each in modules):
            tree = parsed(module)
            records = Records(module, self.level)
            for mutant in self.mine(mutants(module, tree, vars(import_module(module)))):
                result = records.get(mutant)
                if mutant.name in self.equivalent or (result is not None and result[0] != SURVIVED):
                    continue
                wrong = bench.judge(mutant, tree)
                records.add(
                    mutant, (SURVIVED, "also packets") if wrong is None else (KILLED, f"packets: {wrong}")
                )

    def mine(self, found: Iterable[Mutant]) -> Iterator[Mutant]:
        """Those of this shard."""
        return (each for each in found if zlib.crc32(each.key.encode()) % self.shards == self.shard)

    def _tried(
        self, mutant: Mutant, tree: ast.Module, functions: Functions, items: Mapping[str, pytest.Item]
    ) -> Result:
        tests = [*items, campaign.READY] if self.files else self.known.tests(mutant.file, mutant.lines)
        last = [test for test in items if test.startswith(campaign.LAST) and test not in tests]
        chosen = [items[test] for test in (*self.order.of(mutant, tests), *last) if test in items]
        if not chosen:
            return SURVIVED, "no test"
        return campaign.attempt(
            mutant, tree, functions, chosen, self.known.usual_s, cold=campaign.READY in tests
        )

    def _at_import(self, mutant: Mutant, tree: ast.Module) -> Result:
        cost_s: defaultdict[str, float] = defaultdict(float)
        for test in self.known.tests(mutant.file, range(1, 1000)):
            cost_s[test.partition("::")[0]] += self.known.usual_s[test]
        files = sorted(
            self.files or cost_s, key=lambda file: (-self._saw[mutant.module, file], cost_s[file], file)
        )
        how, by = campaign.attempt_at_import(mutant, tree, files, self.known.usual_s)
        self._saw[mutant.module, by.partition("::")[0]] += how == KILLED
        return how, by

    def told(self, modules: Iterable[str]) -> int:
        """The table; exit status 1 when an entry of the list of equivalents is of no mutant."""
        counts: dict[str, Counter[str]] = {}
        stale = {name for name in self.equivalent if name.split(" | ")[0] in modules}
        for module in modules:
            count = counts[module] = Counter()
            records = Records(module, self.level)
            for mutant in self.mine(mutants(module, parsed(module), vars(import_module(module)))):
                how, by = (
                    ("equivalent", "")
                    if mutant.name in self.equivalent
                    else records.get(mutant) or ("unknown", "")
                )
                count[how] += 1
                stale.discard(mutant.name)
                if how == SURVIVED:
                    print(f"{mutant.lines.start:>5}: {mutant.name}{by and f' ({by})'}")
        print(
            f"\n{'module':<32} {'mutants':>8} {'killed':>7} {'timeout':>8} {'survived':>9} {'equivalent':>11} {'percent':>8}"
        )
        for module, count in counts.items():
            print(f"{module:<32} {_row(count)}")
        total = sum(counts.values(), Counter[str]())
        for name in sorted(stale) if self.shards == 1 else ():
            print(f"{EQUIVALENT.name}: no such mutant: {name}")
        print(
            f"{total.total()} mutants: {total[KILLED] + total[TIMEOUT]} killed ({total[TIMEOUT]} by the time limit), "
            f"{total[SURVIVED]} survived, {total['equivalent']} equivalent: {_percent(total):.1f} %"
        )
        return 1 if stale and self.shards == 1 else 0


def _percent(count: Counter[str]) -> float:
    return 100 * (count[KILLED] + count[TIMEOUT]) / max(1, count.total() - count["equivalent"])


def _row(count: Counter[str]) -> str:
    return (
        f"{count.total():>8} {count[KILLED]:>7} {count[TIMEOUT]:>8} {count[SURVIVED]:>9} {count['equivalent']:>11} "
        f"{_percent(count):>8.1f}"
    )


def main() -> int:
    """Exit status 0, however many survive: a campaign measures the tests, whoever reads it judges."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument(
        "--module",
        choices=MODULES,
        action="append",
        metavar="MODULE",
        help="these alone, such as reconciler.diff",
    )
    parser.add_argument(
        "--tests",
        action="append",
        default=[],
        metavar="FILE",
        help="these test files alone: soon done, and what survives them is tried again by a whole run",
    )
    parser.add_argument("--shard", default="0/1", help="only part I of N of the mutants, as I/N")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have found")
    parser.add_argument(
        "--packets", action="store_true", help="what survived of the rules meets a kernel (root)"
    )
    parser.add_argument("--thorough", action="store_true", help="what survives gets the slow tests too")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    modules = options.module or MODULES
    if options.fresh:
        for path in BUILD.iterdir():
            path.unlink()
    this = Campaign(options.shard, thorough=options.thorough, files=options.tests)

    def then(items: list[pytest.Item]) -> None:
        named = {
            item.nodeid: item
            for item in items
            if options.thorough or not item.nodeid.startswith(campaign.LAST)
        }
        campaign.make_ready(items)
        functions = {module: campaign.functions_of(import_module(module)) for module in modules}
        gc.collect()
        gc.freeze()  # a child that collects garbage would copy every page of ours
        for module in modules:
            this.run(module, named, functions[module])

    if options.packets:
        this.by_packets(modules)
        return this.told(modules)
    _ = this.order  # measured before the product is loaded
    # In a process of its own: what comes next must not have the product loaded.
    campaign.apart(lambda: campaign.with_tests(then, options.tests or ("tests",)))
    for module in modules:
        this.run(module, None, {})
    return this.told(modules)


if __name__ == "__main__":
    sys.exit(main())
