"""One document against the model of its kind, with problems placed in its file. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.diagnostic import Diagnostic
from schemas.layout import Place
from schemas.tree import Path, Tree, dotted

M = TypeVar("M", bound=BaseModel)
Locate = Callable[[Path], Tree]
_ENVELOPE = ("apiVersion", "kind", "metadata", "spec")


def check_envelope(tree: Tree, place: Place) -> tuple[Diagnostic, ...]:
    """What is wrong with the outside of a document: version, kind, and a name that is not the file's."""
    found: list[Diagnostic] = []
    value: Mapping[str, Any] = tree.value
    version, kind = value.get("apiVersion"), value.get("kind")
    if version != "domgit/v1":
        found.append(
            tree.error(
                "DG1104", ("apiVersion",), f"apiVersion: {_shown(version)} is not known (expected domgit/v1)"
            )
        )
    if kind != place.kind:
        found.append(
            tree.error("DG1104", ("kind",), f"kind: {_shown(kind)} cannot stand here (expected {place.kind})")
        )
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if isinstance(name, str) and name != place.name:
        what = "folder" if place.kind == "Host" else "file name"
        message = f"metadata.name: {_shown(name)} is not the {what} (expected {place.name!r})"
        found.append(tree.error("DG1502", ("metadata", "name"), message, address(place)))
    return tuple(found)


def address(place: Place) -> str:
    """The object's address as plans name it."""
    return f"{place.kind.lower()}.{place.name}"


def validated(
    model: type[M], value: Any, locate: Locate, about: str
) -> tuple[M | None, tuple[Diagnostic, ...]]:
    """`value` as `model`, and everything that is wrong with it; None where nothing can be made of it.

    `locate` gives, for the path of a value, the document that brought it. Without its unknown keys a document may be
    whole: what else is wrong with it is then found as well.
    """
    try:
        return model.model_validate(value), ()
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        found = tuple(_diagnostics(exc, locate, model, about))
        if any(error["type"] != "extra_forbidden" for error in errors):
            return None, found
        try:
            return model.model_validate(_without(value, [error["loc"] for error in errors])), found
        except (ValidationError, LookupError, TypeError):
            return None, found


def _without(value: Any, paths: Iterable[tuple[str | int, ...]]) -> Any:
    """A copy of a tree without what stands at these paths."""
    bare = deepcopy(value)
    for path in paths:
        inner = bare
        for part in path[:-1]:
            inner = inner[part]
        del inner[path[-1]]
    return bare


def _diagnostics(
    exc: ValidationError, locate: Locate, model: type[BaseModel], about: str
) -> Iterable[Diagnostic]:
    for error in exc.errors(include_url=False, include_context=True):
        path: Path = tuple(part for part in error["loc"] if not (isinstance(part, str) and part == "[key]"))
        if path in {("apiVersion",), ("kind",)}:
            continue  # check_envelope said it
        shown = dotted(path[1:] if path[:1] == ("spec",) and len(path) > 1 else path)
        match error["type"]:
            case "extra_forbidden":
                known = _known_keys(model, path[:-1])
                hint = difflib.get_close_matches(str(path[-1]), known, 1, 0.6)
                expected = f"did you mean {hint[0]!r}?" if hint else "expected one of " + ", ".join(known)
                yield locate(path).error("DG1101", path, f"{shown}: unknown key ({expected})", about)
            case "missing":
                yield locate(path).error(
                    "DG1102", path, f"{shown}: missing (expected {_expected(model, path)})", about
                )
            case "value_error":
                message = str(error["ctx"]["error"])
                yield locate(path).error("DG1103", path, f"{shown}: {message}", about)
            case _:
                message = error["msg"][0].lower() + error["msg"][1:]
                yield locate(path).error(
                    "DG1103", path, f"{shown}: {_shown(error['input'])}: {message}", about
                )


def _known_keys(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the model at `path` inside `model` knows, in the order of its documentation."""
    current: Any = model
    for part in path:
        if isinstance(part, int) or current is None:
            continue
        current = next(
            (
                _model_in(info.annotation)
                for name, info in current.model_fields.items()
                if (info.alias or name) == part
            ),
            None,
        )
    return [] if current is None else [info.alias or name for name, info in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as list[Vif] or Boot | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(
        (found for each in getattr(annotation, "__args__", ()) if (found := _model_in(each)) is not None),
        None,
    )


def _expected(model: type[BaseModel], path: Path) -> str:
    current: Any = model
    for part in path[:-1]:
        if not isinstance(part, int) and current is not None:
            current = next(
                (
                    _model_in(info.annotation)
                    for name, info in current.model_fields.items()
                    if (info.alias or name) == part
                ),
                None,
            )
    fields = {} if current is None else current.model_fields
    text = next((info.description for name, info in fields.items() if (info.alias or name) == path[-1]), None)
    return "a value" if not text else text[0].lower() + text.split(". ")[0].rstrip(".")[1:]


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    return (
        ascii(str(value[:60]))
        if isinstance(value, str)
        else "a map"
        if isinstance(value, dict)
        else "a list"
        if isinstance(value, list)
        else repr(value)
    )
