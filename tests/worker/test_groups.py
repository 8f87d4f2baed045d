"""Several workers, and workers that end: nothing is lost, and what is published is published once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from tests.support.faults import FaultyLog
from tests.support.plant import Plant, numbers
from tests.support.streams import eventually

from millstream.app import App
from millstream.errors import DiskFullError, LogClosedError, LogUnavailableError
from millstream.event import Event
from millstream.log import partition_of
from millstream.worker import Worker
from millstream.worker.handler import HandlerProcessor

COUNT = 200


def make_app(handled: list[int], gate: asyncio.Event | None = None) -> App:
    """An app whose handler publishes what it gets, when the gate is open."""
    app = App("plant", catch_all=False)
    stream = app.stream("in", "in/{key}", key="key")
    app.stream("out", "out/{key}", key="key")

    @app.on(stream, group="copy", into="out/{key}")
    async def copy(data: dict[str, int], key: str) -> dict[str, int]:
        if gate is not None:
            await gate.wait()
        handled.append(data["n"])
        return data

    return app


async def publish(plant: Plant, first: int = 0, count: int = COUNT) -> None:
    await plant.publish(*((f"in/{n % 20}", {"n": n}) for n in range(first, first + count)))


async def assert_each_is_out_once(plant: Plant, count: int = COUNT) -> None:
    """Every event is out once, each key's in order."""
    events = await plant.read("out")
    assert sorted(numbers(events)) == list(range(count))
    by_key: dict[str, list[int]] = {}
    for event, n in zip(events, numbers(events), strict=True):
        by_key.setdefault(event.topic, []).append(n)
    assert all(found == sorted(found) for found in by_key.values())
    assert (await plant.counts("copy"))["processed"] == count


def calls_under_way(worker: Worker) -> int:
    (processor,) = worker._processors
    assert isinstance(processor, HandlerProcessor)
    return len(processor._calls._running)


async def crash(plant: Plant, worker: Worker) -> None:
    """End a worker as `kill -9` does: nothing more is committed, and the log learns that it is gone."""
    plant.workers.remove(worker)
    for task in worker._tasks:
        task.cancel()
    await asyncio.gather(*worker._tasks, return_exceptions=True)
    for processor in worker._processors:
        assert isinstance(processor, HandlerProcessor)
        await processor._membership.group.leave()


async def test_what_a_crashed_worker_had_not_committed_is_done_by_the_next(plant: Plant) -> None:
    handled: list[int] = []
    log = FaultyLog(plant.log)
    worker = await plant.start(make_app(handled), log)
    await publish(plant, 0, 50)
    await plant.caught_up("copy")
    log.before = [LogUnavailableError("the server is away")] * COUNT
    await publish(plant, 50, COUNT - 50)
    await eventually(lambda: len(handled) > 50)
    await crash(plant, worker)
    assert len(handled) > 50
    assert len(await plant.read("out")) == 50
    await plant.start(make_app(handled))
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)


async def test_workers_share_the_partitions(plant: Plant) -> None:
    first: list[int] = []
    second: list[int] = []
    await plant.start(make_app(first))
    await plant.start(make_app(second))

    async def both_own() -> bool:
        return (await plant.group("copy")).members == 2

    await eventually(both_own)
    await publish(plant)
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)
    assert first
    assert second
    assert sorted(first + second) == list(range(COUNT))


async def test_partitions_change_hands_under_load_and_nothing_is_done_twice(plant: Plant) -> None:
    handled: list[int] = []
    workers = [await plant.start(make_app(handled))]
    for step in range(8):
        await publish(plant, step * 25, 25)
        if step % 3 == 2:
            await plant.stop(workers.pop(0))
        else:
            workers.append(await plant.start(make_app(handled)))
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)
    assert Counter(handled).most_common(1)[0][1] == 1


async def test_worker_that_leaves_hands_over_what_it_had_not_begun(plant: Plant) -> None:
    handled: list[int] = []
    gate = asyncio.Event()
    worker = await plant.start(make_app(handled, gate))
    await publish(plant)
    stopping = asyncio.ensure_future(plant.stop(worker))
    await asyncio.sleep(0)
    gate.set()
    await stopping
    assert len(handled) <= 16  # what its calls had begun
    await plant.start(make_app(handled))
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)
    assert sorted(handled) == list(range(COUNT))


async def test_calls_that_outlast_the_drain_time_are_cancelled(plant: Plant) -> None:
    handled: list[int] = []
    worker = await plant.start(make_app(handled, asyncio.Event()))
    await publish(plant)

    await eventually(lambda: calls_under_way(worker) == 16)
    plant.workers.remove(worker)
    stopping = asyncio.ensure_future(worker.stop(timedelta(seconds=3)))
    await plant.someone_sleeps(3)
    await plant.clock.advance(2.999)
    await plant.settle()
    assert not stopping.done()
    await plant.clock.advance(0.001)
    await stopping
    await worker.run()
    assert handled == []
    await plant.start(make_app(handled))
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)


@pytest.mark.parametrize("is_fenced", [False, True])
async def test_calls_that_outlast_a_hand_over_are_thrown_away(
    plant: Plant, is_fenced: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if is_fenced:  # it does not release in time
        monkeypatch.setattr("millstream.worker.handler._RELEASE_SECONDS", 1_000)
    slow: list[int] = []
    gate = asyncio.Event()
    await plant.start(make_app(slow, gate))
    await publish(plant)
    await eventually(lambda: calls_under_way(plant.workers[0]) == 16)
    quick: list[int] = []
    await plant.start(make_app(quick))
    await plant.someone_sleeps(1_000 if is_fenced else 5)
    await plant.clock.advance(4.999)
    await plant.settle()
    assert quick == []
    await plant.clock.advance(0.001)
    if is_fenced:
        await plant.settle()
        assert quick == []
        await plant.clock.advance(5)
    await eventually(lambda: quick)
    gate.set()
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)
    assert ("copy joins again" in caplog.text) == is_fenced


async def test_call_of_many_partitions_that_outlasts_a_hand_over_still_counts_for_those_that_stay(plant: Plant) -> None:
    gate = asyncio.Event()

    def make_batch_app() -> App:
        app = App("plant", catch_all=False)
        stream = app.stream("in", "in/{key}", key="key")
        app.stream("out", "out/{key}", key="key")

        @app.on(stream, group="copy", batch=True)
        async def copy(events: list[Event]) -> list[Event]:
            await gate.wait()
            return [Event(topic=f"out/{event.key}", payload=event.payload) for event in events]

        return app

    await plant.start(make_batch_app())
    await publish(plant)
    await eventually(lambda: calls_under_way(plant.workers[0]) == 1)
    await plant.start(make_batch_app())
    await plant.someone_sleeps(5)
    await plant.clock.advance(5)
    await plant.settle()
    gate.set()
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)


async def test_hand_over_does_not_wait_for_what_waits_in_other_partitions(plant: Plant) -> None:
    slow: list[int] = []
    quick: list[int] = []

    def make_slow_app() -> App:
        app = App("plant", catch_all=False)
        stream = app.stream("in", "in/{key}", key="key")

        @app.on(stream, group="copy", concurrency=1)
        async def copy(data: dict[str, int]) -> None:
            await plant.clock.sleep(0.5)
            slow.append(data["n"])

        return app

    await plant.start(make_slow_app())
    first = next(n for n in range(20) if partition_of(str(n), 8) == 7)  # the last ones are handed over
    await publish(plant, first, 1)
    await eventually(lambda: calls_under_way(plant.workers[0]) == 1)
    await publish(plant, 0, first)
    await publish(plant, first + 1, COUNT - first - 1)
    await plant.start(make_app(quick))
    await plant.pass_time_until(lambda: quick)
    assert slow == [first]
    await plant.caught_up("copy")
    assert sorted(slow + quick) == list(range(COUNT))


async def test_partition_that_comes_back_after_a_fence_is_begun_from_the_log(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.worker.handler._RELEASE_SECONDS", 1_000)
    slow: list[int] = []
    gate = asyncio.Event()
    await plant.start(make_app(slow, gate))
    await publish(plant)
    await eventually(lambda: calls_under_way(plant.workers[0]) == 16)
    quick: list[int] = []
    other = await plant.start(make_app(quick))
    await plant.pass_time_until(lambda: quick)
    await plant.stop(other)
    gate.set()
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)


@pytest.mark.parametrize("is_done", [True, False])
async def test_commit_of_unknown_outcome_is_found_out_from_the_log(plant: Plant, is_done: bool) -> None:
    handled: list[int] = []
    log = FaultyLog(plant.log)
    await plant.start(make_app(handled), log)
    for step in range(4):
        (log.after if is_done else log.before).append(LogUnavailableError("gone before it answered"))
        await publish(plant, step * 50, 50)
        await plant.caught_up("copy")
        await eventually(lambda: log.before == log.after == [])  # the worker is told a moment later
    await assert_each_is_out_once(plant)


async def test_worker_comes_back_when_the_log_does(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    handled: list[int] = []
    log = FaultyLog(plant.log)
    await plant.start(make_app(handled), log)
    await publish(plant, 0, 50)
    await plant.caught_up("copy")
    log.away = True
    await publish(plant, 50, 50)
    await plant.pass_time_until(lambda: plant.clock.monotonic() > 30)
    tried = [record.getMessage() for record in caplog.records if "cannot join" in record.getMessage()]
    assert 5 <= len(tried) <= 20
    log.away = False
    await publish(plant, 100, 100)
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)


async def test_worker_waits_for_room_on_the_disk(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    handled: list[int] = []
    log = FaultyLog(plant.log)
    log.before += [DiskFullError("no room"), DiskFullError("no room")]
    await plant.start(make_app(handled), log)
    await publish(plant)
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)
    assert Counter(handled).most_common(1)[0][1] == 1
    assert caplog.text.count("copy waits for room on the disk: no room") == 2


async def test_error_that_nothing_mends_ends_the_worker(plant: Plant) -> None:
    log = FaultyLog(plant.log)
    log.before.append(LogClosedError("closed"))
    worker = await plant.start(make_app([]), log)
    await publish(plant)
    plant.workers.remove(worker)
    with pytest.raises(LogClosedError):
        await worker.run()


async def test_bug_in_the_worker_is_not_swallowed(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("millstream.worker.calls.Calls._settle", broken)
    worker = await plant.start(make_app([]))
    await publish(plant)
    plant.workers.remove(worker)
    with pytest.raises(ZeroDivisionError):
        await worker.run()


async def test_worker_is_a_context_manager(plant: Plant) -> None:
    handled: list[int] = []
    worker = await plant.start(make_app(handled))
    await plant.stop(worker)
    async with Worker(make_app(handled), plant.log, plant.topics, plant.clock, worker._settings):
        await publish(plant)
        await plant.caught_up("copy")
    await assert_each_is_out_once(plant)
    assert (await plant.group("copy")).members == 0


async def test_stream_that_was_dropped_is_made_again(plant: Plant) -> None:
    handled: list[int] = []
    await plant.start(make_app(handled))
    await plant.log.drop("out")
    await publish(plant)
    await plant.caught_up("copy")
    await assert_each_is_out_once(plant)


async def test_several_groups_are_independent(plant: Plant) -> None:
    app = App("plant")
    got: dict[str, list[int]] = {"a": [], "b": []}

    @app.on("in/#", group="a")
    def first(event: Event) -> None:
        got["a"].append(event.data["n"])

    @app.on("in/#", group="b")
    async def second(event: Event) -> None:
        got["b"].append(event.data["n"])

    await plant.start(app)
    await publish(plant)
    await plant.caught_up("a")
    await plant.caught_up("b")
    assert sorted(got["a"]) == sorted(got["b"]) == list(range(COUNT))


async def test_worker_that_cannot_start_leaves_what_it_joined(plant: Plant) -> None:
    app = App("plant")
    app.query("count", "SELECT count(*) AS n FROM events GROUP BY _topic, TumblingWindow(second, 1)")

    @app.on("in/#", group="joined")
    def handle(event: Event) -> None: ...

    @app.subscribe("in/#")
    def seen(event: Event) -> None: ...

    log = FaultyLog(plant.log)
    log.joins += [None, LogUnavailableError("away")]
    with pytest.raises(LogUnavailableError):
        await plant.start(app, log)
    plant.workers.clear()
    assert [group.members for group in await plant.log.groups()] == [0]
