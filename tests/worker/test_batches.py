"""Handlers that are called for many events at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from tests.support.plant import Plant, numbers
from tests.support.streams import eventually

from millstream.app import App, Retry
from millstream.event import BATCH_SCHEMA, Batch, Event

ONCE = Retry(attempts=1)


class Reading(msgspec.Struct):
    n: int


def of_batch(events: Batch) -> list[int]:
    assert events.stream == "t"
    assert events.events.schema == BATCH_SCHEMA
    return numbers(list(events))


def of_events(events: list[Event]) -> list[int]:
    return numbers(events)


def of_record_batch(events: pa.RecordBatch) -> list[int]:
    return [msgspec.json.decode(data)["n"] for data in events.column("data").to_pylist()]


def of_table(events: pa.Table) -> list[int]:
    return [msgspec.json.decode(data)["n"] for data in events.column("data").to_pylist()]


def of_payloads(events: list[Reading]) -> list[int]:
    return [reading.n for reading in events]


@pytest.mark.parametrize("read", [of_batch, of_events, of_record_batch, of_table, of_payloads])
@pytest.mark.parametrize("is_async", [True, False])
async def test_every_form_of_a_batch_brings_all_events_in_order(
    plant: Plant, read: Callable[[Any], list[int]], is_async: bool
) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key", partitions=1)
    calls: list[list[int]] = []

    def function(events: Any) -> None:
        calls.append(read(events))

    async def coroutine(events: Any) -> None:
        calls.append(read(events))

    handler: Callable[..., Any] = coroutine if is_async else function
    handler.__annotations__["events"] = read.__annotations__["events"]
    app.on(stream, group="batches", batch=True)(handler)
    await plant.start(app)
    await plant.publish(*((f"t/{n % 3}", {"n": n}) for n in range(100)))
    await plant.caught_up("batches")
    assert [n for call in calls for n in call] == list(range(100))
    assert len(calls) < 10
    assert await plant.counts("batches") == {"processed": 100}


async def test_batch_has_events_of_one_partition_and_at_most_as_many_as_asked(plant: Plant) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key", partitions=4)
    calls: list[set[int]] = []
    sizes: list[int] = []

    @app.on(stream, group="batches", batch=5)
    def handle(events: list[Event]) -> None:
        calls.append({event.partition for event in events})
        sizes.append(len(events))

    await plant.start(app)
    await plant.publish(*((f"t/{n}", {"n": n}) for n in range(100)))
    await plant.caught_up("batches")
    assert all(len(partitions) == 1 for partitions in calls)
    assert max(sizes) <= 5
    assert sum(sizes) == 100


async def test_only_events_of_the_filter_are_in_a_batch(plant: Plant) -> None:
    app, got = App("plant"), []

    @app.on("wanted/#", group="batches")
    def handle(events: Batch) -> None:
        got.extend(numbers(list(events)))

    await plant.start(app)
    await plant.publish(*((f"{'wanted' if n % 3 else 'other'}/x", {"n": n}) for n in range(30)))
    await plant.caught_up("batches")
    assert got == [n for n in range(30) if n % 3]
    assert await plant.counts("batches") == {"processed": 20, "skipped": 10}


async def test_failing_batch_is_bisected_and_only_the_bad_event_is_a_dead_letter(plant: Plant) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key", partitions=1)
    handled: list[int] = []

    @app.on(stream, group="batches", retry=ONCE, batch=True)
    def handle(readings: list[Reading]) -> None:
        if any(reading.n == 42 for reading in readings):
            raise ValueError("42")
        handled.extend(reading.n for reading in readings)

    await plant.start(app)
    await plant.publish(*((f"t/{n % 10}", {"n": n}) for n in range(100)))
    await plant.caught_up("batches")
    assert sorted(handled) == [n for n in range(100) if n != 42]
    assert [n for n in handled if n % 10 == 2] == [n for n in range(100) if n % 10 == 2 and n != 42]
    (letter,) = await plant.dead_letters()
    assert letter.data == {"n": 42}
    assert await plant.counts("batches") == {"processed": 99, "dead-lettered": 1}


async def test_bad_event_of_a_batch_is_tried_again_and_blocks_its_key_only(plant: Plant) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key", partitions=1)
    handled: list[tuple[int, float]] = []

    @app.on(stream, group="batches", retry=Retry(attempts=5, delay=timedelta(seconds=10)), batch=True)
    async def handle(readings: list[Reading]) -> None:
        if any(reading.n == 2 for reading in readings) and plant.clock.monotonic() < 10:
            raise ValueError("not yet")
        handled.extend((reading.n, plant.clock.monotonic()) for reading in readings)

    await plant.start(app)
    await plant.publish(*((f"t/{n % 2}", {"n": n}) for n in range(10)))
    await eventually(lambda: len(handled) == 6)
    await plant.caught_up("batches")
    assert {n for n, at in handled if at < 10} == {0, 1, 3, 5, 7, 9}
    assert [n for n, at in handled if at >= 10] == [2, 4, 6, 8]


async def test_payload_that_does_not_fit_does_not_spoil_its_batch(plant: Plant) -> None:
    app, got = App("plant"), []

    @app.on("t", group="batches", batch=True)
    def handle(readings: list[Reading]) -> None:
        got.append([reading.n for reading in readings])

    await plant.start(app)
    await plant.publish(("t", {"n": 1}), ("t", {"n": "x"}), ("t", b"{"), ("t", {"n": 4}))
    await plant.caught_up("batches")
    assert got == [[1, 4]]
    assert len(await plant.dead_letters()) == 2
    assert await plant.counts("batches") == {"processed": 2, "dead-lettered": 2}


async def test_batch_publishes_only_what_its_successful_calls_returned(plant: Plant) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key", partitions=1)
    app.stream("out", "out")

    @app.on(stream, group="batches", retry=ONCE, batch=True, into="out")
    def handle(readings: list[Reading]) -> list[Reading]:
        app.publish("out", {"n": -len(readings)})
        if any(reading.n == 3 for reading in readings):
            raise ValueError("3")
        return readings

    await plant.start(app)
    await plant.publish(*((f"t/{n}", {"n": n}) for n in range(4)))
    await plant.caught_up("batches")
    assert numbers(await plant.read("out")) == [-2, 0, 1, -1, 2]


@pytest.mark.parametrize("is_async", [True, False])
async def test_batches_of_several_partitions_run_side_by_side(plant: Plant, is_async: bool) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key", partitions=4)
    running, most, gate = 0, 0, asyncio.Event()
    loop = asyncio.get_running_loop()

    async def coroutine(events: list[Event]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    def function(events: list[Event]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine(events), loop).result(20)

    app.on(stream, group="batches", concurrency=3)(coroutine if is_async else function)
    await plant.start(app)
    await plant.publish(*((f"t/{n}", {"n": n}) for n in range(100)))
    await eventually(lambda: running == 3)
    await plant.settle()
    gate.set()
    await plant.caught_up("batches")
    assert most == 3
