"""What domUs stand on: hosts, networks and profiles, checked; and one domU checked on that ground. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from schemas.claims import Claimant, claims_of, inherited, known_claims
from schemas.diagnostic import Diagnostic
from schemas.document import address, check_envelope, is_foreign, validated
from schemas.domu import DomU, Spec
from schemas.findings import Findings, Found
from schemas.footing import Footing, footing
from schemas.host import Host
from schemas.host_rules import host_rules
from schemas.layout import Place, place
from schemas.merged import Merged
from schemas.network import Network
from schemas.network_rules import network_rules
from schemas.profile import Profile, completed, forbidden_paths, with_stand_ins
from schemas.rule import told
from schemas.rules import check_domu
from schemas.segments import Segments, segments
from schemas.shown import listed
from schemas.tree import NO_GUESSES, Guesses, Path, Tree, bringer, dotted, merge

# What DomUs refer to in their host.
_REFERRED_TO = {("spec", "bridges"), ("spec", "images")}
_NAMED: Path = ("spec", "profile")
# Cannot stand in a profile, which is told there.
_NOT_BROUGHT = frozenset({"profile", "state"})


@dataclass(frozen=True)
class Ground:
    """What the domUs stand on: the other kinds, checked, and all that was found so far.

    `places` are the files by what their paths mean. `unsure`: hosts of whose bridges or folders one is wrong. `unread`:
    names of profiles that have a file which cannot be read. `blamed`: the profiles that are wrong whoever inherits them.
    """

    places: Mapping[str, Place | Diagnostic | None]
    hosts: Mapping[str, Host]
    unsure: frozenset[str]
    networks: tuple[Network, ...]
    by_bridge: Segments
    profiles: Mapping[str, Tree]
    unread: frozenset[str]
    found: tuple[Found, ...]
    untold: int

    @cached_property
    def _footings(self) -> Mapping[str, Footing]:
        return {name: footing(host) for name, host in self.hosts.items()}

    @cached_property
    def blamed(self) -> frozenset[str | None]:
        """Files that are wrong for everybody: what is wrong in a profile of these is told there alone."""
        return frozenset(found.file for found, scopes in self.found if "fleet" in scopes)

    def check(self, where: Place, tree: Tree) -> tuple[Claimant | None, list[Diagnostic]]:
        """One domU and what is wrong with it, the other domUs aside; None where nothing can be made of it."""
        problems = list(check_envelope(tree, where))
        claimant = None
        if not is_foreign(tree, where):
            merged, wrong = self._merged(where, tree)
            problems += wrong
            if merged is not None:
                below = self._footings.get(merged.host)
                known = None if merged.host in self.unsure else below
                problems += check_domu(merged, known, self.by_bridge)
                common = () if below is None else below.common
                claims = known_claims(claims_of(merged.host, merged.domu, common), merged.guessed)
                sound = all(problem.severity == "warning" for problem in problems)
                claimant = Claimant(merged.host, merged.name, claims, merged, sound=sound)
        return claimant, [each for each in problems if each.file == tree.file or each.file not in self.blamed]

    def _merged(self, where: Place, tree: Tree) -> tuple[Merged | None, list[Diagnostic]]:
        """A domU over its profile. What it lacks is not missing where its profile cannot be read."""
        spec, value, lacking = tree.value.get("spec"), tree.value, NO_GUESSES
        named = spec.get("profile") if isinstance(spec, dict) else None
        profile = self.profiles.get(named) if isinstance(named, str) else None
        if profile is not None and isinstance(profile.value.get("spec"), dict):
            brought = {key: each for key, each in profile.value["spec"].items() if key not in _NOT_BROUGHT}
            value = {**value, "spec": merge(brought, spec)}
        elif isinstance(named, str):
            filled, paths = with_stand_ins(spec)
            value, lacking = (
                {**value, "spec": filled},
                Guesses([_NAMED, *(("spec", *path) for path in paths)]),
            )
        locate = partial(bringer, tree=tree, profile=profile)
        domu, found, guessed = validated(DomU, value, locate, address(where))
        problems = [inherited(each, tree.file) for each in found]
        missing = isinstance(named, str) and named not in self.profiles and named not in self.unread
        # A tombstone may outlive what it was made from.
        if missing and spec.get("state") != "absent" and not guessed.touch(_NAMED):
            message = f'profile: no profile "{named}" (have {self._have})'
            problems.append(tree.error("DG1201", _NAMED, message, address(where)))
        if domu is None:
            return None, problems
        return Merged(where.host or "", domu, tree, profile, guessed | lacking.paths), problems

    @cached_property
    def _have(self) -> str:
        return listed(sorted(self.profiles))

    def scope(self, file: str | None) -> str:
        """How far a problem in that file reaches."""
        return _scope_of_place(self.places.get(file or ""), file or "")


@dataclass(slots=True)
class _Build:
    """What has been found so far. `unread` are files without a document."""

    trees: dict[Place, Tree] = field(default_factory=dict)
    unread: list[Place] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

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
            build.findings.add([where], _scope_of_file(file))
        elif isinstance(where, Place) and where.kind != "DomU":
            if file in trees:
                build.trees[where] = trees[file]
            else:
                build.unread.append(where)
    for problem in problems:
        build.findings.add([problem], _scope_of_place(places.get(problem.file or ""), problem.file or ""))
    hosts, unsure = _hosts(build, places.values())
    networks, by_bridge = _networks(build)
    profiles, unread = _profiles(build)
    return Ground(
        places=places,
        hosts=hosts,
        unsure=unsure,
        networks=networks,
        by_bridge=by_bridge,
        profiles=profiles,
        unread=unread,
        found=tuple(build.findings.kept),
        untold=build.findings.untold,
    )


def _hosts(
    build: _Build, places: Iterable[Place | Diagnostic | None]
) -> tuple[Mapping[str, Host], frozenset[str]]:
    """The hosts by name; one with errors is refused as a whole, and its domUs are looked at all the same."""
    hosts, unsure = {}, set()
    for where, tree in build.of("Host"):
        problems = [*check_envelope(tree, where)]
        if not is_foreign(tree, where):
            host, found, guessed = validated(Host, tree.value, _always(tree), address(where))
            problems += found
            if host is not None:
                problems += told(host_rules(host), tree, address(where), guessed)
                hosts[where.name] = host
            if host is None or any(len(path) == 1 or path[:2] in _REFERRED_TO for path in guessed.paths):
                unsure.add(where.name)
        build.findings.add(problems, f"host:{where.name}")
    described = {where.name for where in places if isinstance(where, Place) and where.kind == "Host"}
    folders = {where.host for where in places if isinstance(where, Place) and where.host is not None}
    for folder in sorted(folders - described):
        message = "missing (expected a Host in every folder under hosts/)"
        missing = Diagnostic(f"hosts/{folder}/host.yaml", None, None, "DG1503", message)
        build.findings.add([missing], f"host:{folder}")
    return hosts, frozenset(unsure)


def _networks(build: _Build) -> tuple[tuple[Network, ...], Segments]:
    """The networks, also as segments: where subnet or bridge of one is wrong, addresses may lie in what is not known."""
    found: list[tuple[Network, Tree, Guesses]] = []
    unknown: set[str | None] = {None for where in build.unread if where.kind == "Network"}
    for where, tree in build.of("Network"):
        problems, network, guessed = [*check_envelope(tree, where)], None, NO_GUESSES
        if not is_foreign(tree, where):
            network, more, guessed = validated(Network, tree.value, _always(tree), address(where))
            problems += more
        build.findings.add(problems, "fleet")
        if network is None or guessed.touch(("spec", "bridge")):
            unknown.add(None)
        elif guessed.touch(("spec", "subnet")):
            unknown.add(network.spec.bridge)
        else:
            found.append((network, tree, guessed))
    networks = tuple(network for network, _, _ in found)
    for position, broken in network_rules(networks):
        network, tree, guessed = found[position]
        build.findings.add(told([broken], tree, f"network.{network.metadata.name}", guessed), "fleet")
    return networks, segments(networks, unknown)


def _profiles(build: _Build) -> tuple[Mapping[str, Tree], frozenset[str]]:
    """The profiles by name, and the names of those that cannot be read."""
    trees, unread = {}, {where.name for where in build.unread if where.kind == "Profile"}
    for where, tree in build.of("Profile"):
        problems = [*check_envelope(tree, where)]
        if is_foreign(tree, where):
            unread.add(where.name)
        else:
            trees[where.name] = tree
            problems += _profile_problems(tree, address(where))
        build.findings.add(problems, "fleet")
    return trees, frozenset(unread)


def _profile_problems(tree: Tree, about: str) -> Iterator[Diagnostic]:
    yield from validated(Profile, tree.value, _always(tree), about)[1]
    spec: Any = tree.value.get("spec")
    if isinstance(spec, dict):
        for path in forbidden_paths(spec):
            message = f"{dotted(path)}: cannot stand in a profile (expected in the domU's own file)"
            yield tree.error("DG1206", ("spec", *path), message, about)
        yield from validated(Spec, completed(spec), _always(tree), about, below=("spec",))[1]


def _always(tree: Tree) -> Callable[[Path], Tree]:
    """What brings the values of a document that inherits nothing."""
    return lambda _: tree


def _scope_of_file(file: str) -> str:
    parts = file.split("/")
    return f"host:{parts[1]}" if parts[0] == "hosts" and len(parts) > 1 else "fleet"


def _scope_of_place(where: Place | Diagnostic | None, file: str) -> str:
    if isinstance(where, Place) and where.kind == "DomU":
        return f"domu:{where.host}/{where.name}"
    return _scope_of_file(file)
