"""What a worker tells of its calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.support.plant import Plant

from millstream.app import App, Retry
from millstream.event import Event
from millstream.settings import Settings
from millstream.worker import Failure, Watch, Worker


class Notes(Watch):
    def __init__(self) -> None:
        self.open: list[str] = []
        self.most = 0
        self.failures: list[Failure] = []

    @contextmanager
    def under_way(self, processor: str) -> Iterator[None]:
        self.open.append(processor)
        self.most = max(self.most, len(self.open))
        try:
            yield
        finally:
            self.open.remove(processor)

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)


@pytest.mark.parametrize("way", ["async", "thread", "async batch", "thread batch"])
async def test_calls_are_told_while_they_are_under_way_and_failures_when_they_happen(plant: Plant, way: str) -> None:
    app, notes, open_in_call = App("plant"), Notes(), list[str]()

    def call() -> None:
        open_in_call.extend(notes.open)
        raise OSError("no")

    async def event(event: Event) -> None:
        call()

    def event_in_thread(event: Event) -> None:
        call()

    async def batch(events: list[Event]) -> None:
        call()

    def batch_in_thread(events: list[Event]) -> None:
        call()

    functions: dict[str, Callable[..., object]] = {
        "async": event,
        "thread": event_in_thread,
        "async batch": batch,
        "thread batch": batch_in_thread,
    }
    app.on("t", group="g", retry=Retry(attempts=1), batch="batch" in way)(functions[way])
    worker = Worker(app, plant.log, plant.topics, plant.clock, Settings(), watch=notes)
    plant.workers.append(worker)
    await worker.start()
    await plant.publish(("t", 1))
    await plant.caught_up("g")
    assert open_in_call == ["g"]
    assert notes.open == []
    (failure,) = notes.failures
    assert (failure.processor, type(failure.error), failure.then) == (
        "g",
        OSError,
        "kept in the dead letters after 1 try",
    )
    assert failure.where.startswith("events:")


async def test_cancelled_call_is_no_longer_under_way(plant: Plant) -> None:
    app, notes, started = App("plant"), Notes(), asyncio.Event()

    @app.on("t", group="g")
    async def wait(event: Event) -> None:
        started.set()
        await asyncio.Event().wait()

    worker = Worker(app, plant.log, plant.topics, plant.clock, Settings(), watch=notes)
    await worker.start()
    running = asyncio.create_task(worker.run())
    await plant.publish(("t", 1))
    await started.wait()
    assert notes.open == ["g"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert notes.open == []
    assert notes.failures == []
