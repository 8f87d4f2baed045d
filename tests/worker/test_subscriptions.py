"""Plain pub/sub: at most once, nothing kept."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest
from tests.support.faults import FaultyLog
from tests.support.plant import Plant, numbers
from tests.support.streams import eventually

from millstream.app import App
from millstream.errors import LogUnavailableError
from millstream.event import Event


class Reading(msgspec.Struct):
    n: int


def message(topic: str, n: int) -> Event:
    return Event(topic=topic, payload=b'{"n":%d}' % n)


@pytest.mark.parametrize("is_async", [True, False])
async def test_function_gets_what_is_published_at_the_moment_in_order(plant: Plant, is_async: bool) -> None:
    app = App("plant")
    got: list[tuple[int, str]] = []

    def function(reading: Reading, site: str) -> None:
        got.append((reading.n, site))

    async def coroutine(reading: Reading, site: str) -> None:
        got.append((reading.n, site))

    app.subscribe("site/{site}/#")(coroutine if is_async else function)
    plant.topics.send([message("site/a/early", 0)])
    await plant.start(app)
    plant.topics.send([message("site/a/x", 1), message("other", 2), message("site/b/x", 3)])
    plant.topics.send([message("site/a/x", 4)])
    await eventually(lambda: len(got) == 3)
    assert got == [(1, "a"), (3, "b"), (4, "a")]


async def test_event_has_no_position(plant: Plant) -> None:
    app = App("plant")
    got: list[Event] = []

    @app.subscribe("t")
    def handle(event: Event) -> None:
        got.append(event)

    await plant.start(app)
    plant.topics.send([message("t", 1)])
    await eventually(lambda: got)
    assert (got[0].stream, got[0].partition, got[0].offset, got[0].data) == (None, -1, -1, {"n": 1})


async def test_one_instance_of_the_app_gets_each_event(plant: Plant) -> None:
    got: list[int] = []

    def make() -> App:
        app = App("plant")

        @app.subscribe("t")
        async def handle(data: dict[str, int]) -> None:
            got.append(data["n"])

        return app

    first = await plant.start(make())
    await plant.start(make())
    plant.topics.send([message("t", 1)])
    await eventually(lambda: got)
    await plant.stop(first)
    plant.topics.send([message("t", 2)])
    await eventually(lambda: len(got) == 2)
    assert got == [1, 2]


async def test_failure_is_told_and_the_next_event_is_handled(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    app = App("plant")
    got: list[int] = []

    @app.subscribe("t/{x}")
    async def handle(reading: Reading) -> None:
        if reading.n == 1:
            raise OSError("no")
        got.append(reading.n)

    await plant.start(app)
    plant.topics.send([message("t/a", 1), Event(topic="t/b", payload=b"{"), message("t/c", 3)])
    await eventually(lambda: got == [3])
    told = [record.getMessage().partition("handle failed at ")[2] for record in caplog.records]
    assert told[0] == "topic 't/a', which is not tried again: OSError: no"
    assert told[1].startswith("topic 't/b', which is not tried again: PayloadError: the payload is no Reading: ")


async def test_what_it_publishes_is_committed_and_shown(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    app = App("plant", catch_all=False)
    app.stream("out", "out", partitions=1)
    log = FaultyLog(plant.log)

    @app.subscribe("t", into="out")
    async def handle(reading: Reading) -> Reading:
        app.publish("out", {"n": -reading.n})
        return reading

    await plant.start(app, log)
    plant.topics.send([message("t", 1)])
    await eventually(lambda: len(plant.topics.published) == 3)
    log.before.append(LogUnavailableError("away"))
    plant.topics.send([message("t", 2)])
    await eventually(lambda: "could not publish 2 events: away" in caplog.text)
    plant.topics.send([message("t", 3)])
    await eventually(lambda: len(plant.topics.published) == 7)
    assert numbers(await plant.read("out")) == [-1, 1, -3, 3]


async def test_events_that_come_too_fast_are_dropped_and_counted(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("millstream.worker.subscriber._WAITING_EVENTS", 10)
    app = App("plant")
    gate = asyncio.Event()
    got: list[int] = []

    @app.subscribe("t")
    async def handle(reading: Reading) -> None:
        await gate.wait()
        got.append(reading.n)

    worker = await plant.start(app)
    plant.topics.send([message("t", n) for n in range(15)])
    gate.set()
    await eventually(lambda: len(got) == 10)
    assert got == list(range(10))
    (subscriber,) = worker._processors
    assert subscriber.dropped == 5  # type: ignore[attr-defined]
    assert caplog.text.count("slower than what is published") == 1


async def test_call_that_outlasts_the_drain_time_is_cancelled(plant: Plant) -> None:
    app = App("plant")
    begun = asyncio.Event()

    @app.subscribe("t")
    async def handle(reading: Reading) -> None:
        begun.set()
        await asyncio.Event().wait()

    worker = await plant.start(app)
    plant.topics.send([message("t", 1)])
    await begun.wait()
    plant.workers.remove(worker)
    stopping = asyncio.ensure_future(worker.stop(timedelta(seconds=3)))
    await plant.someone_sleeps(3)
    await plant.clock.advance(2.999)
    await plant.settle()
    assert not stopping.done()
    await plant.clock.advance(0.001)
    await stopping
    await worker.run()
