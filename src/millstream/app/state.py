"""What a handler keeps of each key, from one event to the next."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from pydantic import TypeAdapter

from millstream.app.payload import DECODE_ERRORS, decode_problem, is_pydantic, payload_decoder, type_name
from millstream.errors import AppError, StateError

T = TypeVar("T")


class State(Generic[T]):
    """What a handler keeps of an event's key: a parameter `state: State[T]` gets it.

    `value` is what the last event of the key left there; for a new key what `T()` gives. Change it, or put another
    in its place. It is committed together with the event's position and with what the handler publishes, so after a
    crash it is as if every event had been handled once. When the handler raises, it stays as it was before the call.
    """

    __slots__ = ("_make", "_wake_at", "key", "value")

    def __init__(self, key: str, value: T, make: Callable[[], T], wake_at: datetime | None = None) -> None:
        self.key = key
        self.value = value
        self._make = make
        self._wake_at = wake_at

    @property
    def wake_at(self) -> datetime | None:
        """When the function `wake` of `app.on` is called for the key, unless an event changes it: never before, and a
        second later or so, as soon as the key's events that came before are handled. None: it is not."""
        return self._wake_at

    @wake_at.setter
    def wake_at(self, at: datetime | None) -> None:
        """Raises `StateError` for a time without a zone."""
        if at is not None and at.utcoffset() is None:
            raise StateError(f"wake_at of the key {self.key!r} needs a time with its zone, as event.time has one: {at}")
        self._wake_at = at

    def clear(self) -> None:
        """Forget the key. Nothing is kept of it until its state changes again, and it is not woken."""
        self.value = self._make()
        self._wake_at = None

    def __repr__(self) -> str:
        return f"State({self.key!r}, {self.value!r})"


@dataclass(frozen=True, slots=True)
class StateKind:
    """How states of a type are made, and become JSON and what they were again. `blank` is the JSON of a new one."""

    kind: Any
    make: Callable[[], Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    blank: bytes

    def of(self, key: str, saved: bytes | None, wake_at: datetime | None = None) -> State[Any]:
        """A key's state. `StateError` if what was saved is of another type."""
        if saved is None:
            return State(key, self.make(), self.make, wake_at)
        try:
            return State(key, self.decode(saved), self.make, wake_at)
        except DECODE_ERRORS as error:
            raise StateError(
                f"what is kept of the key {key!r} is no {type_name(self.kind)}: {decode_problem(error)}. Give what is "
                "new in the type a default; or give the handler another group=…, which begins without any"
            ) from None

    def saved(self, state: State[Any]) -> bytes | None:
        """What to save of it; None for nothing, because it is as that of a new key. `StateError` if it is no JSON."""
        try:
            encoded = self.encode(state.value)
        except (TypeError, ValueError, RecursionError) as error:
            raise StateError(f"the state of the key {state.key!r} cannot be kept as JSON: {error}") from None
        return None if encoded == self.blank else encoded


def state_kind(kind: Any, where: str) -> StateKind:
    """The kind of `State[kind]`. Raises `AppError` for a type that cannot be made without arguments or kept as JSON."""
    name = type_name(kind)
    make = typing.get_origin(kind) or kind
    try:
        encode = TypeAdapter(kind).dump_json if is_pydantic(kind) else msgspec.json.encode
        decode = payload_decoder(kind) if kind not in (bytes, str) else msgspec.json.Decoder(kind).decode
        blank = make()
        encoded = encode(blank)
        decode(encoded)
    except (TypeError, *DECODE_ERRORS) as error:
        raise AppError(
            f"{where}: nothing can be kept as State[{name}]: {error}. A new key begins with {name}(), so every field "
            "needs a default; take a dataclass, a msgspec.Struct, a pydantic model, dict, list, int, float or str"
        ) from None
    return StateKind(kind, make, encode, decode, encoded)
