"""What loads the guard at boot: a shell script and a file, on a host that has no bridge yet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.guard import nftables
from reconciler.guard_record import LOADER, Record
from state.nft import Features, LoadedTable, read_table
from state.run import Completed
from tests.packets.cases import udp4
from tests.packets.lab import Lab
from tests.packets.namespaces import Namespace
from tests.packets.parties import GATEWAY, GUARD, UPLINK, A, B

pytestmark = pytest.mark.netns
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
UNNAMED = '"vif7.0" . 00:16:3e:00:00:07'


@pytest.fixture
def fresh() -> Iterator[Namespace]:
    """A host with neither bridges nor rules."""
    host = Namespace()
    yield host
    host.close()


def kept(lab: Lab, features: Features, folder: Path, boot: str = BOOT_ID) -> Path:
    """The file of the bench's guard, with a port of that boot alone in it, and its loader beside it."""
    record = Record(folder, folder / "run", boot)
    lab.load(nftables.full(GUARD, features))
    lab.dom0.must("nft", "add", "element", "bridge", "domgit", "own_mac", f"{{ {UNNAMED} }}")
    record.save(lab.dom0, frozenset({f'"{A.port}" uuid.0 xenbr0'}))
    lab.dom0.must("nft", "flush", "ruleset")
    return record.path


def boots(host: Namespace, file: Path) -> Completed:
    return host.run(("sh", str(file.with_name(LOADER))))


def loaded(host: Namespace) -> LoadedTable:
    table = read_table(host)
    assert table is not None
    return table


def test_the_whole_guard_is_loaded_where_there_is_no_bridge_yet_and_again(
    lab: Lab, features: Features, tmp_path: Path, fresh: Namespace
) -> None:
    file = kept(lab, features, tmp_path)

    for _ in range(2):
        assert boots(fresh, file).rc == 0

        assert UNNAMED in loaded(fresh).elements["own_mac"]
        delta = nftables.delta(loaded(fresh), GUARD)
        assert delta == f"delete element bridge domgit own_mac {{ {UNNAMED} }}\n"
        assert nftables.rules_match(loaded(fresh), GUARD, features)
        assert not file.with_name("boot.nft.loading").exists()


def test_ports_that_are_called_after_a_domid_do_not_outlive_their_boot(
    lab: Lab, features: Features, tmp_path: Path, fresh: Namespace
) -> None:
    file = kept(lab, features, tmp_path, boot="00000000-0000-4000-8000-000000000000")

    assert boots(fresh, file).rc == 0

    assert nftables.script(loaded(fresh), GUARD, features) == ("", "elements")


def test_what_is_loaded_at_boot_guards_a_port_that_comes_later(
    lab: Lab, features: Features, tmp_path: Path
) -> None:
    file = kept(lab, features, tmp_path)

    assert boots(lab.dom0, file).rc == 0

    assert UPLINK in lab.send(udp4(A.v4, GATEWAY)).where
    assert lab.send(udp4(B.v4, GATEWAY)).nothing


def _resealed(text: str) -> str:
    """A file that is whole, and that nft refuses."""
    lines = text.splitlines(keepends=True)
    script = "".join([*lines[1:-1], "add element bridge domgit no_such_set { 1 }\n"])
    words = lines[0].split(" ")
    words[4] = hashlib.sha256(script.encode()).hexdigest()
    return " ".join(words) + script + lines[-1]


SPOILT: dict[str, Callable[[str], str]] = {
    "cut short": lambda text: text[: len(text) // 2],
    "cut at a line": lambda text: "".join(text.splitlines(keepends=True)[:-3]),
    "cut and ended": lambda text: "".join(text.splitlines(keepends=True)[:-3]) + "# end\n",
    "altered": lambda text: text.replace(A.v4, B.v4),
    "empty": lambda _: "",
    "of another version": lambda text: text.replace("# domgit guard 3 ", "# domgit guard 4 ", 1),
    "refused by nft": _resealed,
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_file_that_is_not_as_it_was_written_is_not_loaded_not_even_in_part_and_says_so(
    lab: Lab, features: Features, tmp_path: Path, fresh: Namespace, spoilt: str
) -> None:
    file = kept(lab, features, tmp_path)
    file.write_text(SPOILT[spoilt](file.read_text(encoding="utf-8")), encoding="utf-8")
    fresh.must("nft", "add", "table", "inet", "other")
    before = fresh.must("nft", "list", "ruleset")

    done = boots(fresh, file)

    assert done.rc == 1
    assert done.stderr.startswith("domgit: the guard is not loaded, and no guest of ours starts: ")
    assert fresh.must("nft", "list", "ruleset") == before
    assert not file.with_name("boot.nft.loading").exists()


def test_without_a_file_it_says_so(lab: Lab, features: Features, tmp_path: Path, fresh: Namespace) -> None:
    file = kept(lab, features, tmp_path)
    file.unlink()

    done = boots(fresh, file)

    assert (done.rc, "there is no" in done.stderr) == (1, True)
    assert fresh.must("nft", "list", "ruleset") == ""
