"""From a type that a user annotates to a function that decodes payloads into it."""

from __future__ import annotations

import datetime
import decimal
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from pydantic import BaseModel, TypeAdapter
from pydantic import ValidationError as PydanticError

from millstream.app.fields import fields_of
from millstream.errors import AppError

Decoder = Callable[[bytes], Any]
"""Decodes a payload. Raises one of `DECODE_ERRORS` where it does not fit; `decode_problem` puts that into words."""

DECODE_ERRORS = (ValueError, RecursionError)  # msgspec's, pydantic's and Unicode's errors are ValueErrors

_SCALARS = (
    msgspec.inspect.AnyType,
    msgspec.inspect.StrType,
    msgspec.inspect.IntType,
    msgspec.inspect.FloatType,
    msgspec.inspect.BoolType,
    msgspec.inspect.NoneType,
    msgspec.inspect.EnumType,
    msgspec.inspect.LiteralType,
    msgspec.inspect.UUIDType,
    msgspec.inspect.DecimalType,
    msgspec.inspect.DateType,
    msgspec.inspect.DateTimeType,
    msgspec.inspect.TimeType,
    msgspec.inspect.TimeDeltaType,
)


_ARROWS = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, bytes)


def payload_decoder(kind: Any) -> Decoder:
    """How payloads become `kind`: `bytes` as they came, `str` as UTF-8, anything else as JSON, validated by pydantic
    for its models and by msgspec otherwise (structs, dataclasses, typed dicts, builtins).

    Raises `TypeError` for a type that neither can make."""
    if kind is bytes:
        return _as_it_came
    if kind is str:
        return _text
    if is_pydantic(kind):
        return TypeAdapter(kind).validate_json
    for part in _parts(msgspec.inspect.type_info(kind), set()):
        if isinstance(part, msgspec.inspect.CustomType):
            raise TypeError(f"{type_name(part.cls)} is no pydantic model, msgspec.Struct, dataclass or TypedDict")
    return msgspec.json.Decoder(kind).decode


def is_scalar(kind: Any) -> bool:
    """Whether a value of `kind` is one word of text, as a level of a topic is."""
    try:
        info = msgspec.inspect.type_info(kind)
    except TypeError:
        return False
    parts = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    return all(isinstance(part, _SCALARS) for part in parts)


def level_converter(kind: Any) -> Callable[[str], Any] | None:
    """How a level of a topic becomes `kind` (None: it stays text). It raises one of `DECODE_ERRORS`."""
    if kind in (str, Any):
        return None
    return lambda level: msgspec.convert(level, kind, strict=False)


def fields_getter(kind: Any, where: str) -> Callable[[Any], dict[str, Any]]:
    """How a payload of this type becomes a dictionary of its fields, of Python's and Arrow's plain types.

    Raises `AppError` for a type that has no fields."""
    if fields_of(kind) is None:
        raise AppError(f"{where}: {type_name(kind)} has no fields that could be a frame's columns")
    if is_pydantic(kind):
        return TypeAdapter(kind).dump_python
    return lambda payload: msgspec.to_builtins(payload, builtin_types=_ARROWS)


def decode_problem(error: Exception) -> str:
    """What an error of a decoder says, in one line."""
    if isinstance(error, PydanticError):
        first, *others = error.errors(include_url=False, include_input=False)
        place = ".".join(str(part) for part in first["loc"])
        more = f" (and {len(others)} more)" if others else ""
        return f"{place + ': ' if place else ''}{first['msg']}{more}"
    return str(error) or type(error).__name__


def type_name(kind: Any) -> str:
    """A type as the user wrote it."""
    return kind.__name__ if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) else str(kind)


def _as_it_came(payload: bytes) -> bytes:
    return payload


def _text(payload: bytes) -> str:
    return payload.decode()


def is_pydantic(kind: Any) -> bool:
    """Whether pydantic has to make a type: its models, and whatever has some inside."""
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or hasattr(kind, "__pydantic_validator__")):
        return True
    return any(is_pydantic(argument) for argument in typing.get_args(kind))


def _parts(info: Any, seen: set[int]) -> Iterator[Any]:
    """A type as msgspec sees it, and all types inside of it."""
    if id(info) in seen:
        return
    seen.add(id(info))
    yield info
    for name in ("item_type", "key_type", "value_type"):
        if (inner := getattr(info, name, None)) is not None:
            yield from _parts(inner, seen)
    for inner in (*getattr(info, "item_types", ()), *getattr(info, "types", ())):
        yield from _parts(inner, seen)
    for field in getattr(info, "fields", ()):
        yield from _parts(field.type, seen)
