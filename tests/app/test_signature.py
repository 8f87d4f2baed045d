"""What a handler's parameters get, and what is said about those that get nothing."""

from __future__ import annotations

import dataclasses
import enum
import functools
import logging
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel

from millstream.app import Depends
from millstream.app.parameter import Gets
from millstream.app.signature import read_signature
from millstream.clock import Clock
from millstream.errors import AppError
from millstream.event import Batch, Event


class Struct(msgspec.Struct):
    celsius: float


class Model(BaseModel):
    celsius: float


@dataclasses.dataclass
class Data:
    celsius: float


class Typed(TypedDict):
    celsius: float


class Side(enum.Enum):
    LEFT = "left"
    RIGHT = "right"


class Opaque:
    pass


LEVELS = ("site", "device", "line")


def gets(function: Callable[..., Any], *, per_batch: bool = False) -> dict[str, Gets]:
    signature = read_signature(function, LEVELS, "handler f", per_batch=per_batch)
    return {parameter.name: parameter.gets for parameter in signature.parameters}


def by_annotation(event: Event, other: Event) -> None: ...
def by_name(event, site, data): ...  # type: ignore[no-untyped-def]
def levels(site: str, line: int, device: Annotated[str, "a name"]) -> None: ...
def keyword_only(*, reading: Struct, site: str) -> None: ...
def optional_level(line: int | None) -> None: ...
def defaults(event: Event, limit: int = 3, cache: dict[str, int] = {}) -> None: ...  # noqa: B006
def nothing() -> None: ...
def batch(events: list[Event]) -> None: ...
def frames(first: pl.DataFrame, second: pd.DataFrame, clock: Clock) -> None: ...
def given(clock: Clock, logger: logging.Logger, other: Annotated[Clock, "another"]) -> None: ...
def whole(batch: Batch, columns: pa.RecordBatch, table: pa.Table) -> None: ...
def same_name_as_level(device: Struct) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (by_annotation, {"event": Gets.EVENT, "other": Gets.EVENT}),
        (by_name, {"event": Gets.EVENT, "site": Gets.LEVEL, "data": Gets.PAYLOAD}),
        (levels, {"site": Gets.LEVEL, "line": Gets.LEVEL, "device": Gets.LEVEL}),
        (keyword_only, {"reading": Gets.PAYLOAD, "site": Gets.LEVEL}),
        (optional_level, {"line": Gets.LEVEL}),
        (defaults, {"event": Gets.EVENT}),
        (nothing, {}),
        (batch, {"events": Gets.EVENTS}),
        (whole, {"batch": Gets.BATCH, "columns": Gets.RECORD_BATCH, "table": Gets.TABLE}),
        (frames, {"first": Gets.POLARS, "second": Gets.PANDAS, "clock": Gets.CLOCK}),
        (given, {"clock": Gets.CLOCK, "logger": Gets.LOGGER, "other": Gets.CLOCK}),
        (same_name_as_level, {"device": Gets.PAYLOAD}),
        (functools.partial(by_annotation, other=Event(topic="x")), {"event": Gets.EVENT}),
    ],
)
def test_parameters_are_bound_by_annotation_then_by_name(function: Callable[..., Any], expected: object) -> None:
    assert gets(function) == expected


@pytest.mark.parametrize("kind", [Struct, Model, Data, Typed, dict, list[int], bytes, Struct | None, dict[str, Model]])
def test_every_kind_of_payload_is_taken(kind: Any) -> None:
    def handler(reading: Any) -> None: ...

    handler.__annotations__["reading"] = kind
    assert gets(handler) == {"reading": Gets.PAYLOAD}


def test_list_is_a_batch_of_payloads_only_where_batches_are_asked_for() -> None:
    def handler(readings: list[Struct]) -> None: ...

    assert gets(handler) == {"readings": Gets.PAYLOAD}
    assert gets(handler, per_batch=True) == {"readings": Gets.PAYLOADS}


def test_levels_are_converted() -> None:
    def handler(site: Side, line: int, device: float) -> None: ...

    parameters = {one.name: one for one in read_signature(handler, LEVELS, "handler f").parameters}
    assert [parameters[name].convert for name in LEVELS] != [None] * 3
    converted = {
        name: convert(level)
        for name, level in {"site": "left", "line": "12", "device": "1.5"}.items()
        if (convert := parameters[name].convert) is not None
    }
    assert converted == {"site": Side.LEFT, "line": 12, "device": 1.5}


async def coroutine(event: Event) -> None: ...
async def generator(event: Event) -> Any:
    yield event


class Called:
    async def __call__(self, event: Event) -> None: ...


@pytest.mark.parametrize(
    ("function", "is_async", "is_generator"),
    [
        (by_annotation, False, False),
        (coroutine, True, False),
        (generator, True, True),
        (Called(), True, False),
        (functools.partial(coroutine), True, False),
    ],
)
def test_it_is_known_how_to_call(function: Callable[..., Any], is_async: bool, is_generator: bool) -> None:
    signature = read_signature(function, LEVELS, "handler f")
    assert (signature.is_async, signature.is_generator) == (is_async, is_generator)


def misspelt(devise: str) -> None: ...
def unknown(colour: str) -> None: ...
def opaque(thing: Opaque) -> None: ...
def opaque_inside(things: dict[str, Opaque]) -> None: ...
def many(*events: Event) -> None: ...
def named(**events: Event) -> None: ...
def untyped(thing): ...  # type: ignore[no-untyped-def]
def mixed(events: list[Event], site: str) -> None: ...
def session(event: Event) -> int:
    return 1


def itself(again: Annotated[int, Depends(lambda: itself)]) -> None: ...


itself.__annotations__["again"] = Annotated[int, Depends(itself)]


def as_default(n: int = Depends(session)) -> None: ...  # type: ignore[assignment]
def with_default(n: Annotated[int, Depends(session)] = 3) -> None: ...
def called(n: Annotated[int, Depends(3)]) -> None: ...
def other_scope(n: Annotated[int, Depends(session, scope="request")]) -> None: ...
def for_worker(n: Annotated[int, Depends(session, scope="worker")]) -> None: ...
def of_worker_needs_event(n: Annotated[int, Depends(of_event_session, scope="worker")]) -> None: ...
def of_event_session(n: Annotated[int, Depends(session)]) -> None: ...
def wrong_inside(n: Annotated[int, Depends(misspelt)]) -> None: ...
def no_fields(frame: Annotated[pa.Table, int]) -> None: ...
def batch_and_event(events: list[Event], n: Annotated[int, Depends(session)]) -> None: ...
def undefined(event: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("function", "per_batch", "says"),
    [
        (misspelt, False, ["handler f", "'devise'", "did you mean 'device'?"]),
        (unknown, False, ["'colour'", "{site}, {device}, {line}", "Event"]),
        (opaque, False, ["'thing'", "Opaque", "msgspec.Struct"]),
        (opaque_inside, False, ["'things'", "Opaque"]),
        (many, False, ["'events'", "any number"]),
        (named, False, ["'events'", "any number"]),
        (untyped, False, ["'thing'", "annotate"]),
        (mixed, False, ["'site'", "'events'", "batch"]),
        (undefined, False, ["'Missing'", "import it"]),
        (itself, False, ["'again'", "itself depends on itself"]),
        (as_default, False, ["'n'", "Annotated[T, Depends(…)]"]),
        (with_default, False, ["'n'", "default"]),
        (called, False, ["'n'", "Depends(3)", "without calling it"]),
        (other_scope, False, ["'n'", "'request'", "'worker'"]),
        (for_worker, False, ["'n'", "session is made once for a worker", "'event'", "scope='worker'"]),
        (of_worker_needs_event, False, ["of_event_session is made once for a worker", "'n'"]),
        (wrong_inside, False, ["'n'", "misspelt: parameter 'devise'", "did you mean 'device'?"]),
        (no_fields, False, ["'frame'", "int has no fields"]),
        (batch_and_event, False, ["'event'", "'events'", "batch"]),
        (by_annotation, True, ["batch=…", "list[Event]"]),
    ],
)
def test_wrong_signature_is_told_with_the_mend(function: Callable[..., Any], per_batch: bool, says: list[str]) -> None:
    with pytest.raises(AppError) as raised:
        read_signature(function, LEVELS, "handler f", per_batch=per_batch)
    assert [text for text in says if text not in str(raised.value)] == []


def test_filter_without_levels_says_so() -> None:
    with pytest.raises(AppError, match="names no levels"):
        read_signature(misspelt, (), "handler f")


def test_annotations_may_name_what_is_local_to_the_declaration() -> None:
    class Local(msgspec.Struct):
        celsius: float

    def handler(reading: Local) -> None: ...

    assert read_signature(handler, (), "handler f", names=locals()).parameters[0].gets is Gets.PAYLOAD
