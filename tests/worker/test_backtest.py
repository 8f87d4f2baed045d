"""A query over what a stream holds gives what the live one gave."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from millstream import App
from millstream.clock import SECOND, Micros, to_text
from millstream.engine import WindowPlan
from millstream.event import Event
from millstream.log import Log
from millstream.testing import Plant
from millstream.worker.backtest import Backtest, Span

SQL = """
    SELECT device, count(*) AS n, max(celsius) AS peak, System.Timestamp() AS "end"
    FROM telemetry TIMESTAMP BY ts
    WHERE celsius > -40
    GROUP BY device, TumblingWindow(second, 10)
    HAVING count(*) > 1"""

Found = list[tuple[str | None, bytes]]


def make_app(sql: str = SQL, grace: int = 0) -> App:
    app = App("plant", catch_all=False)
    telemetry = app.stream("telemetry", topics="site/{device}", key="device")
    app.query("peaks", sql, into="peaks", start="earliest", grace=grace)
    assert telemetry.spec.partitions > 1
    return app


async def backtest(log: Log, plan: WindowPlan, since: Micros | None, until: Micros) -> tuple[Found, Backtest]:
    """What it finds, by id, and itself."""
    test = Backtest(log, plan, Span(since, until))
    told: list[tuple[int, int]] = []
    found: Found = []
    async for outputs in test.run(lambda done, of: told.append((done, of))):
        found += zip(outputs.column("id").to_pylist(), outputs.column("data").to_pylist(), strict=True)
    assert told == sorted(told)
    assert all(done <= of for done, of in told)
    return sorted(found), test


def live(events: Sequence[Event]) -> Found:
    return sorted((event.id, event.payload) for event in events)


async def run_for_a_while(plant: Plant, chance: random.Random, turns: int) -> None:
    """Devices that come and go, some with clocks of their own, some events late, some broken."""
    ahead = {f"d{number}": chance.choice([0, 0, -3, 2, 400]) for number in range(6)}
    for _ in range(turns):
        device = chance.choice(list(ahead))
        told = plant.clock.now() + ahead[device] * SECOND - chance.choice([0, 0, 0, 25]) * SECOND
        data: object = {"ts": to_text(told), "celsius": chance.randrange(-60, 60)}
        await plant.publish(f"site/{device}", b"broken" if chance.random() < 0.05 else data)
        await plant.advance(chance.choice([0, 0, 0.3, 1, 4, 12, 90]))


HOPPING = SQL.replace("TumblingWindow(second, 10)", "HoppingWindow(second, 30, 10)")
COUNTED = [SQL.replace("TumblingWindow(second, 10)", f"CountWindow({size})") for size in ("5, 2", "4, 2", "5, 1")]


@pytest.mark.parametrize(
    ("sql", "seed"), [(sql, seed) for sql in (SQL, HOPPING) for seed in range(4)] + [(sql, 0) for sql in COUNTED]
)
async def test_it_finds_what_the_live_query_found(seed: int, sql: str) -> None:
    chance = random.Random(seed)
    app = make_app(sql, grace=seed)
    async with app.test(raise_errors=False) as plant:
        await run_for_a_while(plant, chance, 120)
        await plant.advance(60)
        log, now = plant._rig.log, plant.clock.now()
        found, test = await backtest(log, app.plan()["peaks"], None, now)
        assert found == live(plant.stream("peaks"))
        assert found
        counts = plant.counts("peaks")
        assert test.counts["rejected"] == counts.get("dead-lettered", 0)
        assert {name: test.counts[name] for name in ("processed", "late", "filtered")} == {
            name: counts.get(name, 0) for name in ("processed", "late", "filtered")
        }


@pytest.mark.parametrize("seed", range(6))
async def test_a_span_has_what_was_published_in_it(seed: int) -> None:
    chance = random.Random(seed)
    app = make_app()
    async with app.test(raise_errors=False) as plant:
        await run_for_a_while(plant, chance, 60)
        since, before = plant.clock.now(), live(plant.stream("peaks"))
        await run_for_a_while(plant, chance, 60)
        until, within = plant.clock.now(), live(plant.stream("peaks"))
        await run_for_a_while(plant, chance, 20)
        found, _ = await backtest(plant._rig.log, app.plan()["peaks"], since, until)
        assert found == sorted(set(within) - set(before))


async def test_windows_of_so_many_events_are_counted_from_the_start_of_the_span() -> None:
    app = make_app(SQL.replace("TumblingWindow(second, 10)", "CountWindow(3)"))
    async with app.test() as plant:
        for celsius in range(4):
            await plant.publish("site/a", {"ts": to_text(plant.clock.now()), "celsius": celsius})
        await plant.advance(1)
        since = plant.clock.now()
        for celsius in range(4, 8):
            await plant.publish("site/a", {"ts": to_text(plant.clock.now()), "celsius": celsius})
        await plant.advance(1)
        found, _ = await backtest(plant._rig.log, app.plan()["peaks"], since, plant.clock.now())
        assert [json.loads(data)["peak"] for _, data in found] == [6]
        assert [event.data["peak"] for event in plant.stream("peaks")] == [2, 5]
