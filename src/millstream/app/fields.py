"""Which members a JSON payload of an annotated type has, and which it must have."""

from __future__ import annotations

import types
import typing
from typing import Any

import msgspec
from msgspec import inspect
from pydantic import RootModel

Fields = dict[str, bool]
"""The members by their names in JSON, and whether each is required."""


def fields_of(kind: Any) -> Fields | None:
    """The members of a pydantic model, a `msgspec.Struct`, a dataclass or a `TypedDict`; None for a type that may have
    any, or none."""
    if typing.get_origin(kind) in (typing.Annotated, typing.Union, types.UnionType):
        models = [found for one in typing.get_args(kind) if (found := fields_of(one)) is not None]
        return models[0] if len(models) == 1 else None
    if hasattr(kind, "model_fields"):
        return _of_pydantic(kind)
    try:
        info = inspect.type_info(kind)
    except (TypeError, msgspec.ValidationError):
        return None
    if getattr(info, "array_like", False):
        return None
    fields = getattr(info, "fields", None)
    return None if fields is None else {field.encode_name: field.required for field in fields}


def _of_pydantic(model: Any) -> Fields | None:
    if model.model_config.get("extra") == "allow" or issubclass(model, RootModel):
        return None
    return {
        field.validation_alias if isinstance(field.validation_alias, str) else name: field.is_required()
        for name, field in model.model_fields.items()
    }
