"""Reads what the parameters of a handler, and of what it depends on, are to get.

By name: the levels that the topic filter names. By annotation: `Event`, a payload's type, the `State` of the event's
key, the clock, a logger, what the lifespan yields, the user's own dependencies; in a handler of batches `Batch`,
`list[Event]`, frames or a list of payloads. A parameter that names no level and has a default keeps it. One that fits
nothing makes the signature wrong, and the error says how to mend it.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from millstream.app.depends import Depends, Scope
from millstream.app.devices import Device, Devices
from millstream.app.function import hints_of, is_async, is_async_generator, name_of, parameters_of
from millstream.app.parameter import FRAMES, OF_BATCHES, OF_EVENTS, Dependency, Gets, Parameter, Signature
from millstream.app.payload import fields_getter, is_scalar, level_converter, payload_decoder, type_name
from millstream.app.state import State, state_kind
from millstream.clock import Clock
from millstream.errors import AppError
from millstream.event import Batch, Event

_PAYLOAD_NAMES = ("data", "payload")
_EMPTY = inspect.Parameter.empty
_BY_TYPE = {
    Event: Gets.EVENT,
    Batch: Gets.BATCH,
    list[Event]: Gets.EVENTS,
    pa.RecordBatch: Gets.RECORD_BATCH,
    pa.Table: Gets.TABLE,
    Clock: Gets.CLOCK,
    logging.Logger: Gets.LOGGER,
    Devices: Gets.DEVICES,
}
_FRAMES = {"polars": Gets.POLARS, "pandas": Gets.PANDAS}  # known by name, for whoever has not installed them


@dataclass(frozen=True)
class Reader:
    """Reads functions for one handler. `within` are the dependencies that are being read."""

    levels: tuple[str, ...]
    per_batch: bool
    names: Mapping[str, Any]
    state: Any
    within: tuple[Callable[..., Any], ...] = field(default=())

    def read(self, function: Callable[..., Any], where: str) -> Signature:
        hints = hints_of(function, self.names, where)
        found = [
            self._parameter(one, hints.get(one.name, _EMPTY), f"{where}: parameter {one.name!r}")
            for one in parameters_of(function, where)
        ]
        return Signature(
            function,
            tuple(parameter for parameter in found if parameter is not None),
            is_async(function),
            is_async_generator(function),
            self.per_batch,
            hints.get("return"),
        )

    def _parameter(self, parameter: inspect.Parameter, hint: Any, where: str) -> Parameter | None:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise AppError(f"{where} takes any number of arguments; name what the handler wants instead")
        name, keyword_only = parameter.name, parameter.kind is parameter.KEYWORD_ONLY
        depends = _depends(hint, parameter.default, where)
        if depends is not None:
            dependency = self._dependency(depends, where)
            return Parameter(name, Gets.DEPENDENCY, keyword_only, dependency=dependency, wants=type_name(hint))
        if hint is State or typing.get_origin(hint) is State:
            return self._state(name, keyword_only, hint, where)
        if name in self.levels and (hint is _EMPTY or is_scalar(hint)):
            convert = None if hint is _EMPTY else level_converter(hint)
            return Parameter(name, Gets.LEVEL, keyword_only, hint, convert=convert, wants=type_name(hint))
        if hint is Device:
            if name not in self.levels:
                raise AppError(f"{where} is a Device, so it {_no_level(name, self.levels)}")
            return Parameter(name, Gets.DEVICE, keyword_only, wants="Device")
        if parameter.default is not _EMPTY:
            return None
        gets = Gets.EVENT if hint is _EMPTY and name == "event" else self._by_type(hint)
        if gets in FRAMES and (kind := _payload_of_frame(hint)) is not None:
            return replace(
                _payload(name, keyword_only, kind, False, where), gets=gets, fields=fields_getter(kind, where)
            )
        if gets is not None:
            return Parameter(name, gets, keyword_only)
        if (hint is _EMPTY or (hint is not bytes and is_scalar(hint))) and name not in _PAYLOAD_NAMES:
            raise AppError(f"{where} {_no_level(name, self.levels)}")
        return _payload(name, keyword_only, hint, self.per_batch, where)

    def _state(self, name: str, keyword_only: bool, hint: Any, where: str) -> Parameter:
        if hint is State:
            raise AppError(f"{where} is a State, but of what? Write State[T], where T() is what a new key begins with")
        if self.within:
            raise AppError(f"{where}: only the handler itself has its State; hand on what the function needs of it")
        (kind,) = typing.get_args(hint)
        return Parameter(name, Gets.KEYED, keyword_only, kind, state=state_kind(kind, where), wants=type_name(hint))

    def _by_type(self, hint: Any) -> Gets | None:
        if typing.get_origin(hint) is typing.Annotated:
            hint = hint.__origin__
        if hint is self.state and hint is not None:
            return Gets.STATE
        if getattr(hint, "__name__", "") == "DataFrame":
            return _FRAMES.get(hint.__module__.partition(".")[0])
        try:
            return _BY_TYPE.get(hint)
        except TypeError:  # an annotation that cannot be hashed
            return None

    def _dependency(self, depends: Depends, where: str) -> Dependency:
        factory = depends.factory
        if not callable(factory):
            raise AppError(f"{where}: Depends({factory!r}): name the function itself, without calling it")
        if factory in self.within:
            raise AppError(f"{where}: {name_of(factory)} depends on itself")
        if depends.scope not in ("event", "worker"):
            raise AppError(f"{where}: scope={depends.scope!r}; a dependency is made for each 'event' or 'worker'")
        inner = replace(self, within=(*self.within, factory))
        signature = inner.read_factory(factory, depends.scope, f"{where}: {name_of(factory)}")
        return Dependency(factory, depends.scope, signature)

    def read_factory(self, factory: Callable[..., Any], scope: Scope, where: str) -> Signature:
        if scope == "event":
            return self.read(factory, where)
        signature = replace(self, levels=(), per_batch=False).read(factory, where)
        _check_of_worker(signature, where)
        return signature


def _depends(hint: Any, default: Any, where: str) -> Depends | None:
    found = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Depends)]
    if isinstance(default, Depends):
        raise AppError(f"{where} = Depends(…): write it in the annotation, as Annotated[T, Depends(…)]")
    if not found:
        return None
    if default is not _EMPTY:
        raise AppError(f"{where} has a default, which its dependency would never leave it; remove one of them")
    return found[-1]


def _payload_of_frame(hint: Any) -> Any:
    """`T` of `Annotated[polars.DataFrame, T]`: the type of the payloads whose fields are to be the frame's columns."""
    return next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, type)), None)


def _check_of_worker(signature: Signature, where: str) -> None:
    """What is made once for a worker cannot be of one event."""
    for parameter in signature.parameters:
        of_event = parameter.dependency is not None and parameter.dependency.scope == "event"
        if of_event or parameter.gets in OF_EVENTS | OF_BATCHES:
            raise AppError(
                f"{where} is made once for a worker, but its parameter {parameter.name!r} is of one event; leave out "
                "scope='worker', or the parameter"
            )


def _payload(name: str, keyword_only: bool, hint: Any, per_batch: bool, where: str) -> Parameter:
    kind = Any if hint is _EMPTY else hint
    gets = Gets.PAYLOAD
    if per_batch and typing.get_origin(kind) is list:
        (kind,) = typing.get_args(kind)
        gets = Gets.PAYLOADS
    try:
        return Parameter(name, gets, keyword_only, kind, payload_decoder(kind), wants=type_name(kind))
    except TypeError as error:
        raise AppError(
            f"{where}: no payload can be decoded as {type_name(kind)}: {error}. Annotate a pydantic model, a "
            "msgspec.Struct, a dataclass, a TypedDict, dict, str or bytes, or take the Event; what a function of your "
            "own makes is Annotated[T, Depends(function)]"
        ) from None


def _no_level(name: str, levels: Sequence[str]) -> str:
    payload = "A payload is a parameter with its type, or one named data"
    near = difflib.get_close_matches(name, levels, 1)
    if near:
        return f"is no level of the topic; did you mean {near[0]!r}? {payload}"
    named = ", ".join(f"{{{level}}}" for level in levels)
    have = f"the topic's levels are {named}" if levels else "the filter names no levels"
    return f"is no level of the topic: {have}. Name the level {{{name}}} in the filter, or annotate it Event. {payload}"
