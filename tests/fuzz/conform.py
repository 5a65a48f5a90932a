"""Whether a value is what its annotations say, all the way down: an int is no bool, a text no list."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tests.fuzz.target import InconsistentError


def conforms(value: object, annotation: Any) -> None:
    """See that `value` is an `annotation`.

    Raises:
        InconsistentError: it is not; says which field is no what.
    """
    problem = _problem(value, annotation)
    if problem is not None:
        raise InconsistentError(problem)


def _problem(value: Any, annotation: Any) -> str | None:
    origin = get_origin(annotation)
    if annotation in {Any, object}:
        return None
    if origin is not None:
        return _of_parts(value, annotation, origin, get_args(annotation))
    if annotation is None:
        return None if value is None else _wrong(value, annotation)
    exact = annotation in {int, float, str, bool}
    if not (type(value) is annotation if exact else isinstance(value, annotation)):
        return _wrong(value, annotation)
    if dataclasses.is_dataclass(value):
        for name, kind in _hints(annotation).items():
            if (problem := _problem(getattr(value, name), kind)) is not None:
                return f"{type(value).__name__}.{name}: {problem}"
    return None


def _of_parts(value: Any, annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> str | None:
    """The problem of a value whose annotation has others inside: a union, a literal, a collection."""
    if origin in {Union, types.UnionType}:
        fits = any(_problem(value, each) is None for each in arguments)
    elif origin is Literal:
        fits = value in arguments
    else:
        fits = isinstance(value, origin)
    if not fits or origin in {Union, types.UnionType, Literal}:
        return None if fits else _wrong(value, annotation)
    if origin is tuple and arguments[1:] != (...,):
        fits = len(value) == len(arguments)
        return _first([*zip(value, arguments, strict=True)]) if fits else _wrong(value, annotation)
    if issubclass(origin, Mapping):
        return _first(
            [(key, arguments[0]) for key in value] + [(each, arguments[1]) for each in value.values()]
        )
    return _first([(each, arguments[0]) for each in value])


def _first(pairs: list[tuple[Any, Any]]) -> str | None:
    return next((problem for value, kind in pairs if (problem := _problem(value, kind)) is not None), None)


def _wrong(value: object, annotation: object) -> str:
    return f"no {getattr(annotation, '__name__', annotation)}: {value!r:.80}"


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    names = {each.name for each in dataclasses.fields(kind)}
    return {name: hint for name, hint in get_type_hints(kind).items() if name in names}
