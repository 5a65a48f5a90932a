"""One document against the model of its kind, with problems placed in its file. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from itertools import islice
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from schemas.diagnostic import PROBLEMS_LIMIT, Diagnostic
from schemas.layout import KINDS, Place
from schemas.model import API_VERSION, Made
from schemas.shown import SHOWN_LIMIT, shown
from schemas.stand_ins import STAND_INS
from schemas.tree import NO_GUESSES, Guesses, Path, Tree, field

M = TypeVar("M", bound=BaseModel)
Locate = Callable[[Path], Tree]
# Putting something in for a wrong value may show the next one: a list that was none needs items, those need keys.
_ROUNDS = 5
# "Memory" is meant as "memory", and "ip" as "ips"; "description" is not meant as "disruption".
_ALIKE = 0.8


def check_envelope(tree: Tree, place: Place) -> tuple[Diagnostic, ...]:
    """What is wrong with the outside of a document: version, kind, and a name that is not the file's."""
    found: list[Diagnostic] = []
    value: Mapping[str, Any] = tree.value
    for key, expected, why in (
        ("apiVersion", API_VERSION, "is not known"),
        ("kind", place.kind, "cannot stand here"),
    ):
        if key not in value:
            found.append(
                tree.error("DG1102", (key,), f"{key}: missing (expected {expected})", address(place))
            )
        elif value[key] != expected:
            message = f"{key}: {shown(value[key])} {why} (expected {expected})"
            found.append(tree.error("DG1104", (key,), message, address(place)))
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if isinstance(name, str) and name != place.name:
        what = "folder" if place.kind == "Host" else "file name"
        message = f"metadata.name: {shown(name)} is not the {what} (expected {shown(place.name)})"
        found.append(tree.error("DG1502", ("metadata", "name"), message, address(place)))
    return tuple(found)


def is_foreign(tree: Tree, place: Place) -> bool:
    """Whether a document is of another version or another kind: then nothing more can be said about it here."""
    version, kind = tree.value.get("apiVersion"), tree.value.get("kind")
    return (isinstance(version, str) and version != API_VERSION) or (
        isinstance(kind, str) and kind in KINDS and kind != place.kind
    )


def address(place: Place) -> str:
    """The object's address as plans name it."""
    return f"{place.kind.lower()}.{place.name}"


def validated(
    model: type[M], value: Any, locate: Locate, about: str, below: Path = ()
) -> tuple[M | None, tuple[Diagnostic, ...], Guesses]:
    """`value` as `model`, everything that is wrong with it, and the paths where something else was put in for that.

    So that one wrong value does not hide the next: whoever goes on with the model leaves out what only follows from
    something put in. None where nothing could be made of it. `locate` gives, for the path of a value, the document that
    brought it; `below` is where `value` stands in that document.
    """
    found: list[Diagnostic] = []
    guessed = NO_GUESSES
    for _ in range(_ROUNDS):
        try:
            return model.model_validate(value), tuple(found), guessed
        except ValidationError as exc:
            problems = [
                (_path(error), error) for error in exc.errors(include_url=False, include_context=True)
            ]
        guessed |= {meant for path, error in problems if (meant := _meant(value, path, error, model))}
        known = guessed
        said = ((path, error) for path, error in problems if not known.touch(path))
        found += islice(_diagnostics(said, locate, model, about, below), PROBLEMS_LIMIT + 1 - len(found))
        if len(found) > PROBLEMS_LIMIT:
            break  # enough to read; what else there may be is not worth the time
        guessed |= [path for path, _ in problems]
        value = deepcopy(value)
        for path, error in problems:
            _mend(value, path, model, drop=error["type"] == "extra_forbidden")
    return None, tuple(found), guessed


def _meant(value: Any, path: Path, error: Any, model: type[BaseModel]) -> Path | None:
    """The path of the key that a misspelt one was to be: that it is missing follows from the spelling."""
    hint = _hint(path, model) if error["type"] == "extra_forbidden" else None
    for part in path[:-1]:
        value = value[part]
    return None if hint is None or hint in value else (*path[:-1], hint)


@cache
def _hint(path: Path, model: type[BaseModel]) -> str | None:
    key = str(path[-1])
    likely = (
        difflib.get_close_matches(key, _known_keys(model, path[:-1]), 1, _ALIKE)
        if len(key) <= SHOWN_LIMIT
        else []
    )
    return likely[0] if likely else None


def _path(error: Any) -> Path:
    # Of a map's key pydantic says "[key]" behind the key itself.
    loc: Path = error["loc"]
    is_key = len(loc) > 1 and loc[-1] == "[key]" and error["type"] != "extra_forbidden"
    return loc[:-1] if is_key else loc


def _mend(value: Any, path: Path, model: type[BaseModel], *, drop: bool) -> None:
    """Puts something acceptable at `path`, or takes away what stands there and may be missing."""
    *around, last = path
    try:
        for part in around:
            value = value[part]
    except (LookupError, TypeError):
        return  # what is around it was taken away for a problem of its own
    info = _field(model, path)
    key = last if isinstance(last, str) else f"{around[-1]}[]"
    stand_in = None if drop else _stand_in(key, info)
    if stand_in is not None and (isinstance(last, int) or last in STAND_INS or _is_required(info)):
        value[last] = stand_in
    elif isinstance(value, dict):
        value.pop(last, None)


def _is_required(info: FieldInfo | None) -> bool:
    return info is not None and info.is_required()


def _stand_in(key: str, info: FieldInfo | None) -> object:
    if key in STAND_INS:
        return STAND_INS[key]
    annotation = None if info is None else info.annotation
    if get_origin(annotation) is Literal:
        return get_args(annotation)[0]
    return {} if _model_in(annotation) is not None else None


def _diagnostics(
    problems: Iterable[tuple[Path, Any]], locate: Locate, model: type[BaseModel], about: str, below: Path
) -> Iterator[Diagnostic]:
    for path, error in problems:
        if path in {("apiVersion",), ("kind",)}:
            continue  # check_envelope said it
        code, message = _told(path, error, model)
        whole = (*below, *path)
        yield locate(whole).error(code, whole, f"{field(whole)}: {message}", about)


def _told(path: Path, error: Any, model: type[BaseModel]) -> tuple[str, str]:
    """The code and the words for one of pydantic's errors."""
    written, context = shown(error["input"]), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            hint, known = _hint(path, model), ", ".join(_known_keys(model, path[:-1]))
            return (
                "DG1101",
                f"unknown key ({f'did you mean {hint!r}?' if hint else f'expected one of {known}'})",
            )
        case "missing":
            return "DG1102", f"missing (expected {_expected(model, path)})"
        case "value_error":
            return "DG1103", str(context["error"])
        case "literal_error":
            expected = context["expected"].replace("'", "").replace("True", "true")
            return "DG1103", f"{written} is not known (expected {expected})"
        case "greater_than_equal":
            return "DG1103", f"{written} is too small (expected at least {context['ge']})"
        case "less_than_equal":
            return "DG1103", f"{written} is too large (expected at most {context['le']})"
        case "too_long":
            return "DG1103", f"{context['actual_length']} items (expected at most {context['max_length']})"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "DG1103", f"{written} stands here (expected a map)"
        case "list_type":
            return "DG1103", f"{written} stands here (expected a list)"
        case _:
            return "DG1103", f"{written}: {error['msg'][0].lower()}{error['msg'][1:]}"


@cache
def _known_keys(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the model at `path` inside `model` knows, in the order of its documentation."""
    inner = _inside(model, path)
    return [] if inner is None else [info.alias or name for name, info in inner.model_fields.items()]


def _inside(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model at `path` inside `model`; the place in a list does not matter."""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, str):
            info = None if current is None else _own_field(current, part)
            current = None if info is None else _model_in(info.annotation)
    return current


def _field(model: type[BaseModel], path: Path) -> FieldInfo | None:
    """What is known about the field at `path`; for an item of a list the field of the list."""
    named = path[:-1] if isinstance(path[-1], int) else path
    inner = _inside(model, named[:-1])
    return None if inner is None else _own_field(inner, str(named[-1]))


def _own_field(model: type[BaseModel], key: str) -> FieldInfo | None:
    return next((info for name, info in model.model_fields.items() if (info.alias or name) == key), None)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as list[Vif] or Boot | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    made = [each.model for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Made)]
    inner = (_model_in(each) for each in getattr(annotation, "__args__", ()))
    return next((each for each in (*made, *inner) if each is not None), None)


def _expected(model: type[BaseModel], path: Path) -> str:
    info = _field(model, path)
    text = None if info is None else info.description
    return "a value" if not text else text[0].lower() + text.split(". ")[0].rstrip(".")[1:]
