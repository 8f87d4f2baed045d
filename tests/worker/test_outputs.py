"""What a handler returns and publishes: committed with its position, then shown to subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import msgspec
import pytest
from pydantic import BaseModel
from tests.support.plant import Plant, numbers
from tests.support.streams import eventually

from millstream.app import App, Retry
from millstream.event import Event

ONCE = Retry(attempts=1)


class Reading(BaseModel):
    n: int


class Struct(msgspec.Struct):
    n: int


def out(n: int) -> Event:
    return Event(topic="out", payload=b'{"n":%d}' % n)


def one(event: Event) -> Event:
    return out(event.offset)


def several(event: Event) -> list[Event]:
    return [out(event.offset), out(event.offset + 100)]


def generated(event: Event) -> Iterator[Event]:
    yield out(event.offset)
    yield out(event.offset + 100)


async def awaited(event: Event) -> tuple[Event, ...]:
    return (out(event.offset), out(event.offset + 100))


async def generated_asynchronously(event: Event) -> AsyncIterator[Event]:
    yield out(event.offset)
    await asyncio.sleep(0)
    yield out(event.offset + 100)


@pytest.mark.parametrize("function", [one, several, generated, awaited, generated_asynchronously])
async def test_returned_events_are_published(plant: Plant, function: Any) -> None:
    app = App("plant")
    app.stream("out", "out", partitions=1)
    app.on("in", group="handler")(function)
    await plant.start(app)
    await plant.publish(("in", 0), ("in", 1))
    await plant.caught_up("handler")
    expected = [0, 1] if function is one else [0, 100, 1, 101]
    assert numbers(await plant.read("out")) == expected
    assert numbers(plant.topics.published) == expected


@pytest.mark.parametrize("returned", [{"n": 1}, Reading(n=1), Struct(1), [{"n": 1}], ({"n": 1}, None)])
async def test_other_data_is_published_where_into_says(plant: Plant, returned: Any) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("in", "site/{site}/{device}")
    app.stream("out", "checked/{device}/{site}", key="device")

    @app.on(stream, group="handler", into="checked/{device}/{site}")
    def handle(event: Event) -> Any:
        return returned

    await plant.start(app)
    await plant.publish(("site/a/press", 0))
    await plant.caught_up("handler")
    (event,) = await plant.read("out")
    assert (event.topic, event.key, event.data) == ("checked/press/a", "press", {"n": 1})
    assert event.content_type == "application/json"


async def test_data_without_into_is_told_once_and_not_published(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    app = App("plant")

    @app.on("in", group="handler")
    def handle(event: Event) -> int:
        return 3

    await plant.start(app)
    await plant.publish(("in", 0), ("in", 1))
    await plant.caught_up("handler")
    assert [record.getMessage() for record in caplog.records] == [
        "handler returns int, which is not published: return an Event, or say on which topic with into=…"
    ]
    assert await plant.counts("handler") == {"processed": 2}
    assert plant.topics.published == []


@pytest.mark.parametrize("is_async", [True, False])
async def test_published_events_have_their_attributes(plant: Plant, is_async: bool) -> None:
    app = App("plant")
    app.stream("out", "out")

    def work(event: Event) -> None:
        app.publish("out", "hot", key="k", id="1", type="alert", headers={"a": "b"})
        app.publish("out", b"\xff", content_type="image/png")

    async def coroutine(event: Event) -> None:
        await asyncio.to_thread(work, event)

    app.on("in", group="handler")(coroutine if is_async else work)
    await plant.start(app)
    await plant.publish(("in", 0))
    await plant.caught_up("handler")
    first, second = sorted(await plant.read("out"), key=lambda event: event.payload)
    assert (first.data, first.key, first.id, first.type, first.headers) == ("hot", "k", "1", "alert", {"a": "b"})
    assert (second.data, second.key, second.content_type) == (b"\xff", "out", "image/png")


@pytest.mark.parametrize("is_async", [True, False])
async def test_call_that_fails_publishes_nothing(plant: Plant, is_async: bool) -> None:
    app = App("plant")
    app.stream("out", "out", partitions=1)

    def work(event: Event) -> None:
        app.publish("out", {"n": event.offset})
        if event.offset == 1:
            raise ValueError

    async def coroutine(event: Event) -> None:
        work(event)

    app.on("in", group="handler", retry=ONCE)(coroutine if is_async else work)
    await plant.start(app)
    await plant.publish(("in", 0), ("in", 1), ("in", 2))
    await plant.caught_up("handler")
    assert numbers(await plant.read("out")) == [0, 2]


async def test_generator_that_fails_half_way_publishes_nothing(plant: Plant) -> None:
    app = App("plant")
    app.stream("out", "out", partitions=1)

    @app.on("in", group="handler", retry=ONCE)
    def handle(event: Event) -> Iterator[Event]:
        yield out(event.offset)
        raise ValueError("half way")

    await plant.start(app)
    await plant.publish(("in", 0))
    await plant.caught_up("handler")
    assert await plant.read("out") == []
    assert (await plant.dead_letters())[0].headers["dead-letter-error"] == "half way"


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Event(topic="a/#"), "TopicError"),
        (Event(topic=""), "TopicError"),
        (Event(topic="\ud800"), "UnicodeEncodeError"),
        (Event(topic="out", payload=cast(Any, {"n": 1})), "TypeError"),
        (Event(topic="out", payload=cast(Any, "text")), "TypeError"),
        (Event(topic="out", key=cast(Any, 7)), "TypeError"),
        (Event(topic="out", headers=cast(Any, {"n": 1})), "TypeError"),
    ],
)
@pytest.mark.parametrize("returns", [True, False])
async def test_event_that_cannot_be_committed_is_its_own_handlers_failure(
    plant: Plant, event: Event, error: str, returns: bool
) -> None:
    app = App("plant")

    @app.on("in", group="handler", retry=ONCE)
    def handle(data: int) -> Any:
        if data == 0:
            return event if returns else [out(1), event]
        return out(2)

    await plant.start(app)
    await plant.publish(("in", 0), ("in", 1))
    await plant.caught_up("handler")
    (letter,) = await plant.dead_letters()
    assert letter.headers["dead-letter-error-type"] == error
    assert numbers(plant.topics.published) == [2]


async def test_data_that_cannot_be_encoded_is_the_handlers_failure(plant: Plant) -> None:
    app = App("plant")

    @app.on("in", group="handler", retry=ONCE)
    def handle(event: Event) -> None:
        app.publish("out", object())

    await plant.start(app)
    await plant.publish(("in", 0))
    await plant.caught_up("handler")
    assert (await plant.dead_letters())[0].headers["dead-letter-error-type"] == "TypeError"


async def test_output_that_no_stream_captures_is_for_the_subscribers_of_the_moment(plant: Plant) -> None:
    app = App("plant", catch_all=False)
    stream = app.stream("in", "in")

    @app.on(stream, group="handler")
    def handle(event: Event) -> Event:
        return out(7)

    await plant.start(app)
    await plant.publish(("in", 0))
    await plant.caught_up("handler")
    assert numbers(plant.topics.published) == [7]


async def test_handler_may_handle_what_another_one_publishes(plant: Plant) -> None:
    app, got = App("plant"), []

    @app.on("one", into="two", group="one")
    def first(data: dict[str, int]) -> dict[str, int]:
        return {"n": data["n"] + 1}

    @app.on("two", group="two")
    async def second(data: dict[str, int]) -> None:
        got.append(data["n"])

    await plant.start(app)
    await plant.publish(("one", {"n": 1}))
    await eventually(lambda: got == [2])


async def test_publishing_after_the_handler_has_returned_is_an_error(plant: Plant) -> None:
    app = App("plant")
    errors: list[str] = []
    tasks: list[asyncio.Future[None]] = []

    @app.on("in", group="handler")
    async def handle(event: Event) -> None:
        async def later() -> None:
            await finished.wait()
            try:
                app.publish("out", 0)
            except Exception as error:
                errors.append(str(error))

        tasks.append(asyncio.ensure_future(later()))

    finished = asyncio.Event()
    await plant.start(app)
    await plant.publish(("in", 0))
    await plant.caught_up("handler")
    finished.set()
    await asyncio.gather(*tasks)
    assert "the handler has returned" in errors[0]


async def test_calls_wait_while_too_many_outputs_are_not_committed(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.worker.committer._OUTPUT_BYTES", 1_000)
    app = App("plant")
    app.stream("out", "out")

    @app.on("in", group="handler")
    async def handle(event: Event) -> Event:
        return Event(topic="out", payload=b"x" * 2_000)

    await plant.start(app)
    await plant.publish(*(("in", n) for n in range(20)))
    await plant.caught_up("handler")
    assert len(await plant.read("out")) == 20
