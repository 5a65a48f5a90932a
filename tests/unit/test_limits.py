"""Whatever is committed: `domgit validate` as a whole process answers with a diagnostic, in little time and memory.

The bounds are several times what was measured (docs/performance.md), and of processor time, so that a busy machine does
not matter. Most inputs are made here: nobody wants ten megabytes of brackets in a repository.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.unit.fleets import domu, fleet_in, host, network
from tests.unit.measured import Measured, domgit
from tests.unit.repositories import Repository, reachable
from tests.unit.test_hostile_git import Crafted
from tests.unit.test_spec_cases import CASES

pytestmark = pytest.mark.git

CPU_S = 2.0
RSS_MIB = 256
GOOD = {
    **host(),
    **network("a", "10.0.0.0/8", "10.0.0.1"),
    **domu("vm01", "mac: 00:16:3e:7c:1f:6e, ips: [10.0.39.105]"),
}
VM01 = "hosts/dom0-a/domus/vm01.yaml"
Files = Mapping[str, str | bytes]


def one(text: str) -> Callable[[], Files]:
    """A repository of which one file is this."""
    return lambda: {**GOOD, VM01: text}


def many(name: str, text: str, count: int) -> Callable[[], Files]:
    """A repository with so many more files; in both texts `%d` is a number."""
    return lambda: {**GOOD, **{name % number: text.replace("%d", str(number)) for number in range(count)}}


def spec(words: str) -> str:
    return f"apiVersion: domgit/v1\nkind: DomU\nmetadata: {{name: vm01}}\nspec: {{{words}}}\n"


BOOTS = "type: pv, memory: 1GiB, boot: {run: {kernel: /srv/xen/k}}"
DOMUS = "hosts/dom0-a/domus/n%d.yaml"
ALIASES = "a: &a [x]\n" + "".join(
    f"{c}: &{c} [*{p}, *{p}, *{p}]\n" for p, c in zip("abcdefghi", "bcdefghij", strict=True)
)
# What is committed, and the code and file that it is refused with.
HEAVY: dict[str, tuple[Callable[[], Files], str]] = {
    "1 MB of brackets": (one("[" * 10**6), f"{VM01}:1:1: error[DG1006]"),
    "60 kB of brackets": (one("[" * 60_000), f"{VM01}:1:1001: error[DG1001]"),
    "1 MB of dashes": (one("- " * 500_000), f"{VM01}:1:1: error[DG1006]"),
    "60 kB of dashes": (one("- " * 30_000), f"{VM01}:1:65: error[DG1006]"),
    "60 kB of question marks": (one("? " * 30_000), f"{VM01}:1:3: error[DG1001]"),
    "60 kB of quotes": (one("a: " + '"' * 60_001), f"{VM01}:1:"),
    "nine levels of aliases": (one(ALIASES), f"{VM01}:1:4: error[DG1002]"),
    "thousands of merge keys": (one("a: &a {x: 1}\n" + "b: {<<: [*a, *a]}\n" * 3000), f"{VM01}:1:4: error[DG1002]"),
    "10 MB": (one("# x\n" * 2_500_000), f"{VM01}:1:1: error[DG1006]"),
    "a line of 1 MB": (one("a: " + "x" * 10**6), f"{VM01}:1:1: error[DG1006]"),
    "a value of 60 kB": (one(GOOD[VM01].replace("vmlinuz", "x" * 60_000)), f"{VM01}:7:16: error[DG1103]"),
    "a key of 60 kB": (one(f"{GOOD[VM01]}  ? {'x' * 60_000}\n  : 1\n"), f"{VM01}:10:5: error[DG1101]"),
    "5000 digits": (one(f"{GOOD[VM01]}  vcpus: {'9' * 5000}\n"), f"{VM01}:10:3: error[DG1103]"),
    "2400 nulls": (one(spec("vifs: [" + "~," * 2400 + "]")), f"{VM01}:4:15: error[DG1004]"),
    "4800 items that are none": (one(spec("vifs: [" + "1," * 4800 + "]")), f"{VM01}:4:15: error[DG1103]"),
    "2400 keys that nobody knows": (
        one(GOOD[VM01] + "".join(f"  key{number}: 1\n" for number in range(2400))),
        f"{VM01}:10:3: error[DG1101]",
    ),
    "900 disks of one device": (one(spec(f"{BOOTS}, disks: [{'{vdev: xvda, path: /a},' * 900}]")), f"{VM01}:4:"),
    "200 files of nulls": (many(DOMUS, "a: [" + "~," * 31_000 + "]\n", 200), f"{DOMUS % 0}:1:5: error[DG1004]"),
    "2000 profiles that nobody has": (
        lambda: {
            **GOOD,
            **{DOMUS % number: spec("profile: none").replace("vm01", f"n{number}") for number in range(2000)},
            **{
                f"profiles/p{number}.yaml": f"apiVersion: domgit/v1\nkind: Profile\nmetadata: {{name: p{number}}}\nspec: {{}}\n"
                for number in range(2000)
            },
        },
        f"{DOMUS % 0}:4:8: error[DG1201]",
    ),
    "10,001 networks and hosts": (many("networks/n%d.yaml", GOOD["networks/a.yaml"], 9999), "error[DG1505]"),
    "300 MB in all": (many(DOMUS, "# " + "x" * 62_000, 4900), "error[DG1505]"),
}  # fmt: skip
# Nothing here is over a limit, so all of it is read: some ten microseconds a file, some nanoseconds a byte.
LARGE: dict[str, tuple[Callable[[], Files], str]] = {
    "200 MB in all": (many(DOMUS, "# " + "x" * 62_000, 3200), f"{DOMUS % 0}:1:1: error[DG1007]"),
    "200 files of 5000 values": (many(DOMUS, "a: [" + "a," * 31_000 + "]\n", 200), f"{DOMUS % 0}:1:9999: error[DG1006]"),
}  # fmt: skip
LARGE_CPU_S = 10.0


def refused(found: Measured, said: str, cpu_s: float = CPU_S) -> None:
    """A verdict, and none of what a bomb would do."""
    assert (found.rc, "Traceback" in found.stderr) == (1, False), found.stderr[-500:]
    assert any(line.startswith(said) for line in found.stdout.splitlines()), found.stdout[:500]
    assert len(found.stdout) < 1_000_000
    assert found.cpu_s < cpu_s
    assert found.rss_mib < RSS_MIB


def written(folder: Path, files: Files) -> str:
    """The folder with these files in it; what is alike is one file with many names, which takes a tenth of the time."""
    made: dict[str | bytes, tuple[Path, int]] = {}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        first, count = made.get(text, (path, 0))
        if count % 10_000:  # file systems bound the names of one file
            path.hardlink_to(first)
        else:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            first = path
        made[text] = first, count + 1
    return str(folder)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = reachable(tmp_path_factory.mktemp("heavy"))
    yield found
    shutil.rmtree(found)  # pytest would keep hundreds of thousands of files for the next three runs


@pytest.mark.parametrize("what", HEAVY)
def test_a_heavy_input_is_refused_in_little_time_and_memory(folder: Path, what: str) -> None:
    files, said = HEAVY[what]

    refused(domgit("validate", written(folder, files()), "--config", "/dev/null"), said)


@pytest.mark.parametrize("what", LARGE)
def test_a_large_repository_is_looked_through_in_little_memory(folder: Path, what: str) -> None:
    files, said = LARGE[what]

    refused(domgit("validate", written(folder, files()), "--config", "/dev/null"), said, LARGE_CPU_S)


def test_a_hundred_thousand_files_are_looked_through_and_twice_as_many_are_too_many(folder: Path) -> None:
    """Some ten microseconds a file; a folder of more than the limit is not looked into."""
    repository = written(folder, many(DOMUS, "[", 100_000)())
    refused(
        domgit("validate", repository, "--config", "/dev/null"),
        f"{DOMUS % 0}:2:1: error[DG1001]",
        LARGE_CPU_S,
    )

    written(folder, {f"hosts/dom0-a/domus/n{number}.txt": "" for number in range(101_000)})
    refused(domgit("validate", repository, "--config", "/dev/null"), "error[DG1505]")


def test_thousands_of_addresses_beside_thousands_of_reserved_ones_are_quick(folder: Path) -> None:
    vifs = ",".join(
        f"{{mac: 00:16:3e:00:00:{vif:02x}, bridge: xenbr0, ips: [{','.join(f'10.1.{vif}.{i}' for i in range(250))}]}}"
        for vif in range(17)
    )
    reserved = ",".join(f"10.2.{number // 250}.{number % 250}" for number in range(4700))
    files = {**GOOD, VM01: spec(f"{BOOTS}, vifs: [{vifs}]")}
    files["networks/a.yaml"] = files["networks/a.yaml"].replace(
        "bridge: xenbr0", f"bridge: xenbr0, reserved: [{reserved}]"
    )

    found = domgit("validate", written(folder, files), "--config", "/dev/null")

    assert (found.rc, found.stdout) == (0, "3 files, 1 hosts: valid.\n")
    assert found.cpu_s < CPU_S
    assert found.rss_mib < RSS_MIB


# ---------------------------------------------------------------- the same from commits


@pytest.fixture
def crafted(folder: Path) -> Crafted:
    return Crafted(Repository(folder / "repo"))


def test_a_commit_that_unpacks_to_everything_is_refused_in_little_time_and_memory(crafted: Crafted) -> None:
    repository = str(crafted.repository.path)

    def validated(said: str) -> None:
        refused(domgit("validate", "--repo", repository, "--rev", "main", "--config", "/dev/null"), said)

    tree = crafted.tree(*(("100644", f"f{number}.yaml", crafted.blob()) for number in range(10)))
    for _ in range(9):
        tree = crafted.tree(*(("40000", f"d{number}", tree) for number in range(10)))
    crafted.with_networks(("40000", "d", tree))
    validated("error[DG1505]")

    crafted.with_networks(("100644", "a.yaml", crafted.put("blob", bytes(300_000_000))))
    validated("networks/a.yaml:1:1: error[DG1006]: 300000000 bytes")


def test_a_commit_of_200_mb_in_all_is_looked_through_in_little_memory(crafted: Crafted) -> None:
    blobs = [crafted.put("blob", b"# %d " % number + b"x" * 62_000) for number in range(3200)]
    domus = crafted.tree(*((("100644", f"n{number:04}.yaml", blob)) for number, blob in enumerate(blobs)))
    file = ("100644", "host.yaml", crafted.blob("hosts/dom0-a/host.yaml"))
    hosts = crafted.tree(("40000", "dom0-a", crafted.tree(("40000", "domus", domus), file)))
    crafted.commit(crafted.tree(("40000", "hosts", hosts)))

    found = domgit(
        "validate", "--repo", str(crafted.repository.path), "--rev", "main", "--config", "/dev/null"
    )

    refused(found, "hosts/dom0-a/domus/n0000.yaml:1:1: error[DG1007]", LARGE_CPU_S)


# ---------------------------------------------------------------- every case


def test_no_case_takes_more_than_a_part_of_a_second() -> None:
    slow = {}
    for case in sorted(CASES.iterdir()):
        if case.is_dir():
            started = time.process_time()
            fleet_in(case)
            slow[case.name] = time.process_time() - started

    assert len(slow) > 0
    assert {name: taken for name, taken in slow.items() if taken > CPU_S} == {}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * RSS_MIB * 1024  # of all of pytest
