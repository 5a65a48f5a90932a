"""YAML to a tree: what plain and quoted mean, where values stand, and that no document does more than be refused."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from schemas.layout import FILE_LIMIT_BYTES
from schemas.scalars import Plain
from state.yaml_reader import DEPTH_LIMIT, read_yaml

ROOT = Path(__file__).resolve().parents[2]


def codes(data: bytes) -> list[str]:
    return [each.code for each in read_yaml("x.yaml", data)[1]]


def test_plain_scalars_keep_their_text_and_quoted_ones_are_told_apart() -> None:
    tree, problems = read_yaml(
        "x.yaml", b'a: no\nb: "no"\nc: 010\nd: 52:54:00:12:34:56\ne: 2024-01-01\nf: |\n  x\n'
    )

    assert problems == ()
    assert tree is not None
    assert tree.value == {
        "a": "no",
        "b": "no",
        "c": "010",
        "d": "52:54:00:12:34:56",
        "e": "2024-01-01",
        "f": "x\n",
    }
    assert {key: isinstance(value, Plain) for key, value in tree.value.items()} == {
        "a": True, "b": False, "c": True, "d": True, "e": True, "f": False
    }  # fmt: skip


def test_every_value_knows_the_line_and_column_of_its_key_or_item() -> None:
    tree, _ = read_yaml("x.yaml", b"spec:\n  vifs:\n    - name: a\n      ips: [x, y]\n  memory: 1\n")

    assert tree is not None
    assert dict(tree.places) == {
        ("spec",): (1, 1),
        ("spec", "vifs"): (2, 3),
        ("spec", "vifs", 0): (3, 7),
        ("spec", "vifs", 0, "name"): (3, 7),
        ("spec", "vifs", 0, "ips"): (4, 7),
        ("spec", "vifs", 0, "ips", 0): (4, 13),
        ("spec", "vifs", 0, "ips", 1): (4, 16),
        ("spec", "memory"): (5, 3),
    }


def test_a_path_that_does_not_stand_there_is_placed_at_what_is_around_it() -> None:
    tree, _ = read_yaml("x.yaml", b"spec:\n  boot: {}\n")

    assert tree is not None
    assert tree.place(("spec", "boot", "run", "kernel")) == (2, 3)
    assert tree.place(("gone",)) == (1, 1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"a: 1\na: 2\n", "DG1003"),
        (b"a: {b: 1, b: 2}\n", "DG1003"),
        (b"a: 1\n'a': 2\n", "DG1003"),
        (b"a: ~\n", "DG1004"),
        (b"a:\n", "DG1004"),
        (b"a: [null]\n", "DG1004"),
        (b"~: 1\n", "DG1004"),
        (b"a: &x 1\n", "DG1002"),
        (b"a: &a [*a]\n", "DG1002"),
        (b"a: *x\n", "DG1002"),
        (b"a: !!str 1\n", "DG1002"),
        (b"a: ! 1\n", "DG1002"),
        (b"a: !!python/object/apply:os.system [id]\n", "DG1002"),
        (b"<<: {a: 1}\n", "DG1002"),
        (b"%YAML 1.1\n---\na: 1\n", "DG1002"),
        (b"a: 1\n---\nb: 1\n", "DG1007"),
        (b"", "DG1007"),
        (b"# only\n", "DG1007"),
        (b"---\n", "DG1007"),
        (b"- a\n", "DG1007"),
        (b"a\n", "DG1007"),
        (b"[a]: 1\n", "DG1001"),
        (b"{a: 1", "DG1001"),
        (b"\ta: 1\n", "DG1001"),
        (b"a: \xff\n", "DG1005"),
        (b"a: \xc3\n", "DG1005"),
        (b"a: \xed\xa0\x80\n", "DG1005"),
        (b"a: b\0c\n", "DG1005"),
        (b"\xef\xbb\xbfa: 1\n", "DG1005"),
        (b"\xff\xfea\0:\0 \x001\0", "DG1005"),
        ("a: \u202eb\n".encode(), "DG1005"),
        ("a: \u200bb\n".encode(), "DG1005"),
        ("a: \x85b\n".encode(), "DG1005"),
        (b'a: "\\u202e"\n', "DG1005"),
        (b'a: "\\0"\n', "DG1005"),
        (b'a: "\\x1b[2J"\n', "DG1005"),
    ],
)
def test_what_is_no_plain_small_document_is_refused_with_a_code(data: bytes, code: str) -> None:
    assert code in codes(data)


def test_a_null_that_is_quoted_is_a_text() -> None:
    assert codes(b'a: "null"\nb: "~"\nc: ""\n') == []


def test_a_lone_surrogate_written_as_an_escape_is_refused() -> None:
    assert codes(b'a: "\\ud800"\n') != []


def test_windows_line_ends_are_read_like_others() -> None:
    tree, problems = read_yaml("x.yaml", b"a: 1\r\nb: 2\r\n")

    assert problems == ()
    assert tree is not None
    assert tree.value == {"a": "1", "b": "2"}


def test_all_duplicates_and_nulls_are_reported_at_once() -> None:
    assert codes(b"a: 1\na: 2\nb: ~\nc: {d: 1, d: 2}\n") == ["DG1003", "DG1004", "DG1003"]


def test_a_file_may_have_just_the_limit_and_not_a_byte_more() -> None:
    filler = b"#" * (FILE_LIMIT_BYTES - 5)

    assert codes(b"a: 1\n" + filler) == []
    assert codes(b"a: 1\n" + filler + b"#") == ["DG1006"]


def test_depth_is_counted_not_recursed() -> None:
    def nested(depth: int) -> bytes:
        return b"a: " + b"[" * (depth - 1) + b"]" * (depth - 1)

    assert codes(nested(DEPTH_LIMIT)) == []
    assert codes(nested(DEPTH_LIMIT + 1)) == ["DG1006"]


BOMBS = {
    "brackets": "b'[' * 60000",
    "braces": "b'{' * 60000",
    "braces with keys": "b'{a: ' * 12000",
    "dashes": "b'- ' * 30000",
    "question marks": "b'? ' * 30000",
    "one long line": "b'a: ' + b'x' * 60000",
    "one long key": "b'x' * 60000 + b': a'",
    "quotes": "b'a: ' + b'\"' * 50001",
    "aliases": "b'a: &a [x]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\\n' * 900",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_quickly_and_the_process_lives(bomb: str) -> None:
    # Its own process: libyaml's constructing loaders die of some of these by SIGSEGV.
    program = f"from state.yaml_reader import read_yaml; print(read_yaml('x', {bomb})[1][:1] or 'fine')"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr[-500:]
    assert "Diagnostic" in done.stdout or "fine" in done.stdout
    assert time.monotonic() - started < 10  # generous: the machine may be busy; each takes well under one


@given(
    st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_no_bytes_end_in_anything_but_a_tree_or_diagnostics(data: bytes) -> None:
    tree, problems = read_yaml("x.yaml", data)

    assert (tree is None) == bool(problems)
    assert all(each.line is not None and each.line >= 1 for each in problems)


TEXTS = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)
DOCUMENTS = st.dictionaries(
    TEXTS,
    st.recursive(
        TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
        max_leaves=12,
    ),
    min_size=1,
    max_size=5,
)


@given(DOCUMENTS, st.booleans())
def test_what_another_writer_wrote_is_read_as_it_was_meant(document: dict[str, object], flow: bool) -> None:
    text = yaml.safe_dump(document, default_style='"', default_flow_style=flow)

    tree, problems = read_yaml("x.yaml", text.encode())

    assert problems == ()
    assert tree is not None
    assert tree.value == document
