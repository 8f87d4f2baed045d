"""Early results in a worker: told in time, exactly once, and by a backtest too."""

from __future__ import annotations

import json
import random

import pytest
from tests.support.faults import FaultyLog
from tests.support.plant import Plant as Workers

from millstream import App
from millstream.clock import SECOND, to_text
from millstream.errors import AppError, LogUnavailableError
from millstream.worker.backtest import Backtest, Span
from millstream.worker.open_windows import open_windows

SQL = """SELECT device, count(*) AS n, System.Timestamp() AS until FROM telemetry TIMESTAMP BY ts
         GROUP BY device, TumblingWindow(minute, 1)"""
BY_LINE = SQL.replace("device", "line")


def make_app(sql: str = SQL, early: str = "10s") -> App:
    app = App("plant", catch_all=False)
    app.stream("telemetry", topics="site/{line}/{device}", key="device", partitions=3)
    app.query("counted", sql, start="earliest", early=early)
    return app


async def test_open_windows_give_results_in_time_beside_the_final_ones() -> None:
    async with make_app().test() as plant:
        start = plant.clock.now()
        for _ in range(3):
            await plant.publish("site/x/a", {"ts": to_text(plant.clock.now() + 1)})
            await plant.advance("5s")
        await plant.advance("5s")
        early = plant.stream("counted.early")
        assert [(one.key, one.data["n"]) for one in early] == [("a", 2), ("a", 3)]
        assert [one.headers["early-at"] for one in early] == [to_text(start + n * SECOND) for n in (10, 20)]
        assert {one.data["until"] for one in early} == {to_text(start + 60 * SECOND)}
        assert plant.stream("counted") == []
        await plant.advance("2m")
        assert [one.data["n"] for one in plant.stream("counted")] == [3]
        assert len(plant.stream("counted.early")) == 2
        assert (plant.counts("counted")["results"], plant.counts("counted")["early"]) == (1, 2)


@pytest.mark.parametrize(("sql", "key"), [(SQL, "a"), (BY_LINE, "x")])
async def test_state_shows_open_windows_once_with_all_that_came(sql: str, key: str) -> None:
    app = make_app(sql)
    async with app.test() as plant:
        for _ in range(3):
            await plant.publish("site/x/a", {"ts": to_text(plant.clock.now() + 1)})
            await plant.advance("7s")
        shown = [one async for one in open_windows(plant._rig.log, app.plan()["counted"], plant.clock)]
        rows = [row for one in shown if one.results is not None for row in one.results.to_pylist()]
        assert [(row["topic"], row["key"], json.loads(row["data"])["n"]) for row in rows] == [("counted", key, 3)]


async def test_a_backtest_finds_the_early_results_of_the_live_query() -> None:
    chance, app = random.Random(7), make_app()
    async with app.test() as plant:
        for _ in range(60):
            told = plant.clock.now() - chance.choice([0, 0, 2, 70]) * SECOND
            await plant.publish(f"site/x/{chance.choice('abcd')}", {"ts": to_text(told)})
            await plant.advance(chance.choice([0, 0.3, 1, 4, 12, 90]))
        await plant.advance("3m")
        live = [*plant.stream("counted"), *plant.stream("counted.early")]
        test = Backtest(plant._rig.log, app.plan()["counted"], Span(None, plant.clock.now()))
        found = [
            (topic, id_, data)
            async for outputs in test.run(lambda done, of: None)
            for topic, id_, data in zip(*(outputs.column(n).to_pylist() for n in ("topic", "id", "data")), strict=True)
        ]
        assert sorted(found) == sorted((one.topic, one.id, one.payload) for one in live)
        assert len(plant.stream("counted.early")) > 10


async def test_early_results_are_as_if_no_commit_had_failed(plant: Workers) -> None:
    faulty = FaultyLog(plant.log)
    await plant.start(make_app(), faulty)
    for number in range(12):
        if number % 3 == 0:
            (faulty.before if number % 2 else faulty.after).append(LogUnavailableError("gone"))
        now = plant.clock.now()
        await plant.publish(*((f"site/x/{device}", {"ts": to_text(now)}) for device in "abc"))
        await plant.caught_up("counted")
        await plant.clock.advance(5)
        await plant.caught_up("counted")
    early = [one.id for one in await plant.read("counted.early")]
    assert len(early) == len(set(early))
    assert len(early) >= 15


async def test_groups_of_all_devices_give_results_in_time_beside_the_final_ones() -> None:
    async with make_app(BY_LINE).test(workers=2) as plant:
        start = plant.clock.now()
        for device in "abcd":
            await plant.publish(f"site/x/{device}", {"ts": to_text(plant.clock.now() + 1)})
            await plant.advance("4s")
        await plant.advance("14s")
        early = plant.stream("counted.early")
        assert [(one.key, one.data["n"]) for one in early] == [("x", 3), ("x", 4)]
        assert [one.headers["early-at"] for one in early] == [to_text(start + n * SECOND) for n in (10, 20)]
        assert {one.data["until"] for one in early} == {to_text(start + 60 * SECOND)}
        assert plant.stream("counted") == []
        await plant.advance("3m")
        assert [one.data["n"] for one in plant.stream("counted")] == [4]
        assert len(plant.stream("counted.early")) == 2
        assert (plant.counts("counted")["results"], plant.counts("counted")["early"]) == (1, 2)


async def test_a_running_average_of_what_auctions_went_for() -> None:
    """A join, windows of it by auction, and of these one by category: what is over so far is told every ten seconds."""
    app = App("house", catch_all=False)
    app.stream("trades", topics="{house}/{what}", key="house", partitions=2)
    app.query(
        "averages",
        """WITH valid AS (
             SELECT a.house, a.auction, a.category, a.expires, b.price
             FROM trades a TIMESTAMP BY ts JOIN trades b TIMESTAMP BY ts
             ON a.house = b.house AND a.auction = b.auction AND DATEDIFF(minute, a, b) BETWEEN 0 AND 1
             WHERE a.category IS NOT NULL AND b.price::BIGINT > 0 AND b.ts::TIMESTAMP <= a.expires::TIMESTAMP),
           winning AS (
             SELECT house, auction, category, max(price::BIGINT) AS final FROM valid TIMESTAMP BY expires
             GROUP BY house, auction, category, TumblingWindow(second, 10))
           SELECT category, avg(final) AS average, System.Timestamp() AS until FROM winning
           GROUP BY category, TumblingWindow(hour, 1)""",
        start="earliest",
        early="10s",
    )
    async with app.test() as plant:
        start = plant.clock.now()

        async def publish(house: str, what: str, **more: object) -> None:
            await plant.publish(f"{house}/{what}", {"ts": to_text(plant.clock.now()), **more})

        for house, auction, category in (("x", 1, "art"), ("y", 2, "art"), ("y", 3, "cars")):
            expires = to_text(start + auction * 5 * SECOND)
            await publish(house, "auction", auction=auction, category=category, expires=expires)
        await plant.advance("1s")
        for auction, prices in ((1, (10, 30)), (2, (20, 50)), (3, (7,))):
            for price in prices:
                await publish("x" if auction == 1 else "y", "bid", auction=auction, price=price)
        await plant.advance("6s")
        await publish("x", "bid", auction=1, price=99)  # which is over
        await plant.advance("2m")
        early = [(one.data["category"], one.data["average"]) for one in plant.stream("averages.early")]
        assert sorted(early[-2:]) == [("art", 40.0), ("cars", 7.0)]
        assert {one.data["until"] for one in plant.stream("averages.early")} == {to_text(start + 3600 * SECOND)}
        assert plant.stream("averages") == []
        await plant.advance("2h")
        found = [(one.data["category"], one.data["average"]) for one in plant.stream("averages")]
        assert sorted(found) == [("art", 40.0), ("cars", 7.0)]


@pytest.mark.parametrize("seed", [0, 1])
async def test_a_backtest_finds_the_early_results_of_groups_of_all_devices_whatever_crashed(seed: int) -> None:
    chance, app = random.Random(seed), make_app(BY_LINE)
    async with app.test(raise_errors=False, workers=2) as plant:
        for device in "abcdefgh":
            await plant.publish(f"site/x/{device}", {"ts": to_text(plant.clock.now())})
        for when in ("before commit", "after commit", "now"):
            for _ in range(20):
                told = plant.clock.now() - chance.choice([0, 0, 2, 70]) * SECOND
                await plant.publish(f"site/{chance.choice('xyz')}/{chance.choice('abcdefgh')}", {"ts": to_text(told)})
                await plant.advance(chance.choice([0, 0.3, 1, 4, 12, 30]))
            await plant.crash(when)
        await plant.advance("5m")
        live = [*plant.stream("counted"), *plant.stream("counted.early")]
        test = Backtest(plant._rig.log, app.plan()["counted"], Span(None, plant.clock.now() + 1))
        found = [
            (topic, id_, data)
            async for outputs in test.run(lambda done, of: None)
            for topic, id_, data in zip(*(outputs.column(n).to_pylist() for n in ("topic", "id", "data")), strict=True)
        ]
        assert sorted(found) == sorted((one.topic, one.id, one.payload) for one in live)
        assert len(plant.stream("counted.early")) > 10
        assert len({one.id for one in live}) == len(live)


@pytest.mark.parametrize(
    ("sql", "early", "told"),
    [
        (SQL, "500ms", "whole seconds, as in early='10s'"),
        (SQL, "soon", "early='soon'"),
        (
            SQL.replace("TumblingWindow(minute, 1)", "SlidingWindow(minute, 1)"),
            "10s",
            "sessions? windows; leave out early",
        ),
        (SQL.replace("TumblingWindow(minute, 1)", "CountWindow(5)"), "10s", "session windows; leave out early"),
        ("SELECT device FROM telemetry", "10s", "session windows; leave out early"),
    ],
)
def test_early_results_that_cannot_be_are_refused(sql: str, early: str, told: str) -> None:
    with pytest.raises(AppError, match=told):
        make_app(sql, early).plan()
