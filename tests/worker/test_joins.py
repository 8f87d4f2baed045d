"""Joins of events with events from end to end: in a worker, on the log, with crashes, in a backtest and as state."""

from __future__ import annotations

import random

import msgspec
import pytest
from tests.support.faults import FaultyLog
from tests.support.plant import Plant as Workers

from millstream import App
from millstream.clock import SECOND, Micros, to_micros, to_text
from millstream.errors import LogUnavailableError
from millstream.event import Event
from millstream.testing import Plant
from millstream.worker.backtest import Backtest, Span
from millstream.worker.open_windows import open_windows

RUNS = """
    WITH begun AS (SELECT device, part FROM telemetry TIMESTAMP BY ts WHERE state = 'on'),
         ended AS (SELECT device, part FROM telemetry TIMESTAMP BY ts WHERE state = 'off')
    SELECT begun.device, begun.part AS part, ended.part AS done, System.Timestamp() AS t
    FROM begun {} ended ON begun.device = ended.device AND begun.part = ended.part
      AND DATEDIFF(second, begun, ended) BETWEEN 0 AND 20"""


def make_app(join: str = "LEFT JOIN") -> App:
    app = App("plant", catch_all=False)
    app.stream("telemetry", topics="site/{device}", key="device", partitions=3)
    app.query("runs", RUNS.format(join))
    return app


def event(device: str, state: str, part: int, time: Micros) -> tuple[str, object]:
    return f"site/{device}", {"ts": to_text(time), "state": state, "part": part}


def results(events: list[Event]) -> list[tuple[str, int, int | None, str]]:
    found = [msgspec.json.decode(one.payload) for one in events]
    return [(one["device"], one["part"], one["done"], one["t"]) for one in found]


async def test_pairs_and_events_that_stay_alone_are_results() -> None:
    async with make_app().test() as plant:
        now = plant.clock.now()
        await plant.publish(*event("a", "on", 1, now))
        await plant.publish(*event("a", "on", 2, now))
        await plant.advance("5s")
        await plant.publish(*event("a", "off", 1, now + 5 * SECOND))
        assert [one.data["done"] for one in plant.stream("runs")] == [1]
        await plant.advance("29s")
        assert len(plant.stream("runs")) == 1
        await plant.advance("1s")  # the bound and ten seconds after the last event of the device
        assert results(plant.stream("runs")) == [
            ("a", 1, 1, to_text(now + 5 * SECOND)),
            ("a", 2, None, to_text(now + 20 * SECOND)),
        ]
        assert plant.counts("runs")["processed"] == 3


async def feed(plant: Plant, chance: random.Random, turns: int) -> None:
    for part in range(turns):
        device = chance.choice("abcd")
        told = plant.clock.now() - chance.choice([0, 0, 0, 1, 25]) * SECOND
        data = event(device, chance.choice(["on", "off", "idle"]), part // 6, told)
        await plant.publish(data[0], b"broken" if chance.random() < 0.05 else data[1])
        await plant.advance(chance.choice([0, 0, 0.3, 1, 4, 12, 40]))


@pytest.mark.parametrize("seed", range(3))
async def test_backtest_finds_what_the_live_query_found_whatever_crashed(seed: int) -> None:
    app, chance = make_app(), random.Random(seed)
    async with app.test(raise_errors=False, workers=2) as plant:
        for when in ("before commit", "after commit", "now"):
            await feed(plant, chance, 25)
            await plant.crash(when)
        await feed(plant, chance, 25)
        await plant.advance("2m")
        live = [(one.id, one.payload) for one in plant.stream("runs")]
        test = Backtest(plant._rig.log, app.plan()["runs"], Span(None, plant.clock.now() + 1))
        found = [
            pair
            async for outputs in test.run(lambda done, of: None)
            for pair in zip(outputs["id"].to_pylist(), outputs["data"].to_pylist(), strict=True)
        ]
        assert sorted(found) == sorted(live)
        assert len({id_ for id_, _ in live}) == len(live) > 5
        counts = plant.counts("runs")
        assert {name: counts.get(name, 0) for name in ("processed", "filtered", "late")} == {
            name: test.counts[name] for name in ("processed", "filtered", "late")
        }


CALLS = """
    SELECT c.device, c.part AS part, a.done AS done, System.Timestamp() AS t
    FROM calls c TIMESTAMP BY ts LEFT JOIN answers a TIMESTAMP BY at
    ON c.device = a.machine AND c.part = a.done AND DATEDIFF(second, c, a) BETWEEN 0 AND 20"""


def time_of(one: Event) -> Micros:
    assert one.time is not None
    return to_micros(one.time)


def make_pair_of_streams() -> App:
    app = App("plant", catch_all=False)
    app.stream("calls", topics="call/{device}", key="device", partitions=3)
    app.stream("answers", topics="answer/{machine}", key="machine", partitions=3)
    app.query("calls_answered", CALLS, into="runs")
    return app


async def test_two_streams_are_joined_each_with_its_own_time() -> None:
    async with make_pair_of_streams().test() as plant:
        now = plant.clock.now()
        await plant.publish("call/a", {"ts": to_text(now), "part": 1})
        await plant.publish("call/a", {"ts": to_text(now), "part": 2})
        await plant.advance("5s")
        await plant.publish("answer/a", {"at": to_text(now + 5 * SECOND), "done": 1})
        assert results(plant.stream("runs")) == [("a", 1, 1, to_text(now + 5 * SECOND))]
        await plant.advance("29s")
        assert len(plant.stream("runs")) == 1
        await plant.advance("1s")  # the bound and ten seconds after the last answer of the device
        assert results(plant.stream("runs"))[1:] == [("a", 2, None, to_text(now + 20 * SECOND))]
        assert plant.counts("calls_answered")["processed"] == 3


async def test_two_streams_are_joined_in_python() -> None:
    app = App("plant", catch_all=False)
    calls = app.stream("calls", topics="call/{device}", key="device")
    answers = app.stream("answers", topics="answer/{machine}", key="machine")
    called = calls.key_by("device").time("ts").filter("part > 0")
    called.join(answers.key_by("machine").time("at"), within="20s", on="a.part = b.done").select(done="b.done").into(
        "runs"
    )
    async with app.test() as plant:
        now = plant.clock.now()
        await plant.publish("answer/a", {"at": to_text(now + 5 * SECOND), "done": 1})
        await plant.publish("call/a", {"ts": to_text(now), "part": 1})
        assert [one.data for one in plant.stream("runs")] == [{"device": "a", "done": 1}]


@pytest.mark.parametrize("seed", range(3))
async def test_backtest_of_two_streams_finds_what_the_live_query_found_whatever_crashed(seed: int) -> None:
    app, chance = make_pair_of_streams(), random.Random(seed)
    async with app.test(raise_errors=False, workers=2) as plant:
        for when in ("before commit", "after commit", "now", None):
            for part in range(30):
                device = chance.choice("abcd")
                told = to_text(plant.clock.now() - chance.choice([0, 0, 0, 1, 25]) * SECOND)
                if chance.random() < 0.5:
                    await plant.publish(f"call/{device}", {"ts": told, "part": part // 6})
                else:
                    data = b"broken" if chance.random() < 0.05 else {"at": told, "done": part // 6}
                    await plant.publish(f"answer/{device}", data)
                await plant.advance(chance.choice([0, 0, 0.3, 1, 4, 12, 40]))
            if when is not None:
                await plant.crash(when)
        await plant.advance("2m")
        live = [(one.id, one.payload) for one in plant.stream("runs")]
        since = time_of(plant.stream("calls")[40])
        for span in (Span(None, plant.clock.now() + 1), Span(since, plant.clock.now() + 1)):
            test = Backtest(plant._rig.log, app.plan()["calls_answered"], span)
            found = [
                pair
                async for outputs in test.run(lambda done, of: None)
                for pair in zip(outputs["id"].to_pylist(), outputs["data"].to_pylist(), strict=True)
            ]
            expected = [
                (one.id, one.payload)
                for one in plant.stream("runs")
                if span.since is None or time_of(one) >= span.since
            ]
            assert sorted(found) == sorted(expected)
        assert len({id_ for id_, _ in live}) == len(live) > 5
        assert {data["done"] is None for data in map(msgspec.json.decode, dict(live).values())} == {True, False}


async def test_state_shows_the_events_that_wait() -> None:
    app = make_app("JOIN")
    async with app.test() as plant:
        now = plant.clock.now()
        await plant.publish(*event("a", "on", 7, now))
        await plant.publish(*event("b", "off", 8, now))
        shown = [one async for one in open_windows(plant._rig.log, app.plan()["runs"], plant.clock)]
        rows = [row for one in shown if one.results is not None for row in one.results.to_pylist()]
        assert [(row["key"], msgspec.json.decode(row["data"])) for row in rows] == [
            ("a", {"waits": "left", "time": to_text(now), "begun.device": "a", "begun.part": 7}),
            ("b", {"waits": "right", "time": to_text(now), "ended.part": 8}),  # for an `on` of the same instant
        ]
        await plant.advance("40s")
        shown = [one async for one in open_windows(plant._rig.log, app.plan()["runs"], plant.clock)]
        assert not any(one.results for one in shown)


@pytest.fixture
def faulty(plant: Workers) -> FaultyLog:
    return FaultyLog(plant.log)


async def test_results_are_as_if_no_commit_had_failed(plant: Workers, faulty: FaultyLog) -> None:
    await plant.start(make_app("JOIN"), faulty)
    for part in range(30):
        if part % 3 == 0:
            (faulty.before if part % 2 else faulty.after).append(LogUnavailableError("gone"))
        now = plant.clock.now()
        await plant.publish(*(event(device, "on", part, now) for device in "abcd"))
        await plant.publish(*(event(device, "off", part, now + SECOND) for device in "abcd"))
        await plant.caught_up("runs")
        await plant.clock.advance(1)
    found = results(await plant.read("runs"))
    assert sorted((device, part) for device, part, _, _ in found) == [(d, n) for d in "abcd" for n in range(30)]
    assert (await plant.counts("runs"))["processed"] == 240


async def test_results_of_a_join_are_aggregated_in_the_same_text() -> None:
    app = App("plant", catch_all=False)
    app.stream("telemetry", topics="site/{device}", key="device")
    begun = "SELECT device, part FROM telemetry TIMESTAMP BY ts WHERE state = 'on'"
    app.query(
        "runs",
        f"""
        WITH begun AS ({begun}),
             ended AS ({begun.replace("'on'", "'off'")}),
             pairs AS (SELECT a.device, a.part FROM begun a JOIN ended b
                       ON a.device = b.device AND a.part = b.part AND DATEDIFF(second, a, b) BETWEEN 0 AND 20)
        SELECT device, count(*) AS n, System.Timestamp() AS minute FROM pairs
        GROUP BY device, TumblingWindow(minute, 1)""",
    )
    async with app.test() as plant:
        now = plant.clock.now()
        for part in range(5):
            await plant.publish(*event("a", "on", part, now + part * SECOND))
            await plant.publish(*event("a", "off", part, now + (part + 1) * SECOND))
        await plant.advance("5m")
        (result,) = plant.stream("runs")
        assert result.data == {"device": "a", "n": 5, "minute": to_text(now + 60 * SECOND)}
