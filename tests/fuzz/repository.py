"""What a repository, git, and the unprivileged children say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from git import Repo
from pydantic import TypeAdapter, ValidationError

from reconciler.diff_guard import specified_guard
from reconciler.guard import nftables
from reconciler.render_xl import render_xl
from schemas import address, scalars
from schemas.diagnostic import Diagnostic
from schemas.domu import DomU
from schemas.fleet import check_fleet, view
from schemas.host import Host
from schemas.layout import FILE_LIMIT_BYTES, Place, place, shown_path
from schemas.network import Network
from schemas.scalars import Plain
from schemas.tree import Tree
from state import git_objects, location, mirror
from state.checked import Memory
from state.commit import Commit, GitError
from state.desired import Desired
from state.mirror import Fetched, Remote
from state.nft import Features
from state.reading import Checked
from state.request import Request
from state.resolve import resolve
from state.run import Completed, ReadError
from state.source import Reading, read_repository
from state.yaml_reader import DEPTH_LIMIT, read_yaml
from tests.fuzz.conform import conforms
from tests.fuzz.target import Target, demand, fixed
from tests.unit.fleets import documents as documents_of
from tests.unit.fleets import domu, host, network

CASES = Path(__file__).resolve().parents[1] / "cases" / "spec"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_SEED_LIMIT_BYTES = 4000
_SHA = "0123456789abcdef0123456789abcdef01234567"
_PLACES = {
    b"Host": "hosts/dom0-a/host.yaml",
    b"Network": "networks/vps-a.yaml",
    b"Profile": "profiles/small.yaml",
}
_BASE = {
    **host(),
    **network("vps-a", "172.16.39.0/24", "172.16.39.1"),
    **domu("vm09", 'mac: "00:16:3e:00:53:09", ips: [172.16.39.109]'),
    "profiles/small.yaml": "{apiVersion: domgit/v1, kind: Profile, metadata: {name: small}, spec: {memory: 256MiB}}",
}


@cache
def documents() -> tuple[bytes, ...]:
    """Specification files, good and bad, each also as JSON, so that its values can be exchanged."""
    files = sorted({*CASES.glob("*/**/*.yaml"), *EXAMPLES.glob("**/*.yaml")})
    texts = {each.read_bytes() for each in files if each.is_file()}
    small = sorted(text for text in texts if len(text) <= _SEED_LIMIT_BYTES)
    trees = [read_yaml("hosts/dom0-a/domus/vm01.yaml", text)[0] for text in small]
    as_json = [json.dumps(tree.value).encode() for tree in trees if tree is not None]
    return (*small, *as_json)


def _yaml(data: bytes) -> object:
    file = "hosts/dom0-a/domus/vm01.yaml"
    tree, found = read_yaml(file, data)
    demand((tree is None) != (not found), "neither a document nor a problem, or both")
    _placed(found, data)
    if tree is None:
        raise _RefusedError(found[0].code)
    depth = _depth(tree.value)
    demand(depth <= DEPTH_LIMIT, "deeper than the limit")
    written = json.dumps(tree.value, ensure_ascii=False).encode()
    again, problems = read_yaml(file, written) if len(written) < FILE_LIMIT_BYTES else (tree, ())
    demand(
        again is not None and again.value == tree.value,
        f"written and read again it is not the same: {problems}",
    )
    return tree


class _RefusedError(Exception):
    """Diagnostics are how a document is refused."""


def _placed(found: Sequence[Diagnostic], data: bytes) -> None:
    conforms(tuple(found), tuple[Diagnostic, ...])
    lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xe2\x80\xa8") + data.count(b"\xc2\x85") + 2
    for each in found:
        demand(each.line is None or 1 <= each.line <= lines, "a line that the file has not")
        demand(each.column is None or each.column >= 1, "a column that no file has")
        demand("\n" not in each.message, "a message of several lines")
        demand(len(each.message) < 2000, "a message that fills a screen")


def _depth(value: object) -> int:
    waiting, deepest = [(value, 1)], 0
    while waiting:
        each, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(each, dict | list):
            waiting += [(inner, depth + 1) for inner in (each.values() if isinstance(each, dict) else each)]
        else:
            demand(isinstance(each, str), "a value that is no text")
    return deepest - 1


@cache
def _base() -> Mapping[str, Tree]:
    trees = {file: read_yaml(file, text.encode())[0] for file, text in _BASE.items()}
    return {file: tree for file, tree in trees.items() if tree is not None}


def _fleet(data: bytes) -> object:
    """A repository with one such file: what is accepted can be handed over, resolved and rendered, and stays what it is."""
    file = next((path for kind, path in _PLACES.items() if kind in data), "hosts/dom0-a/domus/vm01.yaml")
    tree, problems = read_yaml(file, data)
    trees = {**_base(), file: tree} if tree is not None else {k: v for k, v in _base().items() if k != file}
    fleet = check_fleet([*_BASE, file], trees, problems)
    _placed([each for each in fleet.diagnostics if each.file == file], data)
    demand(fleet.valid or fleet.diagnostics, "refused without a word")
    seen = view(fleet, "dom0-a")
    for each in (seen.host, *seen.networks, *(document for document, _ in documents_of(seen))):
        if each is not None:
            _same(each)
    if seen.refused or seen.host is None:
        raise _RefusedError(fleet.diagnostics[0].code)
    _resolved(seen.host, documents_of(seen))
    return fleet


def _same(document: Host | DomU | Network) -> None:
    dumped = document.model_dump(mode="json", exclude_defaults=True)
    again = type(document).model_validate(json.loads(json.dumps(dumped)))
    demand(again == document, "handed over as JSON it is another one")


def _resolved(accepted: Host, domus: Sequence[tuple[DomU, str]]) -> Desired:
    desired = resolve(accepted, domus)
    conforms(desired, Desired)
    for each in desired.domus:
        if each.boot is not None:
            render_xl(each)
    nftables.full(specified_guard(desired.host, desired.domus), Features(ibrname=True))
    return desired


_SCALARS = {
    name: TypeAdapter(kind)
    for name, kind in {**vars(scalars), **vars(address)}.items()
    if name[0].isupper() and hasattr(kind, "__metadata__") and name != "Text"  # of no field: any text at all
}
_SCALAR_TEXTS = (
    b"512MiB", b"5GiB", b"5243928576B", b"10Mb/s", b"1MB/s@20ms", b"0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11", b"vm01", b"dom0-a",
    b"vps-a6", b"xenbr0", b"eth0.10", b"/srv/xen/images/vm01.img", b"root=/dev/xvda ro", b"xvda1", b"Dropped by firewall: ",
    b"vm01-vnc", b"3f0c3f0c3f0c3f0c3f0c3f0c3f0c3f0c", b"10m", b"10%", b"15/minute", b"0 3 * * *", b"Europe/Berlin", b"38400",
    b"true", b"00:16:3e:7c:1f:6e", b"172.16.39.105", b"2001:db8:39::105", b"172.16.39.0/24", b"2001:db8:39::/64", b"127.0.0.1",
)  # fmt: skip


def _scalar(data: bytes) -> object:
    """Every scalar of the schema on the same text: what one takes has one canonical form, which it takes again."""
    text = data.decode("utf-8", "surrogateescape")
    taken = []
    for name, adapter in _SCALARS.items():
        for value in (Plain(text), text):
            try:
                read_as = adapter.validate_python(value)
            except ValidationError as refused:
                demand(
                    all(len(each["msg"]) < 1000 for each in refused.errors()),
                    f"{name}: a message that fills a screen",
                )
                continue
            written = adapter.dump_python(read_as, mode="json")
            demand(
                adapter.validate_python(written) == read_as, f"{name}: its canonical form is another value"
            )
            demand(str(written).isascii(), f"{name}: not ASCII")
            demand(not re.search(r"[\x00-\x1f\x7f]", str(written)), f"{name}: a control character")
            taken.append(name)
    if not taken:
        raise _RefusedError("no scalar")
    return taken


def _path(data: bytes) -> object:
    shown = shown_path(data)
    demand(shown.isprintable(), "a path that is more than printed")
    where = place(shown)
    if isinstance(where, Diagnostic):
        raise _RefusedError(where.code)
    if isinstance(where, Place):
        demand("/" not in where.name and where.name != "..", "a name that is a path")
    return where


class _Said:
    """A command that printed this, whatever it was asked."""

    def __init__(self, data: bytes) -> None:
        self.text = data.decode("utf-8", "backslashreplace")

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        return Completed(tuple(argv), 0, self.text, "", 1, 0.0)


@cache
def _answers() -> tuple[bytes, ...]:
    """What the reader hands over for a few repositories."""
    chosen = ("good_every_field", "good_crlf_and_comments", "duplicate_key", "claim_address_twice")
    return tuple(
        json.dumps(
            Checked(Request(str(CASES / name), "WORKTREE", who, learn=True), None, "", "").answer()
        ).encode()
        for name in chosen
        for who in ("dom0-a", None)
    )


def _answer(data: bytes) -> object:
    reading = read_repository(_Said(data), repository=str(CASES), revision="main", host="dom0-a", memory="")
    conforms(reading, Reading)
    demand(reading.memory is not None, "nothing to remember by")
    str(reading.memory).encode()
    if reading.desired is not None:
        for each in reading.desired.domus:
            if each.boot is not None:
                render_xl(each)
    for text in (reading.author, reading.committer, reading.subject, reading.committed_at):
        demand(text.isprintable(), "a commit's text that is more than printed")
    return reading


_REMEMBERING = "hosts/dom0-a/domus/vm01.yaml", "profiles/small.yaml", "networks/vps-a.yaml"


def _memory(text: str) -> Memory:
    return Memory(
        text, dict.fromkeys(_REMEMBERING, _SHA), {file: place(file) for file in _REMEMBERING}, "rules"
    )


def _remembered() -> bytes:
    record = ("small", "dom0-a", "vm01", "0d6f3f5e-5a4b-4c4e-9a53-0d6d3f0c2b11", (), (), "{}")
    return "\n".join(_memory("").lines({_REMEMBERING[0]: record})).encode()


def _recalled(data: bytes) -> object:
    """Whatever is wrong with what was remembered is forgotten: nothing is refused, and nothing comes of it but what was kept."""
    memory = _memory(data.decode("utf-8", "replace"))
    records = memory.recall(_REMEMBERING[:1])
    memory.outdated(records)
    again = memory.lines(records)
    demand(all(line.encode() in _remembered() for line in again), "remembered otherwise than it was")
    return records


def _fetched(data: bytes) -> object:
    remote = Remote("ssh://git@git.example.net/dom0.git", "main")
    found = mirror._attempt(_Said(data), [], remote)
    conforms(found, Fetched)
    demand(re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", found.revision), "a revision that is none")
    return found


_LISTING = b"".join(
    b"%s %s %s\t%s\0" % (mode, kind, _SHA.encode(), path)
    for mode, kind, path in (
        (b"040000", b"tree", b"hosts"),
        (b"040000", b"tree", b"hosts/dom0-a"),
        (b"100644", b"blob", b"hosts/dom0-a/host.yaml"),
        (b"040000", b"tree", b"hosts/dom0-a/domus"),
        (b"100644", b"blob", b"hosts/dom0-a/domus/vm01.yaml"),
        (b"120000", b"blob", b"hosts/dom0-a/domus/link.yaml"),
        (b"160000", b"commit", b"hosts/dom0-a/domus/module"),
        (b"040000", b"tree", b"networks"),
        (b"100755", b"blob", b"networks/vps-a.yaml"),
        (b"100644", b"blob", b"profiles/README.md"),
    )
)


def _listing(data: bytes) -> object:
    wanted, problems = git_objects._entries(data)
    conforms(problems, list[Diagnostic])
    paths = [path for path, _ in wanted]
    demand(len(set(paths)) == len(paths), "a path twice")
    demand(all(path.isprintable() for path in paths), "a path that is more than printed")
    demand(all(git_objects.COMMIT_ID.fullmatch(blob) for _, blob in wanted), "an object id that is none")
    return wanted


class _Git:
    """A repository whose git prints what it is told to, by the first word of what it is asked."""

    def __init__(self, **answers: bytes) -> None:
        self.git, self._answers = self, answers

    def execute(self, argv: Sequence[str], *, as_process: bool = False, **_: object) -> object:
        said = self._answers[argv[1].replace("-", "_")]
        return SimpleNamespace(stdout=BytesIO(said), wait=lambda: 0) if as_process else said


def _git(**answers: bytes) -> Repo:
    return cast(Any, _Git(**answers))  # type: ignore[no-any-return]  # as much of a Repo as is asked


_BLOBS = b"%s blob 5\nhello\n%s blob 0\n\n" % (_SHA.encode(), _SHA[::-1].encode())


def _blobs(data: bytes) -> object:
    contents = git_objects._blobs(_git(cat_file=data), {_SHA: 5, _SHA[::-1]: 0})
    conforms(contents, Mapping[str, bytes])
    demand(set(contents) == {_SHA, _SHA[::-1]}, "other objects than were asked for")
    return contents


_LOG = (
    b"%s\0%s\0Provider <noc@example.net>\0Provider <noc@example.net>\x002026-11-27T10:00:00+00:00\0a change\n"
    % (
        _SHA.encode(),
        _SHA[::-1].encode(),
    )
)


def _log(data: bytes) -> object:
    listing = git_objects._listing(
        _git(log=data, ls_tree=b"", cat_file=f"{_SHA} commit 200\n".encode()), "main"
    )
    conforms(listing.commit, Commit)
    demand(not listing.blobs, "files from nowhere")
    return listing


_URLS = (
    b"ssh://git@git.example.net:22/customers/dom0.git", b"https://git.example.net/dom0.git", b"git@git.example.net:dom0.git",
    b"/srv/git/dom0", b"file:///srv/git/dom0", b"ext::sh -c id", b"http://git.example.net/", b"https://a:b@git.example.net/x",
    b"https://[2001:db8::1]/x",
)  # fmt: skip


def _url(data: bytes) -> object:
    folder = location.local_path(data.decode("utf-8", "surrogateescape"))
    demand(folder is None or "\0" not in folder, "a path that no kernel takes")
    server = location.server(data.decode("utf-8", "surrogateescape"))
    demand((server is None) == (folder is not None), "fetched from nowhere, or read in place from a server")
    return folder


def targets() -> tuple[Target, ...]:
    """A target for each thing that comes out of a repository."""
    refused = (_RefusedError,)
    fetched = (
        b'{"revision": "%s", "changed": true}' % _SHA.encode(),
        b'{"error": "timed out", "transient": true}',
    )
    paths = tuple(path.encode() for path in _BASE)
    return (
        Target("yaml", documents, _yaml, refused, structured=True, weight=2.0),
        Target("fleet", documents, _fleet, refused, structured=True, weight=2.0),
        Target("scalars", fixed(*_SCALAR_TEXTS), _scalar, refused),
        Target("path", fixed(*paths), _path, refused),
        Target("reader-answer", _answers, _answer, (ReadError,), structured=True, weight=0.5),
        Target("reader-memory", fixed(_remembered()), _recalled, ()),
        Target("fetcher-answer", fixed(*fetched), _fetched, (ReadError,), structured=True, weight=0.5),
        Target("git-ls-tree", fixed(_LISTING), _listing, (GitError,)),
        Target("git-cat-file", fixed(_BLOBS), _blobs, (GitError,), weight=0.5),
        Target("git-log", fixed(_LOG), _log, (GitError,)),
        Target("url", fixed(*_URLS), _url, (ReadError,)),
    )
