"""All that is fuzzed."""

from __future__ import annotations

from tests.fuzz import disks, live, records, repository
from tests.fuzz.target import Target

TARGETS: tuple[Target, ...] = (*live.targets(), *repository.targets(), *records.targets(), *disks.targets())
