"""What domUs stand on: hosts, networks and profiles, checked; and one domU checked on that ground. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from schemas.claims import Claimant, claims_of, shared_storage
from schemas.diagnostic import Diagnostic
from schemas.document import address, check_envelope, validated
from schemas.domu import DomU, Spec
from schemas.host import Host
from schemas.layout import Place, place
from schemas.merged import Merged
from schemas.network import Network
from schemas.profile import Profile, completed, forbidden_paths
from schemas.rules import check_domu, check_host, check_networks
from schemas.segments import Segment, segments
from schemas.tree import Path, Tree, merge

# A problem, and how far it reaches; see Fleet.scopes.
Found = tuple[Diagnostic, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Ground:
    """What the domUs stand on: the other kinds, checked, and all that was found so far.

    `places` are the files by what their paths mean. `blamed`: the profiles that are wrong whoever inherits them.
    """

    places: Mapping[str, Place | Diagnostic | None]
    hosts: Mapping[str, Host]
    networks: tuple[Network, ...]
    profiles: Mapping[str, Tree]
    found: tuple[Found, ...]
    blamed: frozenset[str]
    by_bridge: Mapping[str, Segment]

    def check(self, where: Place, tree: Tree) -> tuple[Claimant | None, list[Diagnostic]]:
        """One domU and what is wrong with it, the other domUs aside; None where nothing can be made of it."""
        about = address(where)
        problems = list(check_envelope(tree, where))
        profile, unknown = _profile_of(tree, self.profiles, about)
        problems += unknown
        value = tree.value
        if profile is not None and isinstance(profile.value.get("spec"), dict):
            brought = {
                key: each for key, each in profile.value["spec"].items() if key not in {"profile", "state"}
            }
            value = {**value, "spec": merge(brought, value.get("spec"))}

        def locate(path: Path) -> Tree:
            return profile if profile is not None and not tree.holds(path) and profile.holds(path) else tree

        domu, diagnostics = validated(DomU, value, locate, about)
        problems += diagnostics
        claimant = None
        if domu is not None:
            name = where.host or ""
            host = self.hosts.get(name)
            merged = Merged(name, domu, tree, profile)
            problems += check_domu(merged, host, self.by_bridge, about)
            claims = claims_of(name, domu, shared_storage(host))
            sound = all(problem.severity == "warning" for problem in problems)
            claimant = Claimant(name, domu.metadata.name, claims, merged, sound=sound)
        return claimant, list(_named(problems, tree, profile, self.blamed))

    def scope(self, file: str | None) -> str:
        """How far a problem in that file reaches."""
        return _scope_of_place(self.places.get(file or ""), file or "")


@dataclass(slots=True)
class _Build:
    """What has been found so far."""

    trees: dict[Place, Tree] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)

    def add(self, diagnostics: Iterable[Diagnostic], scope: str) -> None:
        self.found += [(diagnostic, frozenset({scope})) for diagnostic in diagnostics]

    def of(self, kind: str) -> list[tuple[Place, Tree]]:
        return [(where, tree) for where, tree in sorted(self.trees.items()) if where.kind == kind]


def places_of(files: Iterable[str]) -> Mapping[str, Place | Diagnostic | None]:
    """What each path means, in order."""
    return {file: place(file) for file in sorted(set(files))}


def check_ground(
    places: Mapping[str, Place | Diagnostic | None],
    trees: Mapping[str, Tree],
    problems: Iterable[Diagnostic],
) -> Ground:
    """The hosts, networks and profiles. Of `trees` the domUs' are not looked at."""
    build = _Build()
    problems = list(problems)
    said = {problem.file for problem in problems}
    for file, where in places.items():
        if isinstance(where, Diagnostic) and file not in said:
            build.add([where], _scope_of_file(file))
        elif isinstance(where, Place) and where.kind != "DomU" and file in trees:
            build.trees[where] = trees[file]
    for problem in problems:
        build.add([problem], _scope_of_place(places.get(problem.file or ""), problem.file or ""))
    hosts = _hosts(build, places.values())
    networks = _networks(build)
    profiles = _profiles(build)
    blamed = {problem.file for problem, scopes in build.found if "fleet" in scopes and problem.file}
    return Ground(
        places, hosts, networks, profiles, tuple(build.found), frozenset(blamed), segments(networks)
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
