"""What of a drawn repository the product takes, read as it reads it: YAML, schemas, canonical JSON, schemas once more.

`DOMGIT_SEED` chooses other draws (0: any), `DOMGIT_SPECS` how many specifications each test takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import SystemRandom

from schemas.diagnostic import Diagnostic
from schemas.domu import DomU as Document
from schemas.fleet import check_fleet, view
from schemas.host import Host
from schemas.tree import Tree
from state.desired import Desired, DomU
from state.resolve import resolve
from state.yaml_reader import read_yaml
from tests.round_trips.dice import HOST, Drawn, FleetDice, Words
from tests.round_trips.scalars import WILD
from tests.unit.fleets import documents as documents_of

# Always the same draws, so that a failure is somebody's change and not luck.
SEED = int(os.environ.get("DOMGIT_SEED", "1")) or SystemRandom().randrange(1, 10**6)
SPECS = int(os.environ.get("DOMGIT_SPECS", "10000"))
# Whose values are accepted is found out once, with xl; here what is made of those that are counts.
TAME = WILD / 10
SHARE = 0.9  # of what is drawn so is taken and is no tombstone, at least


@dataclass(frozen=True, slots=True)
class Accepted:
    """A repository as the host sees it; `words` and `metadata` are what was meant, by the domU's name."""

    seed: int
    host: Host
    desired: Desired
    drawn: Drawn

    def words(self, domu: DomU) -> Words:
        return self.drawn.specs[domu.name]

    def metadata(self, domu: DomU) -> Words:
        return self.drawn.metadata[domu.name]

    def told(self, domu: DomU, problem: object) -> str:
        """A failure with all that is needed to see it again."""
        return f"DOMGIT_SEED={SEED}, draw {self.seed}, {domu.file}: {problem}\n{self.drawn.files[domu.file]}"


def accepted(seed: int, domus: int, wild: float = WILD) -> Accepted:
    """The domUs of one draw that are taken; what is wrong with the others stays with them."""
    drawn = FleetDice(seed, wild=wild).draw(domus)
    trees: dict[str, Tree] = {}
    problems: list[Diagnostic] = []
    for file, text in drawn.files.items():
        tree, found = read_yaml(file, text.encode())
        problems += found
        if tree is not None:
            trees[file] = tree
    fleet = check_fleet(drawn.files, trees, problems)
    seen = view(fleet, HOST)
    if seen.host is None or seen.refused:
        wide = zip(fleet.diagnostics, fleet.scopes, strict=True)
        reasons = [
            str(each) for each, scopes in wide if not any(scope.startswith("domu:") for scope in scopes)
        ]
        raise AssertionError(f"draw {seed} was to be taken: {reasons}")
    host = Host.model_validate_json(seen.host.model_dump_json(exclude_defaults=True))
    documents = [
        (Document.model_validate_json(each.source.document()), each.source.file) for each in seen.domus
    ]
    assert documents == documents_of(seen), f"draw {seed}: canonical JSON"
    return Accepted(seed, host, resolve(host, documents, held=seen.held), drawn)


def fleets(part: int, *, specs: int, size: int = 100) -> Iterator[Accepted]:
    """Repositories of `size` domUs, until so many specifications were taken; other ones for every part."""
    taken = 0
    for number in range(10**6):
        found = accepted(_seed(part, number), size)
        taken += len(alive(found))
        yield found
        if taken >= specs:
            return


def fleets_by_all(part: int, *, specs: int, size: int) -> list[Accepted]:
    """As many repositories as hold so many specifications, drawn on all processors."""
    draws = -(-specs // int(size * SHARE))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        seeds = [_seed(part, number) for number in range(draws)]
        return [*pool.map(partial(accepted, domus=size, wild=TAME), seeds)]


def _seed(part: int, number: int) -> int:
    return (SEED * 100 + part) * 10**6 + number


def alive(found: Accepted) -> Mapping[str, DomU]:
    """The domUs that are no tombstones, by name."""
    return {domu.name: domu for domu in found.desired.domus if domu.boot is not None}
