"""Handlers: what they get, in which order, and what becomes of what they fail with."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict

import msgspec
import pytest
from pydantic import BaseModel
from tests.support.plant import Plant
from tests.support.streams import eventually

from millstream.app import CATCH_ALL, App, Retry
from millstream.event import Event
from millstream.worker import Worker
from millstream.worker.handler import HandlerProcessor

ONCE = Retry(attempts=1)


class Struct(msgspec.Struct):
    n: int


class Model(BaseModel):
    n: int


@dataclass
class Data:
    n: int


class Typed(TypedDict):
    n: int


async def test_handler_gets_events_of_its_filter_with_their_levels(plant: Plant) -> None:
    app, got = App("plant"), []

    @app.on("site/{site}/{line}/door", group="door")
    async def opened(event: Event, line: int, *, site: str) -> None:
        got.append((site, line, event.topic, event.data, event.key, event.stream, event.time is not None))

    await plant.start(app)
    await plant.publish(("site/a/7/door", {"open": True}), ("site/a/7/window", {"open": True}), ("other", {}))
    await plant.caught_up("door")
    assert got == [("a", 7, "site/a/7/door", {"open": True}, "site/a/7/door", CATCH_ALL, True)]
    assert await plant.counts("door") == {"processed": 1, "skipped": 2}


async def test_new_group_starts_at_the_latest_event_unless_told_otherwise(plant: Plant) -> None:
    app, got = App("plant"), []

    @app.on("t", group="late")
    def late(data: dict[str, int]) -> None:
        got.append(("late", data["n"]))

    @app.on("t", group="early", start="earliest")
    def early(data: dict[str, int]) -> None:
        got.append(("early", data["n"]))

    for spec in app.streams.values():
        await plant.log.create(spec)
    await plant.publish(("t", {"n": 1}))
    await plant.start(app)
    await plant.publish(("t", {"n": 2}))
    await plant.caught_up("late")
    await plant.caught_up("early")
    assert sorted(got) == [("early", 1), ("early", 2), ("late", 2)]


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        (Struct, {"n": 1}, Struct(1)),
        (Model, {"n": 1}, Model(n=1)),
        (Data, {"n": 1}, Data(1)),
        (Typed, {"n": 1}, {"n": 1}),
        (dict, {"n": 1}, {"n": 1}),
        (bytes, b"\xff", b"\xff"),
        (Any, [1], [1]),
    ],
)
@pytest.mark.parametrize("is_async", [True, False])
async def test_payload_comes_as_its_annotation_says(
    plant: Plant, kind: Any, payload: object, expected: object, is_async: bool
) -> None:
    app, got = App("plant"), []

    async def coroutine(data: Any) -> None:
        got.append(data)

    def function(data: Any) -> None:
        got.append(data)

    handler: Callable[..., Any] = coroutine if is_async else function
    handler.__annotations__["data"] = kind
    app.on("t", group="typed")(handler)
    await plant.start(app)
    await plant.publish(("t", payload))
    await plant.caught_up("typed")
    assert got == [expected]


@pytest.mark.parametrize("kind", [Struct, Model, Data, Typed])
@pytest.mark.parametrize("is_async", [True, False])
async def test_payload_that_does_not_fit_is_a_dead_letter_at_once(plant: Plant, kind: Any, is_async: bool) -> None:
    app, got = App("plant"), []

    async def coroutine(data: Any) -> None:
        got.append(data)

    def function(data: Any) -> None:
        got.append(data)

    handler: Callable[..., Any] = coroutine if is_async else function
    handler.__annotations__["data"] = kind
    app.on("t", group="typed")(handler)
    await plant.start(app)
    await plant.publish(("t", {"n": "many"}), ("t", {"n": 1}))
    await plant.caught_up("typed")
    assert len(got) == 1
    (letter,) = await plant.dead_letters()
    assert letter.headers["dead-letter-reason"].startswith(f"the payload is no {kind.__name__}: ")
    assert letter.headers["dead-letter-attempts"] == "1"
    assert await plant.counts("typed") == {"processed": 1, "dead-lettered": 1}


async def test_level_that_does_not_convert_is_a_dead_letter(plant: Plant) -> None:
    app = App("plant")

    @app.on("line/{line}", group="line")
    def handle(line: int) -> None: ...

    await plant.start(app)
    await plant.publish(("line/seven", {}), ("line/7", {}))
    await plant.caught_up("line")
    (letter,) = await plant.dead_letters()
    assert letter.headers["dead-letter-reason"] == "the topic's level 'line' is 'seven', and no int"


async def test_data_that_does_not_decode_inside_of_the_handler_is_not_tried_again(plant: Plant) -> None:
    app = App("plant")

    @app.on("t", group="decode")
    async def handle(event: Event) -> None:
        assert event.data

    await plant.start(app)
    await plant.publish(("t", b"{"))
    await plant.caught_up("decode")
    (letter,) = await plant.dead_letters()
    assert "no application/json" in letter.headers["dead-letter-reason"]


async def test_keys_run_side_by_side_and_never_two_events_of_one(plant: Plant) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key")
    running: Counter[str] = Counter()
    most, order, gate = 0, dict[str, list[int]](), asyncio.Event()

    @app.on(stream, concurrency=4, group="side-by-side")
    async def handle(data: dict[str, int], key: str) -> None:
        nonlocal most
        running[key] += 1
        most = max(most, running.total())
        assert running[key] == 1
        await gate.wait()
        for _ in range(data["n"] % 3):
            await asyncio.sleep(0)
        order.setdefault(key, []).append(data["n"])
        running[key] -= 1

    await plant.start(app)
    await plant.publish(*((f"t/{n % 7}", {"n": n}) for n in range(70)))
    await eventually(lambda: running.total() == 4)
    gate.set()
    await plant.caught_up("side-by-side")
    assert most == 4
    assert order == {str(key): list(range(key, 70, 7)) for key in range(7)}
    assert await plant.counts("side-by-side") == {"processed": 70}


async def test_functions_run_in_as_many_threads_as_they_may(plant: Plant) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key")
    together, order, loop_thread = threading.Barrier(3), dict[str, list[int]](), threading.get_ident()

    @app.on(stream, concurrency=3, group="threads")
    def handle(data: dict[str, int], key: str) -> None:
        assert threading.get_ident() != loop_thread
        together.wait(20)
        order.setdefault(key, []).append(data["n"])

    await plant.start(app)
    await plant.publish(*((f"t/{n % 3}", {"n": n}) for n in range(30)))
    await plant.caught_up("threads")
    assert order == {str(key): list(range(key, 30, 3)) for key in range(3)}


@pytest.mark.parametrize("is_async", [True, False])
async def test_retry_waits_longer_each_time_and_blocks_its_key_only(plant: Plant, is_async: bool) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key", partitions=1)
    calls: list[tuple[str, int]] = []

    def work(data: dict[str, int], key: str) -> None:
        calls.append((key, data["n"]))
        if calls.count(("bad", 0)) < 3 and calls[-1] == ("bad", 0):
            raise OSError("not yet")

    async def coroutine(data: dict[str, int], key: str) -> None:
        work(data, key)

    app.on(stream, group="retry", retry=Retry(attempts=3, delay=timedelta(seconds=2), factor=3))(
        coroutine if is_async else work
    )
    worker = await plant.start(app)
    await plant.publish(("t/bad", {"n": 0}), ("t/bad", {"n": 1}), ("t/good", {"n": 0}), ("t/good", {"n": 1}))
    await eventually(lambda: len(calls) == 3)
    assert calls == [("bad", 0), ("good", 0), ("good", 1)]
    for failures, seconds in [(1, 2), (2, 6)]:
        await eventually(lambda: attempts(worker) == [failures])  # noqa: B023 (awaited at once)
        await plant.clock.advance(seconds - 0.001)
        await plant.settle()
        assert len(calls) == 2 + failures
        await plant.clock.advance(0.001)
        await eventually(lambda: len(calls) >= 3 + failures)  # noqa: B023
    await plant.caught_up("retry")
    assert calls[3:] == [("bad", 0), ("bad", 0), ("bad", 1)]
    assert await plant.counts("retry") == {"processed": 4}
    assert await plant.dead_letters() == []


def attempts(worker: Worker) -> list[int]:
    """How often the events that wait to be tried again were tried."""
    (processor,) = worker._processors
    assert isinstance(processor, HandlerProcessor)
    return processor._calls._patience.attempts


async def test_event_that_failed_to_the_last_is_a_dead_letter_that_tells_everything(plant: Plant) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key", partitions=4)

    @app.on(stream, group="failing", retry=Retry(attempts=3, delay=timedelta(seconds=1)))
    async def handle(event: Event) -> None:
        app.publish("never", "published")
        raise ValueError("boom")

    await plant.start(app)
    await plant.publish(("t/a", {"n": 1}))
    await plant.caught_up("failing")
    (letter,) = await plant.dead_letters()
    assert (letter.topic, letter.data, letter.key) == ("t/a", {"n": 1}, "a")
    position = (await plant.read("t"))[0]
    assert letter.headers == {
        "dead-letter-reason": "the handler failed after 3 tries",
        "dead-letter-error-type": "ValueError",
        "dead-letter-error": "boom",
        "dead-letter-group": "failing",
        "dead-letter-stream": "t",
        "dead-letter-partition": str(position.partition),
        "dead-letter-offset": "0",
        "dead-letter-topic": "t/a",
        "dead-letter-attempts": "3",
    }
    assert await plant.counts("failing") == {"dead-lettered": 1}
    assert plant.topics.published == []


async def test_one_handlers_failure_is_no_others(plant: Plant) -> None:
    app, got = App("plant"), []

    @app.on("t", group="bad", retry=ONCE)
    def bad(event: Event) -> None:
        raise ValueError

    @app.on("t", group="good")
    def good(event: Event) -> None:
        got.append(event.offset)

    await plant.start(app)
    await plant.publish(("t", 1), ("t", 2))
    await plant.caught_up("bad")
    await plant.caught_up("good")
    assert got == [0, 1]
    assert len(await plant.dead_letters()) == 2


async def test_handler_whose_inner_task_was_cancelled_has_failed(plant: Plant) -> None:
    app = App("plant")

    @app.on("t", group="cancelled", retry=ONCE)
    async def handle(event: Event) -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        inner.cancel()
        await inner

    await plant.start(app)
    await plant.publish(("t", 1))
    await plant.caught_up("cancelled")
    assert (await plant.dead_letters())[0].headers["dead-letter-error-type"] == "CancelledError"


async def test_position_passes_events_of_other_topics_without_hurry(plant: Plant) -> None:
    app = App("plant")

    @app.on("door", group="door")
    def handle(event: Event) -> None: ...

    await plant.start(app)
    await plant.publish(*(("other", n) for n in range(50)))

    async def lag() -> int:
        return sum((await plant.group("door")).lag.values())

    for _ in range(50):
        await asyncio.sleep(0.001)
    assert await lag() == 50
    await plant.pass_time_until(lambda: plant.clock.monotonic() >= 1.0)
    await plant.caught_up("door")
    assert await plant.counts("door") == {"skipped": 50}


async def test_reading_pauses_while_too_much_is_under_way(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.worker.committer._WINDOW_EVENTS", 10)
    monkeypatch.setattr("millstream.worker.handler._POLL_BYTES", 1)  # an event a partition and poll
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key", partitions=2)
    gate, begun = asyncio.Event(), 0

    @app.on(stream, group="paused", concurrency=100)
    async def handle(event: Event) -> None:
        nonlocal begun
        begun += 1
        await gate.wait()

    await plant.start(app)
    await plant.publish(*((f"t/{n}", {"n": n}) for n in range(60)))
    await eventually(lambda: begun >= 10)
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert 10 <= begun <= 12
    gate.set()
    await plant.caught_up("paused")
    assert begun == 60


async def test_device_whose_every_event_fails_does_not_hold_up_the_others(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.worker.committer._WINDOW_EVENTS", 20)
    app = App("plant", catch_all=False)
    stream = app.stream("t", "t/{key}", key="key", partitions=1)

    @app.on(stream, group="one-is-bad", retry=Retry(attempts=3, delay=timedelta(seconds=5)))
    def handle(key: str) -> None:
        if key == "bad":
            raise ValueError

    await plant.start(app)
    await plant.publish(*((f"t/{n if n % 4 else 'bad'}", {"n": n}) for n in range(200)))
    await plant.clock.advance(0.1)
    await plant.caught_up("one-is-bad")
    assert await plant.counts("one-is-bad") == {"processed": 150, "dead-lettered": 50}
    letters = await plant.dead_letters()
    assert [letter.headers["dead-letter-attempts"] for letter in letters] == ["3"] + ["1"] * 49


@pytest.mark.parametrize("is_async", [True, False])
async def test_handler_that_ends_the_program_has_failed(plant: Plant, is_async: bool) -> None:
    app = App("plant")

    def function(event: Event) -> None:
        sys.exit(1)

    async def coroutine(event: Event) -> None:
        sys.exit(1)

    app.on("t", group="exits", retry=ONCE)(coroutine if is_async else function)
    await plant.start(app)
    await plant.publish(("t", 1))
    await plant.caught_up("exits")
    assert (await plant.dead_letters())[0].headers["dead-letter-error-type"] == "SystemExit"
