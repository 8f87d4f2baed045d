"""Groups by another key than the stream's from end to end: in a worker, on the log, with crashes, in a backtest and as
state."""

from __future__ import annotations

import random

import pytest

from millstream import App
from millstream.clock import SECOND, to_text
from millstream.testing import Plant
from millstream.worker.backtest import Backtest, Span
from millstream.worker.open_windows import open_windows

PER_LINE = """
    SELECT line, count(*) AS n, max(v) AS top, System.Timestamp() AS t
    FROM telemetry TIMESTAMP BY ts GROUP BY line, TumblingWindow(second, 10)"""
ALL = "SELECT count(*) AS n, System.Timestamp() AS t FROM telemetry TIMESTAMP BY ts GROUP BY TumblingWindow(second, 10)"


def make_app(sql: str = PER_LINE, partitions: int = 4) -> App:
    app = App("plant", catch_all=False)
    app.stream("telemetry", topics="site/{device}", key="device", partitions=partitions)
    app.query("lines", sql)
    return app


async def test_groups_of_all_devices_close_when_all_partitions_have_passed() -> None:
    async with make_app().test() as plant:
        now = plant.clock.now()
        for number in range(6):
            data = {"ts": to_text(now + (number + 1) * SECOND), "line": "ab"[number % 2], "v": number}
            await plant.publish(f"site/d{number}", data)
        await plant.advance("15s")
        assert plant.stream("lines") == []
        await plant.advance("20s")
        found = [(event.key, event.data) for event in plant.stream("lines")]
        end = to_text(now + 10 * SECOND)
        assert sorted(found, key=str) == [
            ("a", {"line": "a", "n": 3, "top": 4.0, "t": end}),
            ("b", {"line": "b", "n": 3, "top": 5.0, "t": end}),
        ]
        counts = plant.counts("lines")
        assert counts["processed"] == 6


async def test_all_events_together() -> None:
    async with make_app(ALL).test(workers=2) as plant:
        now = plant.clock.now()
        for second in range(1, 36):
            await plant.publish(f"site/d{second % 5}", {"ts": to_text(now + second * SECOND)})
            await plant.advance("1s")
        await plant.advance("1m")
        found = [(event.key, event.data["n"]) for event in plant.stream("lines")]
        assert found == [("lines", 10), ("lines", 10), ("lines", 10), ("lines", 5)]


async def feed(plant: Plant, chance: random.Random, turns: int) -> None:
    for turn in range(turns):
        told = plant.clock.now() - chance.choice([0, 0, 0, 1, 25]) * SECOND
        data = {"ts": to_text(told), "line": chance.choice("abc"), "v": turn}
        await plant.publish(f"site/d{chance.randrange(9)}", b"broken" if chance.random() < 0.05 else data)
        await plant.advance(chance.choice([0, 0, 0.3, 1, 4, 12, 40]))


SESSIONS = PER_LINE.replace("TumblingWindow(second, 10)", "SessionWindow(second, 20)")


@pytest.mark.parametrize(("seed", "sql"), [(0, PER_LINE), (1, PER_LINE), (2, ALL), (3, SESSIONS)])
async def test_backtest_finds_what_the_live_query_found_whatever_crashed(seed: int, sql: str) -> None:
    app, chance = make_app(sql), random.Random(seed)
    async with app.test(raise_errors=False, workers=2) as plant:
        for device in range(9):  # a partition without any event so far follows the others
            await plant.publish(f"site/d{device}", {"ts": to_text(plant.clock.now()), "line": "a", "v": 0})
        for when in ("before commit", "after commit", "now"):
            await feed(plant, chance, 20)
            await plant.crash(when)
        await feed(plant, chance, 20)
        await plant.advance("5m")
        live = [(event.id, event.payload) for event in plant.stream("lines")]
        assert len({id_ for id_, _ in live}) == len(live) > 5
        test = Backtest(plant._rig.log, app.plan()["lines"], Span(None, plant.clock.now() + 1))
        found = [
            pair
            async for outputs in test.run(lambda done, of: None)
            for pair in zip(outputs["id"].to_pylist(), outputs["data"].to_pylist(), strict=True)
        ]
        assert sorted(found) == sorted(live)
        counts = plant.counts("lines")
        names = ("processed", "filtered", "late")
        assert {name: counts.get(name, 0) for name in names} == {name: test.counts[name] for name in names}
        assert counts["processed"] + counts.get("late", 0) + counts.get("dead-lettered", 0) == 89


async def test_state_shows_windows_with_what_all_partitions_brought() -> None:
    app = make_app()
    async with app.test() as plant:
        now = plant.clock.now()
        for number in range(8):
            await plant.publish(f"site/d{number}", {"ts": to_text(now + SECOND), "line": "a", "v": number})
        shown = [one async for one in open_windows(plant._rig.log, app.plan()["lines"], plant.clock)]
        (row,) = [row for one in shown if one.results is not None for row in one.results.to_pylist()]
        assert row["key"] == "a"
        assert b'"n":8,"top":7.0' in row["data"]
        await plant.advance("1m")
        shown = [one async for one in open_windows(plant._rig.log, app.plan()["lines"], plant.clock)]
        assert not any(one.results for one in shown)


async def test_silent_partitions_follow_a_replay_at_another_pace() -> None:
    """Hours of event time come within seconds; then nothing more, and most partitions have never had an event."""
    async with make_app(partitions=8).test() as plant:
        began = plant.clock.now() - 86_400 * SECOND
        for hour in range(10):
            for device in ("a", "b") if hour < 4 else ("a",):
                data = {"ts": to_text(began + (3600 * hour + 1) * SECOND), "line": "x", "v": hour}
                await plant.publish(f"site/{device}", data)
            await plant.advance("1s")
        await plant.advance("3m")
        assert [event.data["n"] for event in plant.stream("lines")] == [2, 2, 2, 2, 1, 1, 1, 1, 1, 1]
        assert plant.counts("lines").get("late", 0) == 0


async def test_what_stream_analytics_shows_of_a_window_without_a_key() -> None:
    """`SELECT Make, Count(*) … GROUP BY Make, TumblingWindow(second, 10)`, and the busiest of each window behind it."""
    app = App("plant", catch_all=False)
    app.stream("toll", topics="toll/{booth}", key="booth", partitions=4)
    app.query(
        "busiest",
        """WITH counts AS (SELECT make, count(*) AS n FROM toll TIMESTAMP BY ts
                           GROUP BY make, TumblingWindow(second, 10))
           SELECT max(n) AS n, arg_max(make, n) AS make, System.Timestamp() AS t FROM counts
           GROUP BY TumblingWindow(second, 10)""",
    )
    async with app.test() as plant:
        now = plant.clock.now()
        for second in range(1, 30):
            make = "honda" if second % 3 else "toyota"
            await plant.publish(f"toll/{second % 5}", {"ts": to_text(now + second * SECOND), "make": make})
            await plant.advance("1s")
        await plant.advance("2m")
        assert [(event.data["make"], event.data["n"]) for event in plant.stream("busiest")] == [
            ("honda", 7),
            ("honda", 7),
            ("honda", 6),
        ]


async def test_in_python() -> None:
    app = App("plant", catch_all=False)
    telemetry = app.stream("telemetry", topics="site/{device}", key="device", partitions=4)
    telemetry.key_by("line").time("ts").tumbling("10s").agg(n="count(*)").into("lines")
    telemetry.key_by().time("ts").tumbling("10s").agg(n="count(*)").into("all")
    async with app.test() as plant:
        now = plant.clock.now()
        for number in range(6):
            await plant.publish(f"site/{number}", {"ts": to_text(now + SECOND), "line": "ab"[number % 2]})
        await plant.advance("1m")
        assert sorted((event.data["line"], event.data["n"]) for event in plant.stream("lines")) == [("a", 3), ("b", 3)]
        assert [event.data["n"] for event in plant.stream("all")] == [6]
