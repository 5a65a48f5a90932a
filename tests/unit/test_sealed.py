"""Records that tell whether they are still what was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler import last_good, ledger
from reconciler.last_good import LastGood
from reconciler.ledger import Owned
from reconciler.plan import Source
from reconciler.sealed import opened, sealed
from state.run import ReadError
from tests.unit.worlds import REVISION, desired

CONTENT = {"format": 1, "owned": {"e608ed38-c1b9-532e-a769-0156b41e19e1": {"name": "vm01"}}}


def test_a_record_is_json_and_comes_back_as_it_was() -> None:
    text = sealed(CONTENT)

    assert json.loads(opened(text.encode())) == CONTENT
    assert set(json.loads(text)) == {"sha256", *CONTENT}
    assert text.splitlines()[0].startswith('{"sha256": "')


def test_a_bit_that_flips_anywhere_is_noticed() -> None:
    data = sealed(CONTENT).encode()

    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            try:
                found = json.loads(opened(bytes(changed)))
            except ValueError:
                continue
            # One in the seal's own name makes it another key, which no record has.
            assert set(found) - set(CONTENT)


def test_a_record_cut_anywhere_is_noticed() -> None:
    data = sealed(CONTENT).encode()

    for end in range(len(data) - 1):
        with pytest.raises(ValueError, match=r".*"):
            json.loads(opened(data[:end]))


def test_who_edits_a_record_puts_a_brace_in_the_place_of_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger.save(path, {"e608ed38-c1b9-532e-a769-0156b41e19e1": Owned("vm01")})
    text = path.read_text(encoding="utf-8").replace("vm01", "vm02")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ReadError, match=r"damaged.*its digest is that of another content"):
        ledger.load(path)

    path.write_text("{\n" + text.partition("\n")[2], encoding="utf-8")

    assert [owned.name for owned in ledger.load(path).values()] == ["vm02"]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_an_address_that_a_disk_spoilt_is_not_bound(tmp_path: Path, place: float) -> None:
    path = tmp_path / "last-good.json"
    last_good.save(path, LastGood(Source(REVISION), desired({"vm01": {}})))
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)

    with pytest.raises(ReadError, match="damaged"):
        last_good.load(path)


def test_a_record_without_a_seal_may_have_no_key_of_another_name(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text('{"format": 1, "owned": {}, "sha257": ""}')
    (tmp_path / "last-good.json").write_text('{"source": {}, "desired": {}, "more": 1}')

    with pytest.raises(ReadError, match=r"damaged.*unknown keys beside format and owned"):
        ledger.load(tmp_path / "ledger.json")
    with pytest.raises(ReadError, match="damaged"):
        last_good.load(tmp_path / "last-good.json")
