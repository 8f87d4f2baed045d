"""What a function's parameters get, as it was found when the function was declared: data, for whoever calls it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from millstream.app.depends import Scope
from millstream.app.payload import Decoder
from millstream.app.state import StateKind


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
    POLARS = enum.auto()
    PANDAS = enum.auto()
    CLOCK = enum.auto()
    LOGGER = enum.auto()
    DEVICES = enum.auto()
    DEVICE = enum.auto()  # that a level names
    STATE = enum.auto()
    KEYED = enum.auto()  # the state of an event's key
    DEPENDENCY = enum.auto()


FRAMES = {Gets.RECORD_BATCH, Gets.TABLE, Gets.POLARS, Gets.PANDAS}
OF_BATCHES = {Gets.BATCH, Gets.EVENTS, Gets.PAYLOADS, *FRAMES}
OF_EVENTS = {Gets.EVENT, Gets.PAYLOAD, Gets.LEVEL, Gets.DEVICE, Gets.KEYED}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `decode` makes a payload of the type `kind` of bytes (`PAYLOAD`, `PAYLOADS`, and frames of
    payloads, where `fields` takes it apart), `convert` a value of a topic's level (`LEVEL`; None: the text itself),
    `dependency` is the user's own (`DEPENDENCY`), `state` what a state holds (`KEYED`); `wants` is the annotation in
    words."""

    name: str
    gets: Gets
    keyword_only: bool = False
    kind: Any = None
    decode: Decoder | None = None
    fields: Callable[[Any], dict[str, Any]] | None = None
    convert: Callable[[str], Any] | None = None
    dependency: Dependency | None = None
    state: StateKind | None = None
    wants: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """A function and what its parameters get. `per_batch`: it is called with many events at once. `is_async`: its call
    gives an awaitable, or with `is_generator` an asynchronous iterator. `returns` is the annotation, None without."""

    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    is_async: bool
    is_generator: bool
    per_batch: bool
    returns: Any = None

    @property
    def dependencies(self) -> list[Dependency]:
        """All dependencies, and theirs, each once and after those that it needs itself."""
        found: dict[object, Dependency] = {}
        for parameter in self.parameters:
            if parameter.dependency is not None:
                for one in (*parameter.dependency.signature.dependencies, parameter.dependency):
                    found.setdefault((one.factory, one.scope), one)
        return list(found.values())

    @property
    def state(self) -> StateKind | None:
        """What is kept of each key, if anything is."""
        return next((parameter.state for parameter in self.parameters if parameter.gets is Gets.KEYED), None)

    def wants(self, gets: Gets) -> bool:
        """Whether a parameter gets this, the function's own or one of its dependencies'."""
        own = (parameter.gets for parameter in self.parameters)
        theirs = (parameter.gets for one in self.dependencies for parameter in one.signature.parameters)
        return gets in (*own, *theirs)


@dataclass(frozen=True, slots=True)
class Dependency:
    """A value that a function of the user's makes: `factory` as it was named (what makes it may be another function, in
    a test: that of `signature`), once for each event or once for each worker."""

    factory: Callable[..., Any]
    scope: Scope
    signature: Signature
