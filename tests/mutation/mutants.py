"""Which small changes a module gets, one at a time.

A change is chosen so that it could be a mistake somebody makes and a test should notice: another comparison, a condition
that always or never holds, a statement, an element, an argument left out. What fails at once wherever it is met (a name
that is not there) says nothing about tests and is not made; neither are changes of prose.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from hashlib import sha256

COMPARED: Mapping[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
COUNTED: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitXor: ast.BitOr,
}
# One of the two alone: what was joined, taken away or cut out is forgotten.
JOINED = (ast.Add, ast.Sub, ast.BitOr, ast.BitAnd)
CALLED = {"any": "all", "all": "any", "min": "max", "max": "min", "startswith": "endswith"}
UNCALLED = {
    "casefold",
    "lower",
    "strip",
    "rstrip",
    "lstrip",
    "removeprefix",
    "removesuffix",
    "replace",
    "partition",
}
# Their arguments mean the same, or nothing at all, the other way round.
SYMMETRIC = {
    "isinstance",
    "map",
    "filter",
    "min",
    "max",
    "overlaps",
    "_contested",
    "_looks_like",
    "_shared_claim",
}
SORTERS = {"sorted": "list", "reversed": "list"}
EMPTY = {
    "str": "''",
    "bool": "False",
    "int": "0",
    "tuple": "()",
    "list": "[]",
    "dict": "{}",
    "Mapping": "{}",
    "set": "set()",
    "frozenset": "frozenset()",
    "Iterator": "iter(())",
    "Iterable": "()",
}
WORD = re.compile(r"[\w./:@-]+")  # a text that names something; one with spaces is prose, or a rule
RULE = re.compile(r"\b(accept|drop|goto \w+|jump \w+|return)\b")
SHOWN = 70
PASSED_OVER = {"annotation", "returns", "decorator_list", "ctx", "type_params", "cls", "pattern"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: `old`, which stands in that field of `parent`, becomes `new`.

    `function` is the outermost function around it, "" for what runs at import. `lines` are those of its statement.
    """

    module: str
    function: str
    lines: range
    what: str
    key: str
    parent: ast.AST
    field: str
    index: int | None
    new: ast.AST | None
    at_import: bool

    @property
    def file(self) -> str:
        """Its source, from the root of the repository."""
        return f"{self.module.replace('.', '/')}.py"

    @property
    def name(self) -> str:
        """What a reader, and the list of equivalents, know it by."""
        return f"{self.module} | {self.function} | {self.what}"

    def apply(self) -> None:
        """Change the tree it was found in."""
        items = getattr(self.parent, self.field)
        if self.index is None:
            setattr(self.parent, self.field, self.new)
        else:
            items[self.index : self.index + 1] = [] if self.new is None else [self.new]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The tree changed, and afterwards as it was."""
        before = getattr(self.parent, self.field)
        kept = [*before] if self.index is not None else []
        self.apply()
        try:
            yield
        finally:
            if self.index is None:
                setattr(self.parent, self.field, before)
            else:
                before[:] = kept


@dataclass(frozen=True, slots=True)
class Place:
    """Where the walk is."""

    parent: ast.AST
    field: str
    index: int | None
    function: ast.FunctionDef | None
    qualname: str
    lines: range
    returns: str = ""


def mutants(module: str, tree: ast.Module, known: Mapping[str, object]) -> list[Mutant]:
    """All mutants of a module. `known`: what its global names are, where it is loaded."""
    found: list[Mutant] = []
    met: Counter[str] = Counter()
    for node, place in _walk(tree, Place(tree, "body", None, None, "", range(0))):
        for new in _changes(node, place, known):
            what = _what(node, new)
            name = f"{module} | {place.qualname} | {what}"
            met[name] += 1
            if met[name] > 1:
                what = f"{what} #{met[name]}"
            text = ast.unparse(place.function) if place.function else name
            key = sha256(f"{module}|{place.qualname}|{what}|{text}".encode()).hexdigest()[:16]
            found.append(
                Mutant(
                    module,
                    place.qualname,
                    place.lines,
                    what,
                    key,
                    place.parent,
                    place.field,
                    place.index,
                    new,
                    at_import=place.function is None,
                )
            )
    return found


def _what(old: ast.AST, new: ast.AST | None) -> str:
    match old, new:
        case ast.Constant(value=str(before)), ast.Constant(value=str(after)) if "\n" in before.strip():
            lines = [each.splitlines() for each in (before, after)]
            gone, come = (
                [line for line in mine if line not in other] for mine, other in (lines, lines[::-1])
            )
            return f"{' '.join(gone)} -> {' '.join(come) or 'nothing'}"
    return f"{_shown(old)} -> {_shown(new) if new is not None else 'nothing'}"


def _shown(node: ast.AST) -> str:
    if isinstance(node, ast.ExceptHandler | ast.match_case | ast.keyword | ast.comprehension):
        return f"{type(node).__name__} {ast.unparse(node)}"[:SHOWN]
    if isinstance(node, ast.If | ast.While):
        return f"if {ast.unparse(node.test)}"[:SHOWN]
    return " ".join(ast.unparse(node).split())[:SHOWN]


def _walk(node: ast.AST, place: Place) -> Iterator[tuple[ast.AST, Place]]:
    """Every node that may be changed, with its place; what only types and readers see is passed over."""
    for field, value in ast.iter_fields(node):
        if field in PASSED_OVER or (isinstance(node, ast.ClassDef) and field != "body"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if not isinstance(child, ast.AST) or _is_silent(child, place):
                continue
            here = replace(place, parent=node, field=field, index=index)
            if isinstance(child, ast.stmt):
                here = replace(here, lines=_header(child))
            yield child, here
            yield from _walk(child, _inside(child, here))


def _inside(node: ast.AST, place: Place) -> Place:
    if isinstance(node, ast.ClassDef) and place.function is None:
        return replace(place, qualname=f"{place.qualname}{node.name}.")
    if isinstance(node, ast.FunctionDef):
        outermost = place.function is None
        return replace(
            place,
            function=node if outermost else place.function,
            qualname=f"{place.qualname}{node.name}" if outermost else place.qualname,
            returns=ast.unparse(node.returns) if node.returns else "",
        )
    if (
        isinstance(node, ast.arguments)
        and isinstance(place.parent, ast.FunctionDef)
        and place.parent is place.function
    ):
        return replace(place, function=None, qualname="")  # defaults are made at import
    return place


def _is_silent(node: ast.AST, place: Place) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Call():
            return ast.unparse(node.func) in {"assert_never", "cast", "TypeVar"}
        case ast.Assign(value=ast.Subscript()) | ast.AnnAssign(value=ast.Subscript()):
            return place.function is None  # a type by another name
        case ast.Assign(value=ast.BinOp(left=ast.Name() | ast.BinOp() | ast.Subscript(), right=ast.Name())):
            return place.function is None
        case _:
            return False


def _header(statement: ast.stmt) -> range:
    """The lines of a statement without those of the statements in it."""
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
    return range(statement.lineno, max(last, statement.lineno) + 1)


def _changes(node: ast.AST, place: Place, known: Mapping[str, object]) -> Iterator[ast.AST | None]:
    for new in _of(node, place, known):
        if new is None or ast.dump(new) != ast.dump(node):
            if new is not None:
                ast.fix_missing_locations(ast.copy_location(new, node))
            yield new


def _of(node: ast.AST, place: Place, known: Mapping[str, object]) -> Iterator[ast.AST | None]:  # noqa: C901, PLR0912  # a table of what may be changed, one kind of node a case
    match node:
        case ast.expr() if place.field == "test" and not isinstance(node, ast.Constant):
            yield ast.Constant(value=False)
            if not isinstance(place.parent, ast.While):
                yield ast.Constant(value=True)
        case ast.expr() if place.field == "ifs":
            yield None
        case ast.expr() if place.field == "iter" and isinstance(place.parent, ast.For):
            yield ast.Tuple(elts=[], ctx=ast.Load())
    match node:
        case ast.Expr() | ast.AugAssign() | ast.Delete() | ast.Raise() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute(), *_]):
            yield ast.Pass()
        case ast.Return(value=None):
            yield ast.Pass()
        case ast.Return(value=ast.expr()):
            yield from (ast.Return(value=each) for each in _nothing(place.returns))
        case ast.ExceptHandler():
            yield _with(node, body=[ast.Raise()])
        case ast.match_case():
            yield None
        case ast.Compare():
            for index, operator in enumerate(node.ops):
                for other in COMPARED[type(operator)]:
                    yield _with(node, ops=[*node.ops[:index], other(), *node.ops[index + 1 :]])
        case ast.BoolOp():
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for left_out, values in zip(node.values, _without_one(node.values), strict=True):
                # `x or ""` gives None a type, and asks nothing.
                if ast.unparse(left_out) not in {"''", "()", "None"}:
                    yield _with(node, values=values) if len(values) > 1 else values[0]
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.BinOp():
            yield from _of_two(node)
        case ast.Constant():
            yield from _of_constant(node, place)
        case ast.Call():
            yield from _of_call(node, known, place)
        case ast.List() | ast.Set() | ast.Tuple() if not isinstance(getattr(node, "ctx", None), ast.Store):
            yield from (_with(node, elts=elements) for elements in _without_one(node.elts))
        case ast.Dict():
            for index in range(len(node.keys)):
                keys, values = ([*each[:index], *each[index + 1 :]] for each in (node.keys, node.values))
                yield ast.Dict(keys=keys, values=values)
        case ast.Slice():
            yield from (_with(node, **{bound: None}) for bound in ("lower", "upper") if getattr(node, bound))


def _nothing(returns: str) -> Iterator[ast.expr]:
    """What says nothing, where a function gives this type."""
    if returns.endswith(" | None"):
        yield ast.Constant(value=None)
        return
    if returns == "bool":
        yield ast.Constant(value=True)
    empty = EMPTY.get(returns.partition("[")[0])
    if empty is not None:
        yield ast.parse(empty, mode="eval").body


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy(node)
    for field, value in fields.items():
        setattr(new, field, value)
    return new


def _without_one(items: list[ast.expr]) -> Iterator[list[ast.expr]]:
    return ([*items[:index], *items[index + 1 :]] for index in range(len(items)))


def _of_two(node: ast.BinOp) -> Iterator[ast.expr]:
    counts = any(
        isinstance(each, ast.Constant) and isinstance(each.value, int) for each in (node.left, node.right)
    )
    if counts and isinstance(node.op, ast.Add | ast.Sub):
        yield ast.BinOp(node.left, ast.Sub() if isinstance(node.op, ast.Add) else ast.Add(), node.right)
    elif isinstance(node.op, JOINED):
        yield node.left
        if not isinstance(node.op, ast.Sub):
            yield node.right
    elif type(node.op) in COUNTED:
        yield ast.BinOp(node.left, COUNTED[type(node.op)](), node.right)


def _of_constant(node: ast.Constant, place: Place) -> Iterator[ast.expr]:
    if isinstance(node.value, bool):
        yield ast.Constant(value=not node.value)
    elif isinstance(node.value, int | float):
        yield ast.Constant(value=node.value + 1)
    elif isinstance(node.value, str):
        if RULE.search(node.value):
            yield from (ast.Constant(value=text) for text in rules(node.value))
        elif WORD.fullmatch(node.value) and not isinstance(place.parent, ast.JoinedStr):
            yield ast.Constant(value=f"XX{node.value}")


def _of_call(node: ast.Call, known: Mapping[str, object], place: Place) -> Iterator[ast.expr]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
    for index in range(len(node.args) - 1):
        swapped = [*node.args]
        swapped[index : index + 2] = reversed(swapped[index : index + 2])
        if name not in SYMMETRIC and not any(isinstance(each, ast.Starred) for each in swapped):
            yield ast.Call(node.func, swapped, node.keywords)
    optional = _optional(node.func, known)
    for index, keyword in enumerate(node.keywords):
        if name == "replace" or keyword.arg in optional or (place.function is None and keyword.arg):
            yield ast.Call(node.func, node.args, [*node.keywords[:index], *node.keywords[index + 1 :]])
    if name in CALLED:
        func: ast.expr = ast.Name(CALLED[name], ast.Load())
        if isinstance(node.func, ast.Attribute):
            func = ast.Attribute(node.func.value, CALLED[name], ast.Load())
        yield ast.Call(func, node.args, node.keywords)
    if name in UNCALLED and isinstance(node.func, ast.Attribute):
        yield node.func.value
    if name in SORTERS and isinstance(node.func, ast.Name):
        yield ast.Call(ast.Name("list", ast.Load()), node.args, [])


def _optional(called: ast.expr, known: Mapping[str, object]) -> set[str]:
    """The keywords that a call may leave out."""
    match called:
        case ast.Name(name):
            target = known.get(name, getattr(builtins, name, None))
        case ast.Attribute(ast.Name(base), name):
            target = getattr(known.get(base), name, None)
        case _:
            return set()
    if any(target is each for each in (sorted, min, max)):
        return {"key", "reverse", "default"}
    try:
        parameters = inspect.signature(target).parameters.values()  # type: ignore[arg-type]  # raises for what is none
    except (TypeError, ValueError):
        return set()
    return {each.name for each in parameters if each.default is not inspect.Parameter.empty}


def rules(text: str) -> Iterator[str]:
    """Texts of rules with one mistake: a line left out, a verdict turned, a number or an element of a set changed."""
    lines = text.splitlines(keepends=True)
    for index, line in enumerate(lines):
        for other in ([""] if len(lines) > 1 and line.strip() else []) + [*_of_rule(line)]:
            yield "".join([*lines[:index], other, *lines[index + 1 :]])


def _of_rule(line: str) -> Iterator[str]:
    for found in RULE.finditer(line):
        for verdict in ("accept", "drop"):
            if found[0] != verdict and not (verdict == "drop" and "refused" in found[0]):
                yield line[: found.start()] + verdict + line[found.end() :]
    for found in re.finditer(r" !=(?= )| (?<![\w:.])(0x[0-9a-f]+|\d+)(?![\w:.])|\{ [^}]*\}", line):
        if found[0] == " !=":
            yield line[: found.start()] + " ==" + line[found.end() :]
        elif found[0].startswith("{"):
            members = found[0].strip("{} ").split(", ")
            for left_out in range(len(members) if len(members) > 1 else 0):
                rest = ", ".join(each for index, each in enumerate(members) if index != left_out)
                yield f"{line[: found.start()]}{{ {rest} }}{line[found.end() :]}"
        else:
            number = int(found[1], 0) + 1
            written = hex(number) if found[1].startswith("0x") else str(number)
            yield f"{line[: found.start()]} {written}{line[found.end() :]}"
