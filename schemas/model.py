"""What all kinds have in common: the base model and the document's envelope. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

API_VERSION = "domgit/v1"


class Model(BaseModel):
    """Strict, closed and immutable: unknown keys and wrong types are errors; keys are written in camelCase only."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
    )


@dataclass(frozen=True, slots=True)
class Made:
    """Beside a validator of ours in an annotation: the model that it may make of a map."""

    model: type[BaseModel]


ApiVersion = Literal["domgit/v1"]
