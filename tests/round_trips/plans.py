"""One random plan, from its repository to its records, and everything that is wrong with it: told by its seed alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from reconciler import last_good, ledger
from reconciler.diff import make_plan
from reconciler.journal import Journal
from reconciler.last_good import LastGood
from reconciler.ledger import Ledger
from reconciler.lint import lint
from reconciler.plan import Plan, Source
from reconciler.plan_document import Document, parse_document, plan_document
from reconciler.plan_text import plan_html, plan_markdown, plan_text
from reconciler.policy import Policy
from reconciler.reconcile import interest
from reconciler.scope import Situation
from reconciler.step import Remember, Step, commands
from state.desired import Desired
from tests.model.campaign import scratch
from tests.round_trips.accepted import TAME, accepted
from tests.round_trips.commands import wrong_with
from tests.round_trips.commits import changed
from tests.round_trips.live import at_rest, live
from tests.round_trips.scalars import Scalars
from tests.unit.worlds import World

# What a committer may write: it ends no block of Markdown and begins no element of HTML.
SOURCE = Source("c0ffee00" * 5, "main", "<i>Provider</i> <noc@example.net>", "```")
TAGS = frozenset(
    {"html", "head", "meta", "title", "body", "h1", "table", "tr", "th", "td", "p", "strong", "pre"}
)
BY_HAND = Policy(by_hand=True, disruption="reboot")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went for one seed. `commands` are counted by tool and verb."""

    seed: int
    specs: int
    commands: Counter[str]
    wrong_commands: tuple[str, ...]
    wrong_records: tuple[str, ...]


def outcome_of(seed: int, size: int) -> Outcome:
    """See Outcome."""
    found, other = accepted(seed, size, TAME), accepted(seed + 500_000, size // 10, TAME)
    draw = Scalars(seed, wild=0.0)
    before, after = found.desired, changed(found.desired, other.desired, draw)
    world = live(before, draw)
    plan = plan_of(world, after, before)
    last = LastGood(SOURCE, before)
    still = (
        plan_of(at_rest(before), before, before).changes if seed % 4 == 0 else ()
    )  # a quarter says as much
    with scratch() as folder:
        wrong_records = (
            # What came from another host is installed, whatever git says: that is for a human to put right.
            *(
                f"settled, and yet: {change.address}"
                for change in still
                if change.reason != "installed_already"
            ),
            *_plan_records(plan, folder),
            *_files(last, world.ledger, plan, folder),
        )
    count = Counter(_verb(argv) for step in _steps(plan) for argv in commands(step))
    return Outcome(seed, len(before.domus), count, tuple(_wrong_commands(plan)), wrong_records)


def plan_of(world: World, desired: Desired, applied: Desired) -> Plan:
    """The plan by hand, on that host."""
    observed = world.observed(interest(desired, LastGood(SOURCE, applied), world.ledger))
    return make_plan(Situation(desired, SOURCE, observed, world.ledger, applied), BY_HAND)


def _steps(plan: Plan) -> Iterator[Step]:
    for change in plan.changes:
        yield from (*change.early, *change.steps, *change.inverse)


def _verb(argv: tuple[str, ...]) -> str:
    """The tool, and the verb of one that has several."""
    return " ".join(argv[:2]) if argv[0] in {"xl", "ip", "bridge"} else argv[0]


def _wrong_commands(plan: Plan) -> Iterator[str]:
    yield from lint(plan)
    for step in _steps(plan):
        if problem := wrong_with(step):
            yield problem


def _plan_records(plan: Plan, folder: Path) -> Iterator[str]:
    """A plan that is saved, kept in the journal and printed from there."""
    document = plan_document(plan, timestamp="2026-01-01T00:00:00Z")
    text = json.dumps(document)
    again = parse_document(text)
    if again != document or again["plan_id"] != plan.plan_id:
        yield "the plan's document does not come back"
    for shown in (plan_text, plan_markdown, plan_html):
        if shown(again) != shown(document):
            yield f"{shown.__name__} differs when it was saved"
    yield from _pages(document)
    for change in plan.changes:
        for facts in (change.fingerprint, change.expect):
            if {*dict(facts).items()} != {*facts}:
                yield f"{change.address}: two facts of one name in {facts}"
    journal = Journal(folder / "journal")
    records = [{"type": "plan", "plan": document}, {"type": "end", "plan": again}]
    for record in records:
        journal.append(record)
    if [*journal.records()] != records:
        yield "the journal's records do not come back"


def _pages(document: Document) -> Iterator[str]:
    """A plan as others show it: all of its text, and as text."""
    text, page = plan_text(document), _Page()
    page.feed(plan_html(document))
    if not page.tags <= TAGS or text not in page.texts:
        yield f"the page has other elements than ours, or another text: {page.tags - TAGS}"
    lines = plan_markdown(document).splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.startswith("```"))
    fence = re.compile(rf" {{0,3}}`{{{len(lines[start].strip())},}}\s*")  # CommonMark 4.5
    end = next(number for number, line in enumerate(lines) if number > start and fence.fullmatch(line))
    if "".join(lines[start + 1 : end]) != text or len(lines) != end + 2:
        yield "the Markdown's block ends before the plan does"


class _Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _files(last: LastGood, owned: Ledger, plan: Plan, folder: Path) -> Iterator[str]:
    """The last-good specification, and the ledger with all that the plan adds to it."""
    last_good.save(folder / "last-good.json", last)
    if last_good.load(folder / "last-good.json") != last:
        yield "the last-good specification does not come back"
    for step in _steps(plan):
        if isinstance(step, Remember):
            owned = ledger.remember(owned, step.uuid, step.fact, step.value)
            if step.fact == "disk" and "=".join([*owned[step.uuid].disks.items()][-1]) != step.value:
                yield f"the ledger knows another disk than {step.value}"
    ledger.save(folder / "ledger.json", owned)
    if ledger.load(folder / "ledger.json") != owned:
        yield "the ledger does not come back"
