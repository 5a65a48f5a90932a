"""The verbs that need neither root nor Xen, as a shell meets them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from reconciler import __version__
from reconciler.cli import VERBS, cli
from reconciler.cli.act import load_plan, told_result
from reconciler.cli.output import Failed
from reconciler.converge import Outcome
from reconciler.diff import make_plan
from reconciler.journal import Journal
from reconciler.plan_document import plan_document
from reconciler.plan_text import plan_text
from reconciler.policy import Policy
from reconciler.reconcile import Result as Pass
from tests.unit.deviations import situation
from tests.unit.test_plan_cases import CASES, met

ROOT = Path(__file__).resolve().parents[2]
DOMGIT = Path(sys.executable).parent / "domgit"
NOWHERE = ("--config", "/dev/null")


def shell(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DOMGIT, *argv], cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def call(*argv: str) -> Result:
    return CliRunner().invoke(cli, argv)


def failure(*argv: str) -> str:
    """What the verb says when it fails as it is meant to."""
    done = call(*argv)
    assert isinstance(done.exception, Failed), done.output
    return str(done.exception)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that `init` and `new` made; the reading child may be somebody else and must get there."""
    folder = tmp_path_factory.mktemp("repository")
    for each in (folder, *folder.parents):
        if str(each).startswith("/tmp/"):
            each.chmod(0o755)
    made = call(
        "init", str(folder), "--host", "dom0-a", "--subnet", "172.16.39.0/24", "--gateway", "172.16.39.1"
    )
    assert made.exit_code == 0, made.output
    for name in ("vm01", "vm02"):
        added = call("new", name, "--host", "dom0-a", "--repo", str(folder))
        assert added.output == f"wrote {folder}/hosts/dom0-a/domus/{name}.yaml\n"
    return folder


def test_the_executable_tells_its_version_and_its_verbs() -> None:
    assert shell("--version").stdout == f"domgit, version {__version__}\n"
    done = call("--help")
    assert all(
        verb in done.output for verb in ("init", "new", "validate", "render", "plan", "apply", "run", "show")
    )


def test_usage_errors_and_failures_end_with_1_on_stderr(checkout: Path) -> None:
    unknown = shell("--nonsense")
    missing = shell(
        "render", "xl", "nobody", "--repo", str(checkout), "--rev", "WORKTREE", "--host", "dom0-a", *NOWHERE
    )

    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "No such option" in unknown.stderr
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "domgit: no domU 'nobody' on this host (have vm01, vm02)\n"


# ---------------------------------------------------------------- init, new, validate, schema


def test_nothing_is_written_over(checkout: Path) -> None:
    before = {path: path.read_text() for path in checkout.rglob("*.yaml")}

    assert "exists already: nothing was written" in failure("init", str(checkout), "--host", "dom0-a")
    assert call("new", "vm01", "--host", "dom0-a", "--repo", str(checkout)).exception is not None
    assert {path: path.read_text() for path in checkout.rglob("*.yaml")} == before


def test_a_checkout_is_validated_from_any_folder_in_it(checkout: Path) -> None:
    done = shell("validate", *NOWHERE, cwd=checkout / "hosts" / "dom0-a")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("files, 1 hosts: valid.\n")


def test_every_problem_is_told_with_its_place_and_as_json(
    tmp_path_factory: pytest.TempPathFactory, checkout: Path
) -> None:
    broken = tmp_path_factory.mktemp("broken")
    broken.chmod(0o755)
    subprocess.run(
        ["cp", "-r", f"{checkout}/hosts", f"{checkout}/networks", f"{checkout}/profiles", broken], check=True
    )
    (broken / "hosts/dom0-a/domus/vm02.yaml").write_text(
        "apiVersion: domgit/v1\nkind: DomU\nmetadata: {name: vm02}\nspec: {memroy: 1}\n"
    )

    done = call("validate", str(broken), "--json", *NOWHERE)

    assert done.exit_code == 1
    document = json.loads(done.output)
    assert (document["format_version"], document["valid"]) == ("1.0", False)
    assert set(document["diagnostics"][0]) == {
        "severity",
        "code",
        "message",
        "address",
        "file",
        "line",
        "column",
    }


def test_the_schemas_are_printed_or_written(tmp_path: Path) -> None:
    printed = json.loads(call("schema").output)
    call("schema", "--out", str(tmp_path / "schemas"))

    assert set(printed) == {"DomU", "Host", "Network", "Profile"}
    assert {path.name: json.loads(path.read_text()) for path in (tmp_path / "schemas").iterdir()} == {
        f"{kind.lower()}.json": schema for kind, schema in printed.items()
    }


# ---------------------------------------------------------------- render


def test_the_guard_of_a_host_is_rendered_as_steps(checkout: Path) -> None:
    where = ("--repo", str(checkout), "--rev", "WORKTREE", "--host", "dom0-a", *NOWHERE)

    document = json.loads(call("render", "guard", "--json", *where).output)

    assert [(step["argv"], step["optional"]) for step in document["steps"]] == [
        (["nft", "-f", "-"], False),
        (["nft", "-f", "-"], True),
    ]
    assert (document["format_version"], document["backend"]) == ("1.0", "nftables")
    assert '"vm02"' in document["steps"][0]["stdin"]


def test_what_rendering_leaves_out_is_said_with_the_error_of_its_file(checkout: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkout, broken)
    for each in (tmp_path, *tmp_path.parents):
        if str(each).startswith("/tmp/"):
            each.chmod(0o755)
    file = broken / "hosts" / "dom0-a" / "domus" / "vm02.yaml"
    file.write_text(file.read_text().replace("00:16:3e", "01:16:3e"))
    where = ("--repo", str(broken), "--rev", "WORKTREE", "--host", "dom0-a", *NOWHERE)

    guard = shell("render", "guard", *where)

    assert guard.returncode == 0
    assert "domgit: domu.vm02 is left out: hosts/dom0-a/domus/vm02.yaml:" in guard.stderr
    assert failure("render", "xl", "vm02", *where).startswith(
        "domu.vm02 has errors: hosts/dom0-a/domus/vm02.yaml:"
    )


def test_a_packet_is_explained_as_text_and_as_data_from_git_alone(checkout: Path) -> None:
    where = ("--repo", str(checkout), "--rev", "WORKTREE", "--host", "dom0-a", *NOWHERE)

    told = call("explain", "vif=vm01", "src=203.0.113.9", *where)
    data = json.loads(call("explain", "--json", "vif=vm01/0", *where).output)

    assert told.exit_code == 0
    # A new host only watches.
    assert told.output.startswith(
        "pass (v4, audited): source address 203.0.113.9 is not bound to vm01 (domu.vm01"
    )
    assert (data["format_version"], data["verdict"], data["reason"]) == ("1.0", "pass", None)
    assert data["bound"]["address"] == "domu.vm01.vif.0"


def test_the_answer_that_the_documentation_shows_is_what_the_examples_give() -> None:
    text = (ROOT / "docs" / "guard.md").read_text(encoding="utf-8")
    line, *shown = text.partition("$ domgit explain --repo . ")[2].partition("\n```")[0].splitlines()
    where = ("--repo", str(ROOT / "examples"), *NOWHERE)

    told = iter(call("explain", *where, *line.split()).output.splitlines())

    # In order, each of them among those that are left.
    assert [each for each in shown if each.strip() != "..." and each not in told] == []
    assert shown[-1] == "    refused: drop"


def test_all_that_is_wrong_with_a_packet_is_told_and_the_exit_status_is_1(checkout: Path) -> None:
    where = ("--repo", str(checkout), "--rev", "WORKTREE", "--host", "dom0-a", *NOWHERE)

    done = shell("explain", "vif=vm01", "src=a", "dport=b", *where)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "domgit: src: 'a' is no such value (expected an IPv4 or IPv6 address)",
        "domgit: dport: 'b' is no such value (expected a number up to 65535)",
    ]
    assert call("explain", *where).exit_code != 0


def test_a_domus_configuration_is_rendered(checkout: Path) -> None:
    done = call(
        "render", "xl", "vm01", "--repo", str(checkout), "--rev", "WORKTREE", "--host", "dom0-a", *NOWHERE
    )

    assert done.output.startswith("# Written by domgit from hosts/dom0-a/domus/vm01.yaml")
    assert 'name = "vm01"\n' in done.output


# ---------------------------------------------------------------- what cannot be meant


@pytest.mark.parametrize("argv", [("plan",), ("render", "guard"), ("render", "xl", "vm01")])
def test_a_repository_is_never_guessed(argv: tuple[str, ...]) -> None:
    assert failure(*argv, *NOWHERE).startswith("no repository (expected --repo PATH")


@pytest.mark.git
def test_what_the_configuration_file_has_wrong_is_told_with_its_name(checkout: Path, tmp_path: Path) -> None:
    def said(repository: str, more: str) -> str:
        file = tmp_path / "domgit.toml"
        file.write_text(
            f'host = "dom0-z"\n[repo]\nurl = "{repository}"\n{more}\n[paths]\nstate = "{tmp_path}"\n'
        )
        return failure("render", "guard", "--config", str(file)).replace(str(tmp_path), "HERE")

    repository = tmp_path / "repo"
    shutil.copytree(checkout, repository)
    for argv in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "a"],
    ):
        if argv[0] == "add":
            assert "nothing is committed yet" in said(str(repository), "")
        subprocess.run(["git", "-C", str(repository), *argv], check=True)

    assert said(str(repository), "").endswith("(have dom0-a; host in HERE/domgit.toml names it)")
    assert said(str(repository), 'branch = "mian"').endswith(
        "no branch, tag or commit 'mian' (expected --rev, or repo.branch in HERE/domgit.toml)"
    )
    assert said("git@git.example.net:vps.git", "").startswith("git@git.example.net:vps.git: never fetched")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else: needs root")
def test_the_history_of_root_says_that_it_needs_root(tmp_path: Path) -> None:
    def read_as_nobody() -> str:
        os.seteuid(65534)
        try:
            return failure("history", "--config", str(config))
        finally:
            os.seteuid(0)

    for each in (tmp_path, *tmp_path.parents):
        if str(each).startswith("/tmp/"):
            each.chmod(0o755)
    config = tmp_path / "domgit.toml"
    config.write_text(f'[paths]\nstate = "{tmp_path}"\n')
    (tmp_path / "journal").touch(mode=0o600)

    assert read_as_nobody() == f"this needs root: {tmp_path}/journal is root's"


def test_a_host_must_be_named_and_be_in_the_repository(checkout: Path) -> None:
    where = ("--repo", str(checkout), "--rev", "WORKTREE", *NOWHERE)

    assert failure("render", "guard", *where).startswith("no host (expected --host NAME")
    assert (
        failure("render", "guard", *where, "--host", "dom0-z")
        == "no host 'dom0-z' in the repository (have dom0-a)"
    )


def test_a_configuration_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    assert "no such file" in failure("validate", "--config", str(tmp_path / "none.toml"))


# ---------------------------------------------------------------- show


def a_plan() -> Mapping[str, Any]:
    words = {"applied": {"vm01": {}}, "git": {"vm01": {"memory": "384MiB"}}}
    return plan_document(make_plan(situation(words), Policy()), timestamp="2026-01-01T00:00:00Z")


def test_a_saved_plan_is_shown_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(a_plan()))

    assert call("show", str(tmp_path / "plan.json"), *NOWHERE).output == plan_text(a_plan())
    shown = json.loads(call("show", "--json", str(tmp_path / "plan.json"), *NOWHERE).output)
    assert shown == {**a_plan(), "journal": []}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no plan"),
        ("[]", "no plan"),
        ("{}", "no plan"),
        ('{"format_version": "2.0"}', "format 2.0 \\(expected 1.x\\)"),
        ('{"format_version": 1}', "no plan"),
    ],
)
def test_a_file_that_is_no_plan_of_this_version_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "plan.json").write_text(text)

    with pytest.raises(Failed, match=why):
        load_plan(str(tmp_path / "plan.json"), Journal(tmp_path / "journal"))


def test_an_applied_plan_is_found_by_the_beginning_of_its_id_and_shown_with_how_it_went(
    tmp_path: Path,
) -> None:
    (tmp_path / "domgit.toml").write_text(f'[paths]\nstate = "{tmp_path}"\n')
    where = ("--config", str(tmp_path / "domgit.toml"))
    journal = Journal(tmp_path / "journal")
    plan_id = str(a_plan()["plan_id"]).removeprefix("sha256:")
    common = {"apply": "20260101T000000-abcdef", "time": "2026-01-01T00:00:01Z"}
    run = {"argv": ["xl", "mem-set", "1", "384"], "rc": 0, "ms": 12}
    journal.append({**common, "type": "plan", "by": "noc@dom0", "document": a_plan()})
    journal.append({**common, "type": "intent", "address": "domu.vm01", "commands": []})
    journal.append({**common, "type": "outcome", "address": "domu.vm01", "error": None, "runs": [run]})
    journal.append({**common, "type": "outcome", "address": "guard", "error": "it says no", "runs": []})
    journal.append({**common, "type": "end", "failed": ["guard"], "empty": False})
    journal.append(
        {
            **common,
            "apply": "other",
            "type": "plan",
            "by": "x",
            "document": {**a_plan(), "plan_id": "sha256:zz"},
        }
    )

    shown = call("show", plan_id[:8], *where)
    history = call("history", *where).output
    as_json = json.loads(call("history", "--json", *where).output)["applied"]

    assert shown.output == plan_text(a_plan()) + (
        "\napplied 2026-01-01T00:00:01Z by noc@dom0\n"
        "ok     domu.vm01\n"
        "        rc 0  12 ms  xl mem-set 1 384\n"
        "FAILED guard: it says no\n"
    )
    assert history.splitlines()[0].endswith("noc@dom0  2 changes  1 failed")
    assert history.splitlines()[1].endswith("unfinished")
    assert [entry["failed"] for entry in as_json] == [["guard"], None]
    assert load_plan(common["apply"], journal) == a_plan()
    assert "no such plan" in failure("show", "ffff", *where)
    assert "2 plans start so" in failure("show", "", *where)


@pytest.mark.parametrize(
    ("wanted", "changes"), [({"memory": "384MiB"}, 2), ({"disks": [{"format": "qcow2"}]}, 0)]
)
def test_what_is_blocked_or_waits_is_no_change_that_was_made(
    tmp_path: Path, wanted: Mapping[str, Any], changes: int
) -> None:
    (tmp_path / "domgit.toml").write_text(f'[paths]\nstate = "{tmp_path}"\n')
    words = {
        "applied": {"vm01": {}, "vm02": {}},
        "git": {"vm01": wanted, "vm02": {"memory": "384MiB", "mode": "report"}},
    }
    plan = make_plan(situation(words), Policy(by_hand=False))
    assert len(plan.changes) > changes
    record = {"apply": "one", "time": "2026-01-01T00:00:01Z", "type": "plan", "by": "domgit run"}
    Journal(tmp_path / "journal").append({**record, "document": plan_document(plan, timestamp="")})

    told = call("history", "--config", str(tmp_path / "domgit.toml")).output

    assert told.endswith(f"  domgit run  {changes} changes  unfinished\n")
    assert len(plan.due) == changes


@pytest.mark.parametrize(
    ("case", "line"),
    [
        (
            "host_refused_stays_at_last_good",
            "Not converged: what git says is not followed: the whole host stays as last applied (apiVersion: missing (expected domgit/v1)). 0 staged, 0 blocked.",
        ),
        ("held_back", "Converged, except what errors in git hold back. 0 staged, 0 blocked."),
        ("disk_gone", "Converged, except what is blocked or waits. 0 staged, 1 blocked."),
        ("staged_already", "Converged. 1 staged, 0 blocked."),
    ],
)
def test_the_last_line_of_a_pass_says_what_holds_it_back(
    case: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(met(CASES / case), Policy())
    left = replace(plan, changes=tuple(change for change in plan.changes if not change.due))

    told_result(Pass("id", plan, Outcome(), left))

    assert capsys.readouterr().out == f"{line}\n"


@pytest.mark.parametrize("name", VERBS)
def test_what_the_help_says_of_a_verb_is_how_the_verb_s_own_help_begins(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)

    assert command is not None
    assert command.name == name
    assert " ".join((command.help or "").split()).startswith(VERBS[name][1])


def test_help_imports_no_verb() -> None:
    program = "import sys; sys.argv = ['domgit', '--help']; from reconciler.cli import main; import atexit; atexit.register(lambda: print(sorted(name for name in sys.modules if name.startswith(('reconciler.', 'state.', 'schemas.'))))); main()"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "['reconciler.cli', 'reconciler.cli.output']"


def test_what_the_system_refuses_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = shell("schema", "--out", str(tmp_path / "file" / "inside"))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"domgit: {tmp_path / 'file' / 'inside'}: Not a directory\n"


def test_letters_that_a_terminal_does_not_know_are_printed_as_numbers() -> None:
    case = Path(__file__).parents[1] / "cases/spec/good_live_vif_name_is_a_warning"

    done = subprocess.run(
        [DOMGIT, "validate", case, *NOWHERE],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"not vif\\u2026)" in done.stdout


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("--for", "1h"),
        ("--reason", "ticket"),
        ("--end", "--for", "1h", "--reason", "ticket"),
        ("--end", "--reason", "ticket"),
    ],
)
def test_bypass_wants_a_time_and_a_reason_or_an_end(argv: tuple[str, ...]) -> None:
    assert failure("bypass", "vm01", *NOWHERE, *argv) == "expected --for DURATION and --reason TEXT, or --end"


@pytest.mark.parametrize(
    ("argv", "most"),
    [
        (("bypass", "vm01", "--reason", "ticket", "--for"), "24h"),
        (("violations", "--over"), "10m"),
    ],
)
@pytest.mark.parametrize("duration", ["25h", "0s", "1", "-1h", "1d", "1h30m", "\u0661h", "999999h", ""])
def test_a_duration_is_a_number_with_a_unit_and_has_an_end(
    argv: tuple[str, ...], most: str, duration: str
) -> None:
    done = call(*argv, duration)

    assert done.exit_code != 0
    assert f"(expected such as 30s or 10m, at most {most})" in done.output
