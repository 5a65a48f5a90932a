"""A guest that reboots while its host is read: the host is read again, not refused."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from state.observed import READ_ATTEMPTS, observe_domains
from state.run import Completed, ReadError, TornError
from state.xenstore import LIST_VIFS, parse_vifs
from tests.unit.captures import CAPTURES
from tests.unit.test_observe import Drawer, Tools

WHOLE = (CAPTURES / "xenstore-ls-4.17.7-two-guests.txt").read_text()


def torn(text: str) -> str:
    """The listing as xenstore-ls prints it when a node goes midway: its path and a colon, and an empty line."""
    lines = text.splitlines(keepends=True)
    at = next(index for index, line in enumerate(lines) if "/state = " in line)
    return "".join([*lines[:at], lines[at].split(" = ")[0] + ":\n", "\n", *lines[at + 1 :]])


class Rebooting(Tools):
    """A host on which the first readings of xenstore meet a reboot."""

    def __init__(self, readings: int) -> None:
        super().__init__()
        self.readings = readings

    def run(self, argv: Iterable[str], **options: object) -> Completed:
        if tuple(argv) == LIST_VIFS and self.readings > 0:
            self.readings -= 1
            return Completed(LIST_VIFS, 0, torn(WHOLE), "", 1, 0.0)
        return super().run(argv, **options)


def test_a_listing_that_lost_a_vif_midway_is_told_from_one_that_nobody_can_read() -> None:
    with pytest.raises(TornError):
        parse_vifs(torn(WHOLE))
    with pytest.raises(TornError):
        parse_vifs("".join(line for line in WHOLE.splitlines(keepends=True) if "/mac = " not in line))
    with pytest.raises(ReadError, match="cannot read the line"):
        parse_vifs("something else\n")


def test_a_host_is_read_again_until_its_picture_is_whole() -> None:
    assert observe_domains(Rebooting(2), Drawer()) == observe_domains(Rebooting(0), Drawer())


def test_a_picture_that_never_gets_whole_is_a_read_error() -> None:
    with pytest.raises(ReadError, match="went while it was listed"):
        observe_domains(Rebooting(READ_ATTEMPTS), Drawer())
