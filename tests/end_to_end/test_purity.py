"""Verbs that look change nothing: every system call of them is judged, and the host is compared with itself."""

from __future__ import annotations

import compileall
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import reconciler
from reconciler.cli import VERBS
from tests.dom0.toolstack import domids, run, xl
from tests.end_to_end.provider import Provider, booted, mac, vif
from tests.end_to_end.purity import differences, offences, picture
from tests.end_to_end.strace import traced
from tests.end_to_end.wire import ruleset_generation

pytestmark = pytest.mark.dom0
WRITERS = {"init", "new", "apply", "run", "bypass"}


def looks(provider: Provider) -> Mapping[str, Sequence[str]]:
    """The command line of each verb that only looks."""
    plan = provider.domgit("history", "--json").json["applied"][0]["plan_id"].removeprefix("sha256:")
    packet = ["vif=vm01", f"smac={mac(1)}", "src=172.16.39.1"]  # also where vm01's file has an error
    # Of `console`, all that is ours: to whoever runs, xl hands over what is typed.
    arguments = {"get": ["vm01"], "show": [plan], "explain": packet, "console": ["nobody"]}
    lines = {
        verb: provider.argv(verb, *arguments.get(verb, ())) for verb in VERBS.keys() - WRITERS - {"render"}
    }
    program, _, *target = lines["plan"]
    return {
        **lines,
        "schema": [program, "schema"],
        "validate": [program, "validate", "--repo", str(provider.root), "--rev", "main"],
        "render guard": [program, "render", "guard", *target],
        "render xl": [program, "render", "xl", *target, "vm02"],
    }


def converged(_: Provider) -> None:
    return


def drifted(_: Provider) -> None:
    run("nft", "delete", "table", "bridge", "domgit")
    run("bridge", "link", "set", "dev", "vm01", "learning", "on", "locked", "off")
    xl("mem-set", str(domids()["vm01"]), "100")
    xl("destroy", "vm02")
    with Path("/etc/xen/vm01.cfg").open("a") as file:
        file.write("pci = []\n")


def broken(provider: Provider) -> None:
    provider.write("hosts/dom0-a/domus/vm01.yaml", "broken: [\n")
    provider.domu("vm02", 2, memory="96MiB")
    provider.commit("not what was meant")


@pytest.mark.parametrize("situation", [converged, drifted, broken], ids=lambda each: each.__name__)
def test_a_verb_that_looks_changes_nothing(
    provider: Provider, tmp_path: Path, situation: Callable[[Provider], None]
) -> None:
    # As pip installs it: without its bytecode, Python would write that beside the source.
    assert compileall.compile_dir(Path(reconciler.__file__).parents[1] / "reconciler", quiet=1)
    provider.domu("vm01", 1)
    provider.domu("vm02", 2)
    provider.settled()
    booted("vm01")
    booted("vm02")
    situation(provider)
    before = picture(provider.root)

    ends = {verb: traced(argv, tmp_path / verb) for verb, argv in looks(provider).items()}

    assert {verb: offences(end.calls) for verb, end in ends.items()} == dict.fromkeys(ends, ())
    assert differences(before, picture(provider.root)) == {}
    # None was called the wrong way, or ended before it had looked: that would change nothing either.
    assert {
        verb: end.err for verb, end in ends.items() if "Usage:" in end.err or "Traceback" in end.err
    } == {}
    failed = {verb for verb, end in ends.items() if end.code} - {"drift", "doctor", "console"}
    assert "no domU 'nobody'" in ends["console"].err
    # Without its table the guard refuses nothing and has counted nothing: that is said, as a failure.
    expected = {broken: {"validate"}, drifted: {"violations"}}.get(situation, set())
    assert failed == expected, failed
    assert ends["drift"].code == (2 if situation is drifted else 0)


def test_the_same_judge_finds_what_an_apply_does(provider: Provider, tmp_path: Path) -> None:
    provider.domu("vm01", 1)
    provider.settled()
    # A change of one that runs: an `xl create` would leave its monitor behind, which strace would follow for ever.
    provider.domu("vm01", 1, memory="192MiB", vifs=[{**vif("vm01", 1), "mac": mac(77)}])
    provider.commit()
    before, generation = picture(provider.root), ruleset_generation()

    applied = traced(provider.argv("apply", "--yes"), tmp_path / "apply")

    assert applied.code == 0, applied.err
    found = "\n".join(offences(applied.calls))
    for what in (
        "locks /run/domgit/lock",
        "opens /var/lib/domgit/.last-good.json",
        "rename",
        "NFT BATCH_END",
        "RTM SET",
        "xenstored was told: XS WRITE /local/domain/",
        "write to /run/dom0/hypervisor",
    ):
        assert what in found
    changed = differences(before, picture(provider.root))
    assert {"/etc/xen/vm01.cfg", "xenstore", "links", "rules"} <= changed.keys()
    assert ruleset_generation() > generation


PLANTED = {
    "a file": ("echo x > {folder}/file", "sh: opens {folder}/file for writing"),
    "times alone": ("touch -d @0 {folder}", "touch: utimensat"),
    "permissions": ("chmod 755 {folder}", "chmod: fchmodat"),
    "a folder": ("mkdir {folder}/__pycache__", "mkdir: mkdir"),
    "a file taken away": ("rm {folder}/there", "rm: unlinkat"),
    "a reference": ("git -C {repository} update-ref refs/heads/more HEAD", "git: opens"),
    "an object": ("git -C {repository} hash-object -w --stdin", "git: opens"),
    "a rule": ("nft add table bridge planted", "nft: NFT NEWTABLE"),
    "a rule that is taken away": ("nft flush ruleset", "nft: NFT DELTABLE"),
    "a link": ("ip link set dev xenbr0 up", "ip: RTM NEW"),
    "a forwarding entry": (
        "bridge fdb add 00:00:5e:00:53:01 dev eth0 master static",
        "bridge: RTM NEW",
    ),
    "an entry in xenstore": (
        "xenstore-write /local/planted x",
        "xenstored was told: XS WRITE /local/planted",
    ),
    "one that is taken away": ("xenstore-rm /local/planted", "xenstored was told: XS RM /local/planted"),
    "its permissions": ("xenstore-chmod /local r0", "xenstored was told: XS SET_PERMS /local"),
    "a hypercall": ("xl sched-credit2 -d 0 -w 256", "xl: write to /run/dom0/hypervisor"),
    "a signal": ("kill -WINCH $PPID", "sh: kill("),
    "a lock": ("flock /run/planted true", "flock: locks /run/planted"),
    "a message": ("logger --socket-errors=on --socket /run/dom0/players.sock x", "logger: send"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_the_judge_finds_a_planted_writer(provider: Provider, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "planted"
    folder.mkdir()
    (folder / "there").touch()
    provider.commit()
    line, expected = (each.format(folder=folder, repository=provider.root) for each in PLANTED[what])

    done = traced(["sh", "-c", line], tmp_path / "trace")

    assert expected in "\n".join(offences(done.calls)), done.err


def test_the_judge_knows_a_check_of_rules_from_a_change_of_rules(tmp_path: Path) -> None:
    before = ruleset_generation()

    checked = traced(["nft", "--check", "add", "table", "bridge", "planted"], tmp_path / "checked")
    between = ruleset_generation()
    added = traced(["nft", "add", "table", "bridge", "planted"], tmp_path / "added")
    taken = traced(["nft", "delete", "table", "bridge", "planted"], tmp_path / "taken")

    assert offences(checked.calls) == ()
    assert between == before
    assert "nft: NFT BATCH_END" in offences(added.calls)
    assert "nft: NFT DELTABLE" in offences(taken.calls)
    assert ruleset_generation() == before + 2


def test_what_the_judge_does_not_know_is_an_offence(tmp_path: Path) -> None:
    unknown = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"

    sent = traced([sys.executable, "-I", "-c", unknown], tmp_path / "sent")

    assert [each for each in offences(sent.calls) if "sendto to UDP" in each]
