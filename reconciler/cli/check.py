"""Verbs that need neither Xen nor root: init, new, validate, schema."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler import FORMAT_VERSION
from reconciler.cli.options import Target, demand, target, told
from reconciler.cli.output import Failed, say
from schemas.diagnostic import Diagnostic
from state.location import local_path
from state.run import HostRunner
from state.spec_child import check_repository


@click.command("validate")
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Default: /etc/domgit/domgit.toml"
)
@click.option("--repo", metavar="PATH|URL", help="The repository. Default: the checkout around this folder.")
@click.option(
    "--rev", metavar="REV", help="A branch, tag, commit id, or WORKTREE. Default: WORKTREE in a checkout."
)
@click.option("--json", "as_json", is_flag=True, help="Diagnostics as JSON.")
def validate_command(
    directory: Path | None, config_path: Path | None, repo: str | None, rev: str | None, as_json: bool
) -> None:
    """Check a whole repository: every kind, reference and claim, all problems at once."""
    found = target(config_path, repo, rev, None)
    if directory is not None or repo is None:
        where = directory or checkout(Path.cwd())
        if where is not None:
            found = Target(found.config, str(where), rev or "WORKTREE", None)
    demand(found, need_host=False)
    with told():
        folder = local_path(found.repository or "") or str(found.config.paths.mirror)
        verdict = check_repository(
            HostRunner(), repository=folder, revision=found.revision or found.config.branch
        )
    if as_json:
        document = {
            "format_version": FORMAT_VERSION,
            "valid": verdict.valid,
            "diagnostics": [_plain(diagnostic) for diagnostic in verdict.diagnostics],
        }
        say(json.dumps(document, indent=2))
    else:
        for diagnostic in verdict.diagnostics:
            say(str(diagnostic))
        errors = sum(diagnostic.severity == "error" for diagnostic in verdict.diagnostics)
        word = "valid" if verdict.valid else f"{errors} errors"
        say(f"{verdict.files} files, {len(verdict.hosts)} hosts: {word}.", err=not verdict.valid)
    if not verdict.valid:
        raise click.exceptions.Exit(1)


def checkout(folder: Path) -> Path | None:
    """The repository that `folder` lies in: the nearest folder above with hosts/ in it."""
    return next((each for each in (folder, *folder.parents) if (each / "hosts").is_dir()), None)


def _plain(diagnostic: Diagnostic) -> dict[str, object]:
    return {
        name: getattr(diagnostic, name)
        for name in ("severity", "code", "message", "address", "file", "line", "column")
    }


@click.command("schema")
@click.option("--out", type=click.Path(path_type=Path), help="Write one file a kind into this folder.")
def schema_command(out: Path | None) -> None:
    """Print the JSON Schema of the kinds, for editors."""
    from schemas.json_schema import all_schemas  # noqa: PLC0415  # the models: `validate` waits for none of them

    schemas = all_schemas()
    if out is None:
        say(json.dumps(schemas, indent=2))
        return
    out.mkdir(parents=True, exist_ok=True)
    for kind, text in schemas.items():
        (out / f"{kind.lower()}.json").write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--host", required=True, metavar="NAME", help="The first dom0.")
@click.option("--bridge", default="xenbr0", show_default=True)
@click.option("--uplink", default="eth0", show_default=True)
@click.option("--subnet", metavar="PREFIX", help="The first network, such as 172.16.39.0/24.")
@click.option("--gateway", metavar="ADDRESS")
def init_command(
    directory: Path, host: str, bridge: str, uplink: str, subnet: str | None, gateway: str | None
) -> None:
    """Start a repository: one host, one profile, and one network when a subnet is given."""
    from reconciler.scaffold import new_repository  # noqa: PLC0415  # only these two verbs pay for it

    with told():
        texts = new_repository(host=host, bridge=bridge, uplink=uplink, subnet=subnet, gateway=gateway)
    taken = [path for path in texts if (directory / path).exists()]
    if taken:
        raise Failed(f"{directory / taken[0]} exists already: nothing was written")
    for path, text in texts.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text, encoding="utf-8")
        say(f"wrote {directory / path}")


@click.command("new")
@click.argument("name")
@click.option("--host", required=True, metavar="NAME", help="The dom0 it runs on.")
@click.option("--profile", metavar="NAME", help="The profile to inherit. Default: the only one there is.")
@click.option(
    "--network", metavar="NAME", help="The network for its address. Default: the only one there is of IPv4."
)
@click.option(
    "--repo",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The checkout. Default: the one around this folder.",
)
def new_command(name: str, host: str, profile: str | None, network: str | None, repo: Path | None) -> None:
    """Add a domU from a profile, with the next free address and a MAC of its own."""
    from reconciler.scaffold import new_domu  # noqa: PLC0415  # only these two verbs pay for it

    root = repo or checkout(Path.cwd())
    if root is None:
        raise Failed("no repository here (expected a folder with hosts/ in it, or --repo PATH)")
    with told():
        path, text = new_domu(root, name=name, host=host, profile=profile, network=network)
    if path.exists():
        raise Failed(f"{path} exists already: nothing was written")
    path.write_text(text, encoding="utf-8")
    say(f"wrote {path}")
