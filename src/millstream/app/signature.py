"""What a handler's parameters get, found once, when it is declared.

By name: the levels that the topic filter names. By annotation: `Event`, a payload's type; in a handler of batches
`Batch`, `list[Event]`, `pa.RecordBatch`, `pa.Table` or a list of payloads. A parameter that names no level and has a
default keeps it. One that fits nothing makes the signature wrong, and the error says how to mend it.
"""

from __future__ import annotations

import difflib
import enum
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from millstream.app.payload import Decoder, is_scalar, level_converter, payload_decoder, type_name
from millstream.errors import AppError
from millstream.event import Batch, Event

_PAYLOAD_NAMES = ("data", "payload")
_EMPTY = inspect.Parameter.empty


class Gets(enum.Enum):
    """What a parameter gets."""

    EVENT = enum.auto()
    PAYLOAD = enum.auto()
    LEVEL = enum.auto()
    BATCH = enum.auto()
    EVENTS = enum.auto()
    PAYLOADS = enum.auto()
    RECORD_BATCH = enum.auto()
    TABLE = enum.auto()


_OF_BATCHES = {Gets.BATCH, Gets.EVENTS, Gets.PAYLOADS, Gets.RECORD_BATCH, Gets.TABLE}
_BY_TYPE = {
    Event: Gets.EVENT,
    Batch: Gets.BATCH,
    list[Event]: Gets.EVENTS,
    pa.RecordBatch: Gets.RECORD_BATCH,
    pa.Table: Gets.TABLE,
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `decode` makes a payload of bytes (`PAYLOAD`, `PAYLOADS`), `convert` a value of a topic's level
    (`LEVEL`; None: the text itself); `wants` is the annotation in words."""

    name: str
    gets: Gets
    keyword_only: bool = False
    decode: Decoder | None = None
    convert: Callable[[str], Any] | None = None
    wants: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """A function and what its parameters get. `per_batch`: it is called with many events at once. `is_async`: its call
    gives an awaitable, or with `is_generator` an asynchronous iterator."""

    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    is_async: bool
    is_generator: bool
    per_batch: bool


def read_signature(
    function: Callable[..., Any],
    levels: Sequence[str],
    where: str,
    *,
    per_batch: bool = False,
    names: Mapping[str, Any] | None = None,
) -> Signature:
    """The signature of a handler whose topics name `levels`.

    `where` says in errors which handler it is; `per_batch` lets `list[T]` mean payloads of many events; `names` are
    further names that the annotations may use. Raises `AppError`.
    """
    hints = _hints(function, names or {}, where)
    found = [
        _read(parameter, hints.get(parameter.name, _EMPTY), levels, per_batch, f"{where}: parameter {parameter.name!r}")
        for parameter in _parameters(function, where)
    ]
    parameters = tuple(parameter for parameter in found if parameter is not None)
    return Signature(
        function,
        parameters,
        _asks(inspect.iscoroutinefunction, function) or _asks(inspect.isasyncgenfunction, function),
        _asks(inspect.isasyncgenfunction, function),
        _is_per_batch(parameters, per_batch, where),
    )


def _parameters(function: Callable[..., Any], where: str) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise AppError(f"{where}: {function!r} has no signature that can be read; wrap it in a function") from None


def _hints(function: Callable[..., Any], names: Mapping[str, Any], where: str) -> dict[str, Any]:
    inner = inspect.unwrap(getattr(function, "func", function))  # of a functools.partial
    if not inspect.isroutine(inner):
        inner = type(inner).__call__  # an object that can be called
    try:
        return typing.get_type_hints(inner, localns=dict(names), include_extras=True)
    except NameError as error:
        raise AppError(f"{where}: an annotation uses {error.name!r}, which is not defined there; import it") from None
    except TypeError as error:
        raise AppError(f"{where}: an annotation cannot be read: {error}") from None


def _read(
    parameter: inspect.Parameter, hint: Any, levels: Sequence[str], per_batch: bool, where: str
) -> Parameter | None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise AppError(f"{where} takes any number of arguments; name what the handler wants instead")
    name, keyword_only = parameter.name, parameter.kind is parameter.KEYWORD_ONLY
    if name in levels and (hint is _EMPTY or is_scalar(hint)):
        convert = None if hint is _EMPTY else level_converter(hint)
        return Parameter(name, Gets.LEVEL, keyword_only, convert=convert, wants=type_name(hint))
    if parameter.default is not _EMPTY:
        return None
    gets = Gets.EVENT if hint is _EMPTY and name == "event" else _by_type(hint)
    if gets is not None:
        return Parameter(name, gets, keyword_only)
    if (hint is _EMPTY or (hint is not bytes and is_scalar(hint))) and name not in _PAYLOAD_NAMES:
        raise AppError(f"{where} {_no_level(name, levels)}")
    return _payload(name, keyword_only, hint, per_batch, where)


def _by_type(hint: Any) -> Gets | None:
    try:
        return _BY_TYPE.get(hint)
    except TypeError:  # an annotation that cannot be hashed
        return None


def _payload(name: str, keyword_only: bool, hint: Any, per_batch: bool, where: str) -> Parameter:
    kind = Any if hint is _EMPTY else hint
    gets = Gets.PAYLOAD
    if per_batch and typing.get_origin(kind) is list:
        (kind,) = typing.get_args(kind)
        gets = Gets.PAYLOADS
    try:
        return Parameter(name, gets, keyword_only, decode=payload_decoder(kind), wants=type_name(kind))
    except TypeError as error:
        raise AppError(
            f"{where}: no payload can be decoded as {type_name(kind)}: {error}. Annotate a pydantic model, a "
            "msgspec.Struct, a dataclass, a TypedDict, dict, str or bytes, or take the Event"
        ) from None


def _no_level(name: str, levels: Sequence[str]) -> str:
    payload = "A payload is a parameter with its type, or one named data"
    near = difflib.get_close_matches(name, levels, 1)
    if near:
        return f"is no level of the topic; did you mean {near[0]!r}? {payload}"
    named = ", ".join(f"{{{level}}}" for level in levels)
    have = f"the topic's levels are {named}" if levels else "the filter names no levels"
    return f"is no level of the topic: {have}. Name the level {{{name}}} in the filter, or annotate it Event. {payload}"


def _is_per_batch(parameters: Sequence[Parameter], asked: bool, where: str) -> bool:
    wholes = [parameter for parameter in parameters if parameter.gets in _OF_BATCHES]
    singles = [parameter for parameter in parameters if parameter.gets not in _OF_BATCHES]
    if wholes and singles:
        raise AppError(
            f"{where}: parameter {singles[0].name!r} is of one event, and {wholes[0].name!r} of a batch; "
            "read topics, keys and payloads from the batch"
        )
    if asked and not wholes:
        raise AppError(
            f"{where} is declared with batch=…, but no parameter takes a batch; "
            "annotate one list[Event], a list of payloads, Batch, pyarrow.RecordBatch or pyarrow.Table"
        )
    return bool(wholes)


def _asks(question: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    return question(function) or question(getattr(function, "__call__", None))  # noqa: B004 (an object's own method)
