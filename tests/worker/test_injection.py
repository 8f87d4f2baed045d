"""What handlers are given besides the event: the clock, a logger, the lifespan's state, the user's own dependencies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel
from tests.support.plant import Plant, numbers

from millstream import App, Clock, Depends, Event, Retry
from millstream.clock import VirtualClock
from millstream.errors import AppError
from millstream.worker import Resources

ONCE = Retry(attempts=1)


class Reading(msgspec.Struct):
    n: int


class Session:
    """Something to open and to close, that knows how it ended."""

    def __init__(self, log: list[str], name: str = "session") -> None:
        self.log = log
        self.name = name
        self.thread = threading.get_ident()
        log.append(f"open {name}")

    def close(self, error: BaseException | None = None) -> None:
        self.log.append(f"close {self.name}{f' after {type(error).__name__}' if error else ''}")


@pytest.mark.parametrize("is_async", [True, False])
async def test_clock_is_the_workers(plant: Plant, is_async: bool) -> None:
    app, got = App("plant"), []

    def function(clock: Clock) -> None:
        got.append(clock)

    async def coroutine(*, clock: Clock) -> None:
        got.append(clock)

    app.on("t", group="clock")(coroutine if is_async else function)
    await plant.start(app)
    await plant.publish(("t", 1))
    await plant.caught_up("clock")
    assert got == [plant.clock]


@pytest.mark.parametrize("is_async", [True, False])
async def test_logger_has_the_handlers_name_and_tells_the_position(
    plant: Plant, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t", partitions=1)

    def function(event: Event, logger: logging.Logger) -> None:
        logger.warning("%s", event.data)

    async def coroutine(event: Event, logger: logging.Logger) -> None:
        await asyncio.sleep(0)
        logger.warning("%s", event.data)

    app.on(stream, group="plant.logs", concurrency=4)(coroutine if is_async else function)
    await plant.start(app)
    await plant.publish(("t", 1), ("t", 2))
    await plant.caught_up("plant.logs")
    records = [record for record in caplog.records if record.name == "plant.logs"]
    assert [(record.getMessage(), record.__dict__["position"]) for record in records] == [
        ("1", "t:0:0"),
        ("2", "t:0:1"),
    ]


async def test_logger_of_a_batch_tells_the_first_and_the_last_offset(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t", partitions=1)

    @app.on(stream, group="plant.batch", batch=True)
    def handle(events: list[Event], logger: logging.Logger) -> None:
        logger.warning("got %d", len(events))

    await plant.start(app)
    await plant.publish(("t", 1), ("t", 2), ("t", 3))
    await plant.caught_up("plant.batch")
    (record,) = [record for record in caplog.records if record.name == "plant.batch"]
    assert record.__dict__["position"] == "t:0:0-2"


@dataclass
class State:
    name: str


@pytest.mark.parametrize("decorated", [True, False])
async def test_lifespan_surrounds_the_worker_and_its_state_is_injected_by_its_type(
    plant: Plant, decorated: bool
) -> None:
    log: list[str] = []

    async def lifespan(app: App) -> AsyncIterator[State]:
        log.append(f"open {app.name}")
        yield State("of the plant")
        log.append("close")

    app = App("plant", lifespan=contextlib.asynccontextmanager(lifespan) if decorated else lifespan)  # type: ignore[arg-type]

    @app.on("t", group="state")
    def handle(state: State, data: int) -> None:
        log.append(f"{data} {state.name}")

    worker = await plant.start(app)
    assert log == ["open plant"]
    await plant.publish(("t", 1))
    await plant.caught_up("state")
    await plant.stop(worker)
    assert log == ["open plant", "1 of the plant", "close"]


async def test_resources_that_are_given_stay_open_over_workers(plant: Plant) -> None:
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        log.append("open")
        yield
        log.append("close")

    from millstream.settings import Settings
    from millstream.worker import Worker

    app = App("plant", lifespan=lifespan)
    async with Resources(app, plant.clock) as resources:
        for _ in range(2):
            async with Worker(app, plant.log, plant.topics, plant.clock, Settings(), resources=resources):
                assert log == ["open"]
    assert log == ["open", "close"]


@pytest.mark.parametrize("where", ["start", "end", "dependency"])
async def test_failing_lifespan_is_told_at_the_users_line(where: str) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        if where == "start":
            raise ValueError("no database")
        yield
        if where == "end":
            raise ValueError("no database")

    def connect() -> Session:
        if where == "dependency":
            raise ValueError("no database")
        return Session([])

    app = App("plant", lifespan=lifespan)

    @app.on("t")
    def handle(session: Annotated[Session, Depends(connect, scope="worker")]) -> None: ...

    with pytest.raises(AppError, match=r"test_injection\.py:\d+: .*failed at .*ValueError: no database"):
        async with Resources(app, VirtualClock()):
            pass


def dependency(kind: str, log: list[str]) -> Any:
    """A factory of this kind, which logs."""

    def function(device: str) -> Session:
        return Session(log, device)

    async def coroutine(device: str) -> Session:
        await asyncio.sleep(0)
        return Session(log, device)

    def generator(device: str) -> Iterator[Session]:
        session = Session(log, device)
        try:
            yield session
        except BaseException as error:
            session.close(error)
            raise
        session.close()

    async def async_generator(device: str) -> AsyncIterator[Session]:
        session = Session(log, device)
        try:
            yield session
        except BaseException as error:
            session.close(error)
            raise
        session.close()

    return locals()[kind]


KINDS = ["function", "coroutine", "generator", "async_generator"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_async", [True, False])
async def test_dependency_is_made_for_each_event_and_cleaned_up(plant: Plant, kind: str, is_async: bool) -> None:
    app, log, loop_thread = App("plant"), list[str](), threading.get_ident()
    make = dependency(kind, log)
    threads = []

    def function(session: Annotated[Session, Depends(make)], device: str) -> None:
        log.append(f"use {session.name} of {device}")
        threads.append(session.thread)

    async def coroutine(session: Annotated[Session, Depends(make)], device: str) -> None:
        function(session, device)

    app.on("t/{device}", group="made", concurrency=1)(coroutine if is_async else function)
    await plant.start(app)
    await plant.publish(("t/a", 1))
    await plant.caught_up("made")
    assert log == ["open a", "use a of a", *(["close a"] if "generator" in kind else [])]
    assert (threads == [loop_thread]) == (kind in ("coroutine", "async_generator"))
    assert await plant.counts("made") == {"processed": 1}


@pytest.mark.parametrize("kind", ["generator", "async_generator"])
@pytest.mark.parametrize("is_async", [True, False])
async def test_generator_is_told_of_the_handlers_error(plant: Plant, kind: str, is_async: bool) -> None:
    app, log = App("plant"), list[str]()
    make = dependency(kind, log)

    def function(session: Annotated[Session, Depends(make)]) -> None:
        raise ValueError("boom")

    async def coroutine(session: Annotated[Session, Depends(make)]) -> None:
        raise ValueError("boom")

    app.on("t/{device}", group="fails", retry=ONCE)(coroutine if is_async else function)
    await plant.start(app)
    await plant.publish(("t/a", 1))
    await plant.caught_up("fails")
    assert log == ["open a", "close a after ValueError"]
    assert await plant.counts("fails") == {"dead-lettered": 1}


@pytest.mark.parametrize("is_async", [True, False])
async def test_generator_cannot_swallow_the_handlers_error(plant: Plant, is_async: bool) -> None:
    app = App("plant")

    def forgiving() -> Iterator[int]:
        with contextlib.suppress(ValueError):
            yield 1

    def function(n: Annotated[int, Depends(forgiving)]) -> None:
        raise ValueError("boom")

    async def coroutine(n: Annotated[int, Depends(forgiving)]) -> None:
        raise ValueError("boom")

    app.on("t", group="forgiven", retry=ONCE)(coroutine if is_async else function)
    await plant.start(app)
    await plant.publish(("t", 1))
    await plant.caught_up("forgiven")
    assert (await plant.dead_letters())[0].headers["dead-letter-error"] == "boom"


@pytest.mark.parametrize("is_async", [True, False])
async def test_failing_clean_up_is_the_handlers_failure_and_publishes_nothing(plant: Plant, is_async: bool) -> None:
    app = App("plant")

    def careless() -> Iterator[int]:
        yield 1
        raise OSError("cannot commit")

    def function(n: Annotated[int, Depends(careless)]) -> None:
        app.publish("never", n)

    async def coroutine(n: Annotated[int, Depends(careless)]) -> None:
        app.publish("never", n)

    app.on("t", group="careless", retry=ONCE)(coroutine if is_async else function)
    await plant.start(app)
    await plant.publish(("t", 1))
    await plant.caught_up("careless")
    assert (await plant.dead_letters())[0].headers["dead-letter-error"] == "cannot commit"
    assert [event.topic for event in await plant.read("events")] == ["t"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_dependencies_of_dependencies_are_made_once_an_event_and_may_publish(
    plant: Plant, is_async: bool
) -> None:
    app, log = App("plant"), list[str]()

    def base(reading: Reading) -> Iterator[int]:
        log.append(f"base {reading.n}")
        yield reading.n
        app.publish("after", {"n": reading.n})

    async def tenfold(n: Annotated[int, Depends(base)]) -> int:
        app.publish("before", {"n": n})
        return n * 10

    async def sum_of(n: Annotated[int, Depends(base)], tens: Annotated[int, Depends(tenfold)]) -> int:
        return n + tens

    def function(total: Annotated[int, Depends(sum_of)], n: Annotated[int, Depends(base)]) -> Event:
        return Event(topic="total", payload=f'{{"n": {total}}}'.encode())

    async def coroutine(total: Annotated[int, Depends(sum_of)], n: Annotated[int, Depends(base)]) -> Event:
        return function(total, n)

    app.on("t", group="nested")(coroutine if is_async else function)
    await plant.start(app)
    await plant.publish(("t", {"n": 1}), ("t", {"n": 2}))
    await plant.caught_up("nested")
    assert log == ["base 1", "base 2"]
    events = await plant.read("events")
    by_topic = {topic: numbers([one for one in events if one.topic == topic]) for topic in ("before", "after", "total")}
    assert by_topic == {"before": [1, 2], "after": [1, 2], "total": [11, 22]}


async def test_payload_that_a_dependency_cannot_decode_is_a_dead_letter_at_once(plant: Plant) -> None:
    app = App("plant")

    def number(reading: Reading) -> int:
        return reading.n

    @app.on("t", group="bad")
    def handle(n: Annotated[int, Depends(number)]) -> None: ...

    await plant.start(app)
    await plant.publish(("t", {"n": "many"}))
    await plant.caught_up("bad")
    assert (await plant.dead_letters())[0].headers["dead-letter-attempts"] == "1"


@pytest.mark.parametrize("kind", KINDS)
async def test_dependency_of_a_worker_is_made_once_and_cleaned_up_at_the_end(plant: Plant, kind: str) -> None:
    app, log = App("plant"), list[str]()
    of_event = dependency(kind, log)

    def name(clock: Clock) -> str:
        return f"of {type(clock).__name__}"

    def renamed(device: Annotated[str, Depends(name, scope="worker")]) -> Any: ...

    of_event.__annotations__["device"] = renamed.__annotations__["device"]

    @app.on("t", group="one")
    def one(session: Annotated[Session, Depends(of_event, scope="worker")]) -> None:
        log.append("one")

    @app.subscribe("t")
    async def two(session: Annotated[Session, Depends(of_event, scope="worker")]) -> None: ...

    worker = await plant.start(app)
    assert log == ["open of RestingClock"]
    await plant.publish(("t", 1), ("t", 2))
    await plant.caught_up("one")
    await plant.stop(worker)
    assert log == ["open of RestingClock", "one", "one", *(["close of RestingClock"] if "generator" in kind else [])]


class Plain:
    def __init__(self, event: Event, clock: Clock) -> None:
        self.told = f"{event.data} at {clock.now()}"


@dataclass
class Fields:
    reading: Reading
    device: str


class Called:
    def __call__(self, device: str) -> str:
        return f"called for {device}"


async def test_classes_and_objects_that_can_be_called_are_factories(plant: Plant) -> None:
    app, got = App("plant"), list[Any]()

    @app.on("t/{device}", group="classes")
    def handle(
        plain: Annotated[Plain, Depends(Plain)],
        fields: Annotated[Fields, Depends(Fields)],
        called: Annotated[str, Depends(Called())],
    ) -> None:
        got.extend((plain.told, fields, called))

    now = plant.clock.now()
    await plant.start(app)
    await plant.publish(("t/a", {"n": 1}))
    await plant.caught_up("classes")
    assert got[0].startswith("{'n': 1} at ")
    assert int(got[0].rpartition(" ")[2]) >= now
    assert got[1:] == [Fields(Reading(1), "a"), "called for a"]


async def test_one_factory_may_serve_an_event_and_the_worker(plant: Plant) -> None:
    app, got, made = App("plant"), [], iter(range(100))

    def number() -> int:
        return next(made)

    @app.on("t", group="both")
    def handle(kept: Annotated[int, Depends(number, scope="worker")], new: Annotated[int, Depends(number)]) -> None:
        got.append((kept, new))

    await plant.start(app)
    await plant.publish(("t", 1), ("t", 2))
    await plant.caught_up("both")
    assert got == [(0, 1), (0, 2)]


@pytest.mark.parametrize("scope", ["event", "worker"])
async def test_dependency_is_overridden_for_a_test(plant: Plant, scope: Any) -> None:
    app, got = App("plant"), []

    def connect() -> str:
        raise AssertionError("a test has no database")

    def session(connection: Annotated[str, Depends(connect, scope=scope)]) -> str:
        return f"session of {connection}"

    async def fake() -> AsyncIterator[str]:
        yield "a fake"

    @app.on("t", group="overridden")
    def handle(opened: Annotated[str, Depends(session, scope=scope)]) -> None:
        got.append(opened)

    app.dependency_overrides[connect] = fake
    await plant.start(app)
    await plant.publish(("t", 1))
    await plant.caught_up("overridden")
    assert got == ["session of a fake"]
    del app.dependency_overrides[connect]
    (handlers, _) = app.processors()
    assert handlers[0].signature == app.handlers[0].signature


@pytest.mark.parametrize("is_async", [True, False])
async def test_batch_handler_depends_on_what_is_made_for_its_call(plant: Plant, is_async: bool) -> None:
    app, log = App("plant", catch_all=False), list[str]()
    stream = app.stream("t", "t", partitions=1)

    def count(events: list[Event]) -> Iterator[int]:
        yield len(events)
        log.append("done")

    def function(events: list[Reading], n: Annotated[int, Depends(count)]) -> None:
        log.append(f"{n} of {len(events)}")

    async def coroutine(events: list[Reading], n: Annotated[int, Depends(count)]) -> None:
        function(events, n)

    app.on(stream, group="batch", batch=True)(coroutine if is_async else function)
    await plant.start(app)
    await plant.publish(("t", {"n": 1}), ("t", {"n": 2}))
    await plant.caught_up("batch")
    assert log == ["2 of 2", "done"]


@pytest.mark.parametrize("kind", [pl.DataFrame, pd.DataFrame, pa.Table])
async def test_batch_comes_as_the_frame_that_is_annotated(plant: Plant, kind: type) -> None:
    app, got = App("plant", catch_all=False), list[Any]()
    stream = app.stream("t", "t/{n}", partitions=1)

    def handle(frame: Any) -> None:
        got.append(frame)

    handle.__annotations__["frame"] = kind
    app.on(stream, group="frames", batch=True)(handle)
    await plant.start(app)
    await plant.publish(("t/a", {"n": 1}), ("t/b", {"n": 2}))
    await plant.caught_up("frames")
    (frame,) = got
    assert isinstance(frame, kind)
    table = as_table(frame)
    assert table.column("topic").to_pylist() == ["t/a", "t/b"]
    assert table.column("offset").to_pylist() == [0, 1]
    assert [msgspec.json.decode(data)["n"] for data in table.column("data").to_pylist()] == [1, 2]


def as_table(frame: Any) -> Any:
    """Any kind of frame as Arrow's."""
    if isinstance(frame, pl.DataFrame):
        return frame.to_arrow()
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    return pa.Table.from_pandas(frame) if isinstance(frame, pd.DataFrame) else frame


class Model(BaseModel):
    n: int
    note: str | None = None
    at: datetime


class Typed(TypedDict, total=False):
    n: int
    note: str
    at: datetime


class Struct(msgspec.Struct):
    n: int
    at: datetime
    note: str | None = None


@pytest.mark.parametrize("kind", [pl.DataFrame, pd.DataFrame, pa.Table, pa.RecordBatch])
@pytest.mark.parametrize("payload", [Model, Typed, Struct])
async def test_frame_of_a_payloads_type_has_its_fields_the_levels_and_the_attributes(
    plant: Plant, kind: type, payload: type
) -> None:
    app, got = App("plant", catch_all=False), list[Any]()
    stream = app.stream("t", "t/{site}/{device}", partitions=1)

    def handle(frame: Any) -> None:
        got.append(frame)

    handle.__annotations__["frame"] = Annotated[kind, payload]
    app.on(stream, group="frames", batch=True)(handle)
    await plant.start(app)
    at = "2026-01-01T00:00:01Z"
    await plant.publish(
        ("t/a/x", {"n": 1, "at": at}), ("t/a/y", {"n": "many", "at": at}), ("t/b/x", {"n": 2, "at": at, "note": "two"})
    )
    await plant.caught_up("frames")
    (frame,) = got
    assert isinstance(frame, kind)
    rows = as_table(frame).select(["site", "device", "n", "note", "at", "_topic"]).to_pylist()
    moment = datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert rows == [
        {"site": "a", "device": "x", "n": 1, "note": None, "at": moment, "_topic": "t/a/x"},
        {"site": "b", "device": "x", "n": 2, "note": "two", "at": moment, "_topic": "t/b/x"},
    ]
    assert (await plant.dead_letters())[0].data["n"] == "many"
    assert await plant.counts("frames") == {"processed": 2, "dead-lettered": 1}
