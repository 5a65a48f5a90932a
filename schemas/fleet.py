"""A whole repository: every document checked, profiles merged, references and claims compared. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from schemas.claims import Claimant, check_claims, uuid_of
from schemas.diagnostic import Diagnostic
from schemas.document import address, check_envelope, validated
from schemas.domu import DomU, Spec
from schemas.host import Host
from schemas.layout import Place, place
from schemas.network import Network
from schemas.profile import Profile, completed, forbidden_paths
from schemas.rules import check_domu, check_host, check_networks
from schemas.segments import segments
from schemas.tree import Path, Tree, merge

FILE_COUNT_LIMIT = 200_000
BYTES_LIMIT = 256 * 10**6


@dataclass(frozen=True, slots=True)
class Fleet:
    """The accepted documents, and everything that is wrong with the others.

    `scopes` says for each diagnostic, in the same order, how far it reaches: `domu:HOST/NAME` keeps that
    domU at its last-good specification, `host:HOST` that host, `fleet` every host. `domus` hold those with
    errors, too, unless nothing could be made of their documents.
    """

    hosts: Mapping[str, Host]
    networks: tuple[Network, ...]
    domus: tuple[Claimant, ...]
    diagnostics: tuple[Diagnostic, ...]
    scopes: tuple[frozenset[str], ...]

    @property
    def valid(self) -> bool:
        """Whether a commit with this content is to be accepted: warnings alone are no reason to refuse."""
        return all(diagnostic.severity == "warning" for diagnostic in self.diagnostics)


@dataclass(frozen=True, slots=True)
class HostView:
    """What one host needs of a fleet. `refused`: an error reaches the whole host, which stays at last-good."""

    host: Host | None
    networks: tuple[Network, ...]
    domus: tuple[Claimant, ...]
    held: tuple[str, ...]
    elsewhere: Mapping[str, str]
    diagnostics: tuple[Diagnostic, ...]
    refused: bool


@dataclass(slots=True)
class _Build:
    """What has been found so far."""

    trees: dict[Place, Tree] = field(default_factory=dict)
    found: list[tuple[Diagnostic, frozenset[str]]] = field(default_factory=list)

    def add(self, diagnostics: Iterable[Diagnostic], scope: str) -> None:
        self.found += [(diagnostic, frozenset({scope})) for diagnostic in diagnostics]

    def of(self, kind: str) -> list[tuple[Place, Tree]]:
        return [(where, tree) for where, tree in sorted(self.trees.items()) if where.kind == kind]


def check_fleet(files: Iterable[str], trees: Mapping[str, Tree], problems: Iterable[Diagnostic]) -> Fleet:
    """The fleet that a repository describes, and every problem in it at once.

    `files` are all paths under the known folders, `trees` the documents that could be read, `problems` what
    was wrong with the others.
    """
    build = _Build()
    problems = list(problems)
    said = {problem.file for problem in problems}
    places = {file: place(file) for file in sorted(set(files))}
    for file, where in places.items():
        if isinstance(where, Diagnostic) and file not in said:
            build.add([where], _scope_of_file(file))
        elif isinstance(where, Place) and file in trees:
            build.trees[where] = trees[file]
    for problem in problems:
        build.add([problem], _scope_of_place(places.get(problem.file or ""), problem.file or ""))
    hosts = _hosts(build, places.values())
    networks = _networks(build)
    claimants = _domus(build, hosts, networks, _profiles(build))
    build.found += check_claims(claimants, hosts)
    build.found.sort(key=lambda item: _order(item[0]))
    return Fleet(
        hosts=hosts,
        networks=networks,
        domus=tuple(claimants),
        diagnostics=tuple(diagnostic for diagnostic, _ in build.found),
        scopes=tuple(scope for _, scope in build.found),
    )


def view(fleet: Fleet, name: str) -> HostView:
    """What the host `name` is to do, with what is held back."""
    held, refused, relevant = set(), False, []
    for diagnostic, scopes in zip(fleet.diagnostics, fleet.scopes, strict=True):
        whole = not scopes.isdisjoint({"fleet", f"host:{name}"})
        single = [scope.partition("/")[2] for scope in scopes if scope.startswith(f"domu:{name}/")]
        if whole or single:
            relevant.append(diagnostic)
            if diagnostic.severity == "error":
                refused = refused or whole
                held.update(single)
    here = tuple(
        claimant
        for claimant in fleet.domus
        if claimant.host == name and claimant.sound and claimant.name not in held
    )
    return HostView(
        host=fleet.hosts.get(name),
        networks=fleet.networks,
        domus=here,
        held=tuple(sorted(held)),
        elsewhere={
            uuid_of(claimant.domu): claimant.host for claimant in fleet.domus if claimant.host != name
        },
        diagnostics=tuple(relevant),
        refused=refused or name not in fleet.hosts,
    )


def _hosts(build: _Build, places: Iterable[Place | Diagnostic | None]) -> dict[str, Host]:
    hosts = {}
    for where, tree in build.of("Host"):
        build.add(check_envelope(tree, where), f"host:{where.name}")
        host, diagnostics = validated(Host, tree.value, lambda _, tree=tree: tree, address(where))  # type: ignore[misc]  # bound now
        build.add(diagnostics, f"host:{where.name}")
        if host is not None:
            # With an unknown key it is refused as a whole; its domUs are still looked at.
            hosts[where.name] = host
            build.add(check_host(host, tree, address(where)), f"host:{where.name}")
    described = {where.name for where in places if isinstance(where, Place) and where.kind == "Host"}
    folders = {
        where.host: where.file for where in places if isinstance(where, Place) and where.host is not None
    }
    for folder in sorted(name for name in folders if name not in described and name is not None):
        missing = Diagnostic(
            f"hosts/{folder}/host.yaml",
            None,
            None,
            "DG1503",
            "missing (expected a Host in every folder under hosts/)",
        )
        build.add([missing], f"host:{folder}")
    return hosts


def _networks(build: _Build) -> tuple[Network, ...]:
    found = []
    for where, tree in build.of("Network"):
        build.add(check_envelope(tree, where), "fleet")
        network, diagnostics = validated(Network, tree.value, lambda _, tree=tree: tree, address(where))  # type: ignore[misc]  # bound now
        build.add(diagnostics, "fleet")
        if network is not None:
            found.append((network, tree))
    build.add(check_networks(found), "fleet")
    return tuple(network for network, _ in found)


def _profiles(build: _Build) -> Mapping[str, Tree]:
    profiles = {}
    for where, tree in build.of("Profile"):
        about = address(where)
        build.add(check_envelope(tree, where), "fleet")
        profile, diagnostics = validated(Profile, tree.value, lambda _, tree=tree: tree, about)  # type: ignore[misc]  # bound now
        build.add(diagnostics, "fleet")
        profiles[where.name] = tree
        if profile is None:
            continue
        spec = tree.value["spec"]
        build.add(
            [
                tree.error(
                    "DG1206",
                    ("spec", *path),
                    f"{path[-1]}: cannot stand in a profile (expected in the domU's own file)",
                    about,
                )
                for path in forbidden_paths(spec)
            ],
            "fleet",
        )
        _, diagnostics = validated(Spec, completed(spec), lambda _, tree=tree: tree, about)  # type: ignore[misc]  # bound now
        # Spec is checked alone here, so its paths lack the `spec` in front.
        build.add([_below_spec(tree, diagnostic) for diagnostic in diagnostics], "fleet")
    return profiles


def _below_spec(tree: Tree, diagnostic: Diagnostic) -> Diagnostic:
    parts = diagnostic.message.partition(":")[0]
    path: Path = (
        "spec",
        *(
            int(part) if part.isdecimal() else part
            for part in parts.replace("]", "").replace("[", ".").split(".")
        ),
    )
    return tree.error(diagnostic.code, path, diagnostic.message, diagnostic.address)


def _domus(
    build: _Build, hosts: Mapping[str, Host], networks: tuple[Network, ...], profiles: Mapping[str, Tree]
) -> list[Claimant]:
    by_bridge = segments(networks)
    broken = {
        diagnostic.file
        for diagnostic, scopes in build.found
        if "fleet" in scopes and diagnostic.file is not None
    }
    claimants = []
    for where, tree in build.of("DomU"):
        scope, about = f"domu:{where.host}/{where.name}", address(where)
        problems = list(check_envelope(tree, where))
        profile, unknown = _profile_of(tree, profiles, about)
        problems += unknown
        value = tree.value
        if profile is not None and isinstance(profile.value.get("spec"), dict):
            brought = {
                key: each for key, each in profile.value["spec"].items() if key not in {"profile", "state"}
            }
            value = {**value, "spec": merge(brought, value.get("spec"))}

        def locate(path: Path, tree: Tree = tree, profile: Tree | None = profile) -> Tree:
            return profile if profile is not None and not tree.holds(path) and profile.holds(path) else tree

        domu, diagnostics = validated(DomU, value, locate, about)
        problems += diagnostics
        if domu is not None:
            claimant = Claimant(where.host or "", domu, tree, profile)
            problems += check_domu(claimant, hosts.get(where.host or ""), by_bridge, about)
            sound = all(problem.severity == "warning" for problem in problems)
            claimants.append(claimant if sound else replace(claimant, sound=False))
        build.add(_named(problems, tree, profile, broken), scope)
    return claimants


def _named(
    problems: Iterable[Diagnostic], tree: Tree, profile: Tree | None, broken: Container[str]
) -> Iterator[Diagnostic]:
    """The problems of a domU; those that stand in its profile name the domU, unless the profile is to blame alone."""
    for problem in problems:
        if profile is None or problem.file != profile.file:
            yield problem
        elif profile.file not in broken:
            yield replace(problem, message=f"{problem.message} (inherited by {tree.file})")


def _profile_of(tree: Tree, profiles: Mapping[str, Tree], about: str) -> tuple[Tree | None, list[Diagnostic]]:
    spec = tree.value.get("spec")
    name = spec.get("profile") if isinstance(spec, dict) else None
    if not isinstance(name, str):
        return None, []
    profile = profiles.get(str(name))
    if profile is None and spec.get("state") == "absent":
        return None, []  # a tombstone may outlive what it was made from
    if profile is None:
        have = ", ".join(sorted(profiles)) or "none"
        return None, [
            tree.error("DG1201", ("spec", "profile"), f'profile: no profile "{name}" (have {have})', about)
        ]
    return profile, []


def _scope_of_file(file: str) -> str:
    parts = file.split("/")
    return f"host:{parts[1]}" if parts[0] == "hosts" and len(parts) > 1 else "fleet"


def _scope_of_place(where: Place | Diagnostic | None, file: str) -> str:
    if isinstance(where, Place) and where.kind == "DomU":
        return f"domu:{where.host}/{where.name}"
    return _scope_of_file(file)


def _order(diagnostic: Diagnostic) -> tuple[str, int, int, str, str]:
    return (
        diagnostic.file or "",
        diagnostic.line or 0,
        diagnostic.column or 0,
        diagnostic.code,
        diagnostic.message,
    )
