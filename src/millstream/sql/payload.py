"""The types of payload fields from an annotation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

_PLAIN: dict[type[inspect.Type], str] = {
    inspect.IntType: "BIGINT",
    inspect.FloatType: "DOUBLE",
    inspect.StrType: "VARCHAR",
    inspect.BoolType: "BOOLEAN",
    inspect.DateTimeType: "TIMESTAMP",
    inspect.DateType: "DATE",
    inspect.TimeType: "TIME",
    inspect.UUIDType: "UUID",
    inspect.DecimalType: "DECIMAL(18,6)",
}


def field_types(payload: Any) -> dict[str, str]:
    """DuckDB types of the fields (dotted, where inside of one another) that an annotation names.

    `payload` is a dataclass, `TypedDict`, `NamedTuple`, msgspec or pydantic model, or already a mapping of names to
    DuckDB types. What has no plain type of its own is left out: the query's use decides there.
    """
    if payload is None:
        return {}
    if isinstance(payload, Mapping):
        return dict(payload)
    if hasattr(payload, "model_fields"):
        return _pydantic(payload, "")
    try:
        return _fields(inspect.type_info(payload), "")
    except (TypeError, msgspec.ValidationError):
        return {}


def _pydantic(model: Any, prefix: str) -> dict[str, str]:
    types: dict[str, str] = {}
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.validation_alias if isinstance(field.validation_alias, str) else name}"
        if hasattr(field.annotation, "model_fields"):
            types |= _pydantic(field.annotation, f"{path}.")
        else:
            types |= _one(field.annotation, path)
    return types


def _one(annotation: Any, path: str) -> dict[str, str]:
    try:
        return _typed(inspect.type_info(annotation), path)
    except (TypeError, msgspec.ValidationError):
        return {}


def _fields(info: inspect.Type, prefix: str) -> dict[str, str]:
    types: dict[str, str] = {}
    for field in getattr(info, "fields", ()):
        types |= _typed(field.type, f"{prefix}{field.encode_name}")
    return types


def _typed(info: inspect.Type, path: str) -> dict[str, str]:
    if isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.UnionType):
        inner = [type_ for type_ in info.types if not isinstance(type_, inspect.NoneType)]
        return _typed(inner[0], path) if len(inner) == 1 else {}
    plain = _PLAIN.get(type(info))
    return {path: plain} if plain else _fields(info, f"{path}.")
