"""Queries over a log that leaves out what they do not look at: what they pass on is whole."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.plant import Plant
from tests.support.sparse import SparseLog
from tests.support.streams import publish

from millstream.app import App
from millstream.clock import SECOND, VirtualClock, to_text
from millstream.event import Event, to_columns
from millstream.log import Log, StreamSpec
from millstream.log.sqlite import SqliteLog
from millstream.worker.whole import whole_events

START = 1_767_225_600 * SECOND  # where the clock begins


def app_with(name: str, sql: str) -> App:
    app = App("plant")
    app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")
    app.query(name, sql, into="found")
    return app


def event(number: int, payload: str) -> Event:
    return Event(
        topic=f"site/{number % 3}/press-{number % 2}/telemetry",
        payload=payload.encode(),
        id=f"id-{number}",
        type="reading",
        content_type="application/json",
        headers={"trace": f"{number}"},
    )


def reading(number: int, second: int) -> Event:
    return event(number, f'{{"ts": "{to_text(START + second * SECOND)}", "celsius": {number}}}')


def told(events: list[Event], name: str) -> list[object]:
    """Everything of events but where they stand now, and in whose name."""
    return [
        (e.payload, e.key, e.id, e.type, e.content_type, {k: v.replace(name, "") for k, v in e.headers.items()})
        for e in events
    ]


async def test_dead_letters_and_late_events_are_whole(plant: Plant) -> None:
    for name, log in (("spare", SparseLog(plant.log)), ("whole", plant.log)):
        sql = """SELECT device, count(*) AS n FROM telemetry TIMESTAMP BY ts
                 GROUP BY device, TumblingWindow(second, 10)"""
        await plant.start(app_with(name, sql), cast("Log", log))
    bad = [event(number, text) for number, text in enumerate(("{", "no JSON", '{"celsius": 1}', '{"ts": 1}'))]
    late = [reading(number, 1) for number in range(10, 14)]
    await publish(plant.log, [reading(1, 300), reading(2, 300), *bad, *late])
    letters: dict[str, list[object]] = {}
    for name in ("spare", "whole"):
        await plant.caught_up(name)
        assert (await plant.counts(name))["late"] == 4
        its = [e for e in await plant.dead_letters() if e.headers["dead-letter-group"] == name]
        lates = [e for e in await plant.read("events") if e.topic == f"{name}.late"]
        assert len(its) == len(lates) == 4
        letters[name] = [*told(its, name), *told(lates, name)]
    assert letters["spare"] == letters["whole"]


@pytest.mark.parametrize(
    "columns",
    [
        "device",
        "device, site",
        "site",
        "count(*) AS n",
        "System.Timestamp() AS at",
        "device, celsius",
    ],
)
async def test_a_query_gets_all_that_it_looks_at(plant: Plant, columns: str) -> None:
    windowed = " GROUP BY device, TumblingWindow(second, 10)" if "count" in columns else ""
    sql = f"SELECT {columns} FROM telemetry TIMESTAMP BY ts{windowed}"
    for name, log in (("spare", SparseLog(plant.log)), ("whole", plant.log)):
        await plant.start(app_with(name, sql), cast("Log", log))
    await publish(plant.log, [reading(number, number) for number in range(30)])
    for name in ("spare", "whole"):
        await plant.caught_up(name)
    found = {name: [e.payload for e in await plant.read("found") if e.type == name] for name in ("spare", "whole")}
    assert found["spare"]
    assert found["spare"] == found["whole"]


@given(st.sets(st.integers(0, 999), max_size=20))
async def test_any_events_are_found_again_and_those_that_are_gone_stay(wanted: set[int]) -> None:
    log = await SqliteLog.memory(VirtualClock())
    try:
        await log.create(StreamSpec("s", partitions=1))
        for start in range(0, 900, 300):
            transaction = log.transaction()
            transaction.append("s", 0, to_columns(event(number, f"{number}") for number in range(start, start + 300)))
            await transaction.commit()
        asked = [Event(topic="", payload=b"?", stream="s", partition=0, offset=offset) for offset in sorted(wanted)]
        found = await whole_events(log, asked)
        assert [its.payload for its in found] == [b"%d" % o if o < 900 else b"?" for o in sorted(wanted)]
        assert all((its.topic == "s") == (its.payload == b"?") and its.offset in wanted for its in found)
    finally:
        await log.close()
