"""What is written for the package: it says what the program knows, and its scripts touch nothing that protects guests."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from deb import DEB, ROOT, BuildError
from deb.completion import script
from deb.manual import pages, roff
from deb.verbs import verbs
from deb.wheels import CACHE, LOCK, checked, locked
from deb.words import Brought, changelog, copyright_text
from reconciler import __version__, config
from reconciler.cli import VERBS, cli
from reconciler.last_good import LastGood, save
from tests.unit.test_last_good import NOW, domus

SCRIPTS = sorted((DEB / "maintainer").iterdir())
EPOCH = 1_800_000_000


def manual(name: str = "domgit.1") -> str:
    return pages(verbs(), version=__version__, epoch=EPOCH)[name]


def shown(name: str) -> str:
    """A page as its reader has it, without marks of roff."""
    return re.sub(r"\\f[A-Z]|\\&", "", manual(name)).replace("\\-", "-").replace("\\e", "\\")


def completed(*words: str, last_good: Path = Path("/nonexistent"), script_file: Path) -> list[str]:
    """What bash offers for the last of the words behind `domgit`."""
    script_file.write_text(script(verbs()), encoding="utf-8")
    program = 'source "$1"; shift; COMP_WORDS=(domgit "$@"); COMP_CWORD=$#; _domgit; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", program, "bash", script_file, *words],
        env={"PATH": "/usr/bin:/bin", "DOMGIT_LAST_GOOD": str(last_good)},
        cwd=script_file.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_manual_has_every_verb_and_option_that_the_parser_has() -> None:
    text = shown("domgit.1")
    context = click.Context(cli)

    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert re.search(rf"^\.SS {name}\b", text, re.MULTILINE), name
        assert command is not None
        for option in (each for each in command.params if isinstance(each, click.Option)):
            section = text.partition(f"\n.SS {name}")[2].partition("\n.S")[0]
            assert option.opts[0] in section, f"{name} {option.opts[0]}"
    assert {verb.words[0] for verb in verbs()} == set(VERBS)


def test_the_manual_explains_every_key_of_the_configuration_and_its_example_is_one(tmp_path: Path) -> None:
    text = shown("domgit.toml.5")
    keys = {f"{table}.{key}" if table else key for table, names in config._KNOWN.items() for key in names}
    example = (DEB / "domgit.toml").read_text(encoding="utf-8")

    assert set(re.findall(r"^\.B ([a-z_.]+)$", text, re.MULTILINE)) == keys
    everything = tmp_path / "domgit.toml"
    everything.write_text(re.sub(r"^# (?=\[|[a-z_]+ = )", "", example, flags=re.MULTILINE), encoding="utf-8")
    defaults, read = config.Config(), config.load(everything)
    assert (read.host, read.url) == ("dom0-a", "/srv/vps")
    assert (read.branch, read.interval_s, read.paths) == (
        defaults.branch,
        defaults.interval_s,
        defaults.paths,
    )
    assert (read.shutdown_grace_s, read.guard_revert_s) == (
        defaults.shutdown_grace_s,
        defaults.guard_revert_s,
    )


@pytest.mark.parametrize("name", ["domgit.1", "domgit.toml.5"])
def test_groff_has_nothing_to_say_about_a_page(name: str) -> None:
    if shutil.which("groff") is None:
        pytest.skip("this machine has no groff")

    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z"],
        input=manual(name),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_text_stays_as_it_is_in_a_page() -> None:
    assert roff(".x \\ a-b `c`") == "\\&.x \\e a\\-b \\fBc\\fR"


def test_bash_offers_verbs_options_and_values(tmp_path: Path) -> None:
    file = tmp_path / "domgit"

    assert completed("va", script_file=file) == ["validate"]
    assert completed("render", "", script_file=file) == ["guard", "xl", "--help"]
    assert completed("plan", "--det", script_file=file) == ["--detailed-exitcode"]
    assert completed("plan", "--format", "m", script_file=file) == ["markdown"]
    assert completed("apply", "--yes", "--disruption", "", script_file=file) == ["none", "link", "reboot"]
    assert completed("plan", "--out", "dom", script_file=file) == ["domgit"]
    assert completed("plan", "--host", "", script_file=file) == []


def test_bash_offers_the_domus_and_vifs_that_were_last_applied(tmp_path: Path) -> None:
    file, last = tmp_path / "domgit", tmp_path / "last-good.json"
    wanted = domus(vm01="running", vm02="halted")
    save(last, LastGood(NOW, wanted))
    names = [domu.name for domu in wanted.domus]
    vifs = [vif.name for domu in wanted.domus for vif in domu.vifs if vif.name is not None]

    assert names == ["vm01", "vm02"]
    assert vifs
    assert completed("get", "", last_good=last, script_file=file) == names
    assert completed("render", "xl", "", last_good=last, script_file=file) == names
    assert completed("bypass", "", last_good=last, script_file=file) == vifs
    assert completed("new", "", last_good=last, script_file=file) != names
    assert completed("get", "", script_file=file) == []


def test_the_changelog_begins_with_this_version_and_keeps_every_item() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    made = changelog(text, version=__version__, epoch=EPOCH)

    assert made.startswith(f"domgit ({__version__}) bookworm; urgency=medium\n\n  [ Added ]\n  * ")
    assert made.count("\n  * ") == len(re.findall(r"^- ", text, re.MULTILINE))
    assert made.endswith("  Fri, 15 Jan 2027 08:00:00 +0000\n")
    with pytest.raises(BuildError, match="does not begin with version 9"):
        changelog(text, version="9.9.9", epoch=EPOCH)


def test_what_brings_no_licence_is_not_shipped() -> None:
    with pytest.raises(BuildError, match="thing: it brings no licence"):
        copyright_text([Brought("Name: thing\nVersion: 1\n", {}, ("thing/*",))])


def test_a_wheel_that_the_lock_file_does_not_know_is_refused(tmp_path: Path) -> None:
    lock = LOCK.read_text(encoding="utf-8")

    assert len(locked(lock)) >= 10
    with pytest.raises(BuildError, match=r"no wheel of annotated-types, "):
        checked(tmp_path, lock)
    (tmp_path / "click-8.5.1-py3-none-any.whl").write_bytes(b"another")
    with pytest.raises(BuildError, match="the lock file knows no such file"):
        checked(tmp_path, lock)


def test_the_cache_has_what_the_lock_file_names() -> None:
    if not CACHE.exists():
        pytest.skip("run `make setup-deb` first")

    assert len(checked(CACHE, LOCK.read_text(encoding="utf-8"))) == len(
        locked(LOCK.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_maintainer_script_is_posix_and_ends_at_the_first_failure(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert text.startswith("#!/bin/sh\n")
    assert "\nset -e\n" in text
    subprocess.run(["dash", "-n", path], check=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_maintainer_script_touches_rules_ports_guests_or_the_hotplug_script(path: Path) -> None:
    commands = re.sub(r"#.*|say '.*|say \".*", "", path.read_text(encoding="utf-8"))

    assert not re.search(r"(?<!\.)\b(nft|iptables|ip6tables|ebtables|ipset|bridge|ip|xl|kill)\b ", commands)
    removed = " ".join(re.findall(r"\brm .*", commands))
    assert not re.search(r"SCRIPT|/guard\b(?!\.)|ledger|last-good|journal|secrets|\$STATE( |$)|xen", removed)
    # The guard at boot is neither stopped nor started by anybody: only the daemon is.
    assert set(re.findall(r"systemctl ((?!show)[^|)\n]*)", commands)) <= {
        "stop domgit.service",
        "start domgit.service ",
        "--system daemon-reload",
    }


def test_what_prerm_keeps_postinst_knows_again() -> None:
    marks = {
        re.findall(r"^MARK=.*$", (DEB / "maintainer" / name).read_text(), re.MULTILINE)[0]
        for name in ("prerm", "postinst")
    }

    assert len(marks) == 1
