"""Queries from end to end: the real planner and engine, in a worker, on the log."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ByteSize
from tests.support.faults import FaultyLog
from tests.support.plant import Plant
from tests.support.streams import eventually

from millstream.app import App
from millstream.clock import SECOND, to_text
from millstream.engine import WindowedQuery
from millstream.engine.step import Step
from millstream.errors import AppError, LogUnavailableError
from millstream.event import Batch, Event
from millstream.settings import Settings
from millstream.testing import Pause
from millstream.worker import Worker
from millstream.worker.measures import Measures

START = 1_767_225_600 * SECOND  # where the clock begins


def make_app() -> App:
    app = App("plant")
    app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")
    app.query(
        "overheating",
        """
        SELECT device, avg(celsius) AS mean, count(*) AS n, System.Timestamp() AS window_end
        FROM telemetry TIMESTAMP BY ts
        GROUP BY device, TumblingWindow(second, 10)
        HAVING avg(celsius) > 80
        """,
        into="alerts",
    )
    return app


def reading(device: str, second: float, celsius: float) -> tuple[str, object]:
    ts = to_text(START + round(second * SECOND))
    return f"site/a/{device}/telemetry", {"ts": ts, "celsius": celsius}


def found(alerts: Sequence[Event]) -> list[tuple[str, float, int]]:
    return [(event.data["device"], event.data["mean"], event.data["n"]) for event in alerts]


async def test_hot_device_raises_an_alert_when_its_window_closes() -> None:
    async with make_app().test() as plant:
        await plant.play([reading("press-1", 0.1, 91), reading("press-1", 1, 93), reading("press-2", 1, 20)])
        assert plant.alerts == []
        await plant.advance("30s")
        assert found(plant.alerts) == [("press-1", 92.0, 2)]
        (published,) = plant.published("alerts")
        assert published.data["window_end"] == to_text(START + 10 * SECOND)
        assert len([event for event in plant.stream("events") if event.topic == "alerts"]) == 1


async def test_idle_window_closes_by_a_tick_ten_seconds_after_its_end() -> None:
    async with make_app().test() as plant:
        await plant.play([Pause(0.1), reading("press-1", 0.1, 91), Pause(19.899)])
        assert plant.alerts == []
        await plant.advance(0.001)
        assert len(plant.alerts) == 1


async def test_handler_reads_a_querys_results() -> None:
    app = make_app()
    got: list[Mapping[str, Any]] = []
    results = app.query(
        "counts", "SELECT device, count(*) AS n FROM telemetry GROUP BY device, TumblingWindow(second, 1)"
    )

    @app.on(results, group="alarm")
    async def alarm(data: dict[str, Any]) -> None:
        got.append(data)

    async with app.test() as plant:
        await plant.play([reading("press-1", 0.1, 91), Pause("30s")])
    assert got == [{"device": "press-1", "n": 1}]


async def test_bad_payloads_are_dead_letters_and_the_counts_balance() -> None:
    topic = "site/a/press-1/telemetry"
    async with make_app().test(raise_errors=False) as plant:
        await plant.play([reading("press-1", 1, 91), (topic, b"{"), (topic, b"\xff"), (topic, {"ts": "no time"})])
        assert {letter.headers["dead-letter-group"] for letter in plant.dead_letters} == {"overheating"}
        assert all(letter.headers["dead-letter-reason"] for letter in plant.dead_letters)
        counts = plant.counts("overheating")
        assert len(plant.dead_letters) == counts["dead-lettered"] == 3
        assert counts["processed"] == 1


async def test_late_events_go_to_their_own_stream() -> None:
    async with make_app().test() as plant:
        await plant.play([reading("press-1", 5, 91), reading("press-1", 25, 91), reading("press-1", 6, 99)])
        (late,) = plant.late("overheating")
        assert late.data["celsius"] == 99
        assert plant.counts("overheating")["late"] == 1
        assert len(plant.published("overheating.late")) == 1


async def _feed(plant: Plant, log: FaultyLog | None, fails: bool) -> None:
    """Many devices over a minute; with `fails`, every third commit fails, done or not."""
    for second in range(60):
        if log is not None and fails and second % 3 == 0:
            (log.before if second % 2 else log.after).append(LogUnavailableError("gone"))
        await plant.publish(*(reading(f"press-{n}", second, 70 + n) for n in range(20)))
        await plant.caught_up("overheating")
    await plant.clock.advance(60)


async def test_results_are_as_if_nothing_had_failed(plant: Plant) -> None:
    log = FaultyLog(plant.log)
    await plant.start(make_app(), log)
    await _feed(plant, log, fails=True)

    async def finished() -> bool:
        return len(await plant.read("alerts")) >= 7 * 9  # windows that end at 0, 10, … 60 s, of the hot devices

    await plant.pass_time_until(finished)
    await plant.caught_up("overheating")
    results = found(await plant.read("alerts"))
    assert len({(event.key, event.data["window_end"]) for event in await plant.read("alerts")}) == len(results) == 7 * 9
    assert {device for device, _, _ in results} == {f"press-{n}" for n in range(11, 20)}
    assert {mean for device, mean, _ in results if device == "press-15"} == {85.0}
    assert sum(n for _, _, n in results) == 60 * 9
    assert (await plant.counts("overheating"))["processed"] == 60 * 20


async def test_step_on_top_of_a_failed_commit_is_forgotten_with_it(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog of many polls: every commit runs beside the next step."""
    log = FaultyLog(plant.log)
    monkeypatch.setattr("millstream.worker.query._POLL_BYTES", 4_000)
    monkeypatch.setattr("millstream.worker.query._BEHIND_EVENTS", 1)
    worker = await plant.start(make_app())
    await plant.stop(worker)
    for second in range(60):
        await plant.publish(*(reading(f"press-{n}", second, 70 + n) for n in range(20)))
    gone = LogUnavailableError("gone")
    log.before += [gone, gone]
    await plant.start(make_app(), log)
    await plant.pass_time_until(lambda: log.commits_tried > 4)
    log.after += [gone]
    await plant.caught_up("overheating")
    await plant.clock.advance(60)

    async def finished() -> bool:
        return len(await plant.read("alerts")) >= 7 * 9

    await plant.pass_time_until(finished)
    assert log.commits_tried > 20
    results = found(await plant.read("alerts"))
    assert len(results) == 7 * 9
    assert sum(n for _, _, n in results) == 60 * 9
    assert (await plant.counts("overheating"))["processed"] == 60 * 20


async def test_query_steps_on_while_its_last_commit_is_under_way(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    step = WindowedQuery.step

    def counted(self: WindowedQuery, batches: Sequence[Batch]) -> Step:
        steps.append(sum(map(len, batches)))
        return step(self, batches)

    monkeypatch.setattr(WindowedQuery, "step", counted)
    log = FaultyLog(plant.log)
    await plant.start(make_app(), log)
    log.open.clear()
    await plant.publish(reading("press-1", 20, 90))
    await eventually(lambda: len(steps) == 1)
    await plant.publish(reading("press-1", 40, 90))
    await eventually(lambda: len(steps) == 2)
    await plant.publish(reading("press-1", 60, 90))
    await eventually(lambda: log.commits_tried == 1)
    assert steps == [1, 1]  # what comes next waits for the commit of the first
    assert log.commits_tried == 1
    log.open.set()
    await plant.caught_up("overheating")
    assert steps == [1, 1, 1]
    assert found(await plant.read("alerts")) == [("press-1", 90.0, 1)] * 2


async def test_commit_that_fails_is_noticed_though_nothing_more_comes(plant: Plant) -> None:
    log = FaultyLog(plant.log)
    await plant.start(make_app(), log)
    log.open.clear()
    log.before.append(LogUnavailableError("gone"))
    await plant.publish(reading("press-1", 5, 90), reading("press-1", 15, 90))
    await plant.pass_time_until(lambda: log.commits_tried == 1)
    log.open.set()
    await plant.caught_up("overheating")
    assert found(await plant.read("alerts")) == [("press-1", 90.0, 1)]


async def test_partitions_change_hands_with_their_state(plant: Plant) -> None:
    worker = await plant.start(make_app())
    await plant.publish(*(reading(f"press-{n}", 1, 91) for n in range(20)))
    await plant.caught_up("overheating")
    await plant.start(make_app())
    await plant.publish(*(reading(f"press-{n}", 2, 93) for n in range(20)))
    await plant.caught_up("overheating")
    await plant.stop(worker)
    await plant.publish(*(reading(f"press-{n}", 3, 95) for n in range(20)))
    await plant.clock.advance(30)

    async def finished() -> bool:
        return len(await plant.read("alerts")) >= 20

    await plant.pass_time_until(finished)
    assert sorted(found(await plant.read("alerts"))) == sorted((f"press-{n}", 93.0, 3) for n in range(20))


async def test_step_that_fails_is_tried_again_with_smaller_batches(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from millstream.engine import WindowedQuery

    real, sizes = WindowedQuery.step, []

    def step(self: WindowedQuery, batches: Sequence[Batch]) -> Step:
        sizes.append(sum(len(batch) for batch in batches))
        if sizes[-1] > 10:
            raise MemoryError("too much")
        return real(self, batches)

    monkeypatch.setattr(WindowedQuery, "step", step)
    monkeypatch.setattr("millstream.worker.query._POLL_BYTES", 4_000)
    monkeypatch.setattr("millstream.worker.query._BEHIND_EVENTS", 1)
    await plant.start(make_app())
    await plant.publish(*(reading(f"press-{n % 7}", 1, 91) for n in range(100)))
    await plant.caught_up("overheating")
    assert max(sizes) > 10
    assert (await plant.counts("overheating"))["processed"] == 100
    assert "overheating failed at telemetry:" in caplog.text
    assert "it begins again with smaller batches, and waits at this place until they succeed" in caplog.text
    assert "a query under another name" in caplog.text


async def test_wrong_query_ends_the_start_with_its_place(plant: Plant) -> None:
    app = App("plant")
    app.query("wrong", "SELECT nothing FROM nowhere")
    with pytest.raises(AppError, match=r"test_queries.py:\d+: query 'wrong'.*nowhere"):
        await plant.start(app)
    plant.workers.clear()


async def test_query_without_a_window_gives_its_results_at_once() -> None:
    app = App("plant", catch_all=False)
    app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")
    app.query("hot", "SELECT device, celsius FROM telemetry WHERE celsius > 80", into="hot")
    async with app.test() as plant:
        await plant.play([reading("press-1", 0.1, 91), reading("press-2", 0.2, 20), reading("press-1", 0.3, 85)])
        assert [(event.key, event.data) for event in plant.stream("hot")] == [
            ("press-1", {"device": "press-1", "celsius": 91}),
            ("press-1", {"device": "press-1", "celsius": 85}),
        ]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A disk on which nothing is put three times: what was. All that a query has is to be put there."""
    from millstream.engine import kept, scratch, waiting
    from millstream.engine.chunks import ChunkLog

    real, refused = scratch._File.write, list[int]()

    def write(self: scratch._File, content: pa.Buffer) -> tuple[int, int]:
        if len(refused) < 3:
            refused.append(content.size)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, content)

    monkeypatch.setattr(scratch._File, "write", write)
    monkeypatch.setattr(kept, "_LEAST_BYTES", 1)
    monkeypatch.setattr(waiting, "_LEAST_BYTES", 1)
    monkeypatch.setattr(ChunkLog, "snapshot_bytes", 0)
    return refused


async def test_rows_that_fit_nowhere_are_waited_for_and_nothing_is_lost(
    plant: Plant, full_disk: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    app = App("plant")
    app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")
    app.query(
        "medians",
        "SELECT device, median(celsius::DOUBLE) AS mean, count(*) AS n FROM telemetry TIMESTAMP BY ts "
        "GROUP BY device, TumblingWindow(second, 10)",
        into="medians",
    )
    await start_with_little_memory(app, plant)
    for _ in range(3):
        await plant.publish(*(reading(f"press-{n}", 1, 91 + n) for n in range(7)))
    await plant.caught_up("medians")
    await plant.clock.advance(30)
    await plant.pass_time_until(partial(has_events, plant, "medians", 7))
    assert sorted(found(await plant.read("medians"))) == [(f"press-{n}", 91.0 + n, 3) for n in range(7)]
    assert len(full_disk) == 3
    assert "make room there, or allow more state_memory" in caplog.text


async def test_events_of_a_join_that_fit_nowhere_are_waited_for_and_nothing_is_lost(
    plant: Plant, full_disk: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    app = App("plant")
    app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")
    app.query(
        "pairs",
        "SELECT a.device, a.celsius AS one, b.celsius AS other FROM telemetry a TIMESTAMP BY ts JOIN telemetry b "
        "TIMESTAMP BY ts ON a.device = b.device AND DATEDIFF(second, a, b) BETWEEN 1 AND 100",
        into="pairs",
    )
    measures = await start_with_little_memory(app, plant)
    for second in (1, 2, 3):
        await plant.publish(*(reading(f"press-{n}", second, 91 + second) for n in range(7)))
        await plant.caught_up("pairs")
    pairs = [(event.data["device"], event.data["one"], event.data["other"]) for event in await plant.read("pairs")]
    pressed = [(92, 93), (92, 94), (93, 94)]
    assert sorted(pairs) == [(f"press-{n}", *pair) for n in range(7) for pair in pressed]
    assert len(full_disk) == 3
    assert "make room there, or allow more state_memory" in caplog.text
    room = measures.of("pairs").room
    assert room is not None
    assert room.disk > 0


async def start_with_little_memory(app: App, plant: Plant) -> Measures:
    """What is measured of a worker that must put on disk whatever it can."""
    measures = Measures()
    worker = Worker(app, plant.log, plant.topics, plant.clock, Settings(state_memory=ByteSize(1)), measures=measures)
    plant.workers.append(worker)
    await worker.start()
    return measures


async def has_events(plant: Plant, stream: str, count: int) -> bool:
    return len(await plant.read(stream)) >= count
