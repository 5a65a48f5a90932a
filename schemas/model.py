"""What all kinds have in common: the base model and the document's envelope. Pure."""

from __future__ import annotations

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


ApiVersion = Literal["domgit/v1"]
