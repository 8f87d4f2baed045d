"""What processors measure: calls, failures, steps, commits."""

from __future__ import annotations

import asyncio
import math

import pytest
from tests.support.plant import Plant
from tests.support.streams import eventually

from millstream.app import App, Retry
from millstream.clock import SECOND, to_text
from millstream.event import Event
from millstream.metrics import Distribution, Metric, Reading, catalog
from millstream.settings import Settings
from millstream.worker import Measures, Worker


class Measured:
    """A worker whose measures a test reads."""

    def __init__(self, plant: Plant, app: App) -> None:
        self.measures = Measures("worker 1")
        self.worker = Worker(app, plant.log, plant.topics, plant.clock, Settings(), measures=self.measures)
        plant.workers.append(self.worker)

    async def value(self, metric: Metric, group: str) -> float:
        found = (await self._read()).of(metric)[("worker 1", group)]
        assert isinstance(found, float | int)
        return found

    async def distribution(self, metric: Metric, group: str) -> Distribution:
        found = (await self._read()).of(metric)[("worker 1", group)]
        assert isinstance(found, Distribution)
        return found

    async def _read(self) -> Reading:
        reading = Reading()
        await self.measures.read(reading)
        return reading


@pytest.mark.parametrize("kind", ["async", "thread", "batch"])
async def test_calls_of_a_handler(plant: Plant, kind: str) -> None:
    app = App("plant")

    if kind == "async":

        @app.on("a", group="g")
        async def handle(event: Event) -> None: ...

    elif kind == "thread":

        @app.on("a", group="g")
        def handle_in_thread(event: Event) -> None: ...

    else:

        @app.on("a", group="g")
        def handle_many(events: list[Event]) -> None: ...

    measured = Measured(plant, app)
    await measured.worker.start()
    await plant.publish(*(("a", {"n": n}) for n in range(10)))
    await plant.caught_up("g")
    events = await measured.distribution(catalog.CALL_EVENTS, "g")
    calls = await measured.distribution(catalog.CALL_SECONDS, "g")
    committed = await measured.distribution(catalog.PROCESSOR_COMMIT_EVENTS, "g")
    assert events.total == committed.total == 10
    assert calls.count == (events.count if kind == "batch" else 10)
    assert (await measured.distribution(catalog.PROCESSOR_COMMIT_SECONDS, "g")).count == committed.count
    assert await measured.value(catalog.ERRORS, "g") == 0


async def test_a_call_takes_as_long_as_the_clock_says(plant: Plant) -> None:
    app, going = App("plant"), asyncio.Event()

    @app.on("a", group="g")
    async def slow(event: Event) -> None:
        going.set()
        await plant.clock.sleep(3)

    measured = Measured(plant, app)
    await measured.worker.start()
    await plant.publish(("a", 1))
    await going.wait()
    await plant.clock.advance(3)
    await plant.caught_up("g")
    calls = await measured.distribution(catalog.CALL_SECONDS, "g")
    assert calls.count == 1
    assert calls.total == pytest.approx(3)
    assert [bound for bound, n in zip((*calls.bounds, math.inf), calls.counts, strict=True) if n] == [5.0]


async def test_failures_and_retries_are_counted_by_the_event(plant: Plant) -> None:
    app = App("plant")

    @app.on("a", group="g", retry=Retry(attempts=3))
    def fail(event: Event) -> None:
        raise RuntimeError("it does not work")

    measured = Measured(plant, app)
    await measured.worker.start()
    await plant.publish(("a", 1))
    await plant.caught_up("g")
    assert await plant.counts("g") == {"dead-lettered": 1}
    assert await measured.value(catalog.ERRORS, "g") == 3
    assert await measured.value(catalog.RETRIES, "g") == 2


async def test_steps_of_a_query_and_its_delay(plant: Plant) -> None:
    app = App("plant")
    app.stream("telemetry", topics="telemetry/{device}", key="device")
    app.query(
        "means",
        "SELECT device, count(*) AS n FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(second, 10)",
    )
    begin = plant.clock.now()
    measured = Measured(plant, app)
    await measured.worker.start()
    await plant.clock.advance(60)
    for device, second in (("press-1", 20), ("press-2", 12)):
        ts = to_text(begin + second * SECOND)
        await plant.publish((f"telemetry/{device}", {"ts": ts, "celsius": 91}))
    await plant.caught_up("means")
    steps = await measured.distribution(catalog.STEP_SECONDS, "means")
    events = await measured.distribution(catalog.PROCESSOR_COMMIT_EVENTS, "means")
    assert 1 <= steps.count == events.count
    assert events.total == 2
    delay = await measured.value(catalog.WATERMARK_DELAY, "means")
    assert delay == pytest.approx(
        40, abs=5
    )  # the newest event is 40 s older than now; waiting moved the clock a little


async def test_what_a_subscription_drops(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.worker.subscriber._WAITING_EVENTS", 2)
    app, going, go_on = App("plant"), asyncio.Event(), asyncio.Event()

    @app.subscribe("a")
    async def slow(event: Event) -> None:
        going.set()
        await go_on.wait()

    name = app.subscriptions[0].name
    measured = Measured(plant, app)
    await measured.worker.start()
    assert await measured.value(catalog.SUBSCRIPTION_DROPPED, name) == 0
    plant.topics.send([Event(topic="a")])
    await going.wait()
    plant.topics.send([Event(topic="a")] * 5)
    assert await measured.value(catalog.SUBSCRIPTION_DROPPED, name) == 3
    go_on.set()

    await eventually(lambda: measured.measures.of(name).call_seconds.distribution.count == 3)


async def test_measures_outlive_the_worker(plant: Plant) -> None:
    app = App("plant")

    @app.on("a", group="g")
    async def handle(event: Event) -> None: ...

    measured = Measured(plant, app)
    await measured.worker.start()
    await plant.publish(("a", 1))
    await plant.caught_up("g")
    await plant.stop(measured.worker)
    worker = Worker(app, plant.log, plant.topics, plant.clock, Settings(), measures=measured.measures)
    plant.workers.append(worker)
    await worker.start()
    await plant.publish(("a", 2))
    await plant.caught_up("g")
    assert (await measured.distribution(catalog.CALL_SECONDS, "g")).count == 2
