"""What a query's text comes to: names, types, groups, windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from millstream.clock import SECOND
from millstream.engine import WindowPlan
from millstream.engine.window import Count, Kind, Session, Sliding, Window
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {
    spec.name: spec
    for spec in (
        StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device"),
        StreamSpec("levels", ("site/{site}/{device}/state",)),
        StreamSpec("two", ("a/{device}/x", "b/{device}/{part}/x")),
        StreamSpec("alerts"),
    )
}


def plan(select: str, rest: str = "", stream: str = "telemetry", group: str = "device", **types: Any) -> WindowPlan:
    text = f"SELECT {select} FROM {stream} {rest} GROUP BY {group}, TumblingWindow(second, 10)"
    return plan_query("q", text, STREAMS, into="out", types={stream: types["types"]} if types else None)


def fields(plan: WindowPlan) -> dict[str, str]:
    return {field.name: field.type for field in plan.fields}


@pytest.mark.parametrize(
    ("select", "rest", "expected"),
    [
        ("sum(v) AS x", "", {"v": "DOUBLE"}),
        ("max(v) AS x", "", {"v": "DOUBLE"}),
        ("max(v) AS x", "WHERE v <> 'off'", {"v": "VARCHAR"}),
        ("max(v::VARCHAR) AS x", "", {"v": "VARCHAR"}),
        ("count(v) AS x", "", {"v": "VARCHAR"}),
        ("count(*) AS x", "WHERE v > 3", {"v": "DOUBLE"}),
        ("count(*) AS x", "WHERE 3 < v", {"v": "DOUBLE"}),
        ("count(*) AS x", "WHERE v = 'on' OR w IN ('a', 'b')", {"v": "VARCHAR", "w": "VARCHAR"}),
        ("count(*) AS x", "WHERE v BETWEEN 1 AND w + 1", {"v": "DOUBLE", "w": "DOUBLE"}),
        ("count(*) AS x", "WHERE v AND NOT w", {"v": "BOOLEAN", "w": "BOOLEAN"}),
        ("count(*) AS x", "WHERE v = true", {"v": "BOOLEAN"}),
        ("count(*) AS x", "WHERE v > w", {"v": "DOUBLE", "w": "DOUBLE"}),
        ("count(*) AS x", "WHERE v = device", {"v": "VARCHAR"}),
        ("count(*) AS x", "WHERE v IS NULL", {"v": "VARCHAR"}),
        ("count(*) AS x", "WHERE v LIKE 'a%' AND w || 'x' = 'y'", {"v": "VARCHAR", "w": "VARCHAR"}),
        ("count(*) AS x", "WHERE round(v, 1) > 3 AND lower(w) = 'x'", {"v": "DOUBLE", "w": "VARCHAR"}),
        ("count(*) AS x", "WHERE hour(v) = 3", {"v": "TIMESTAMP"}),
        ("count(*) AS x", "WHERE v > TIMESTAMP '2026-01-01'", {"v": "TIMESTAMP"}),
        ("count(*) AS x", "WHERE coalesce(v, 0) > w", {"v": "DOUBLE", "w": "DOUBLE"}),
        ("sum(CASE WHEN v THEN w ELSE 0 END) AS x", "", {"v": "BOOLEAN", "w": "DOUBLE"}),
        ("sum(v::INTEGER) AS x", "WHERE v > 3", {"v": "INTEGER"}),
        ("sum(v::DECIMAL(9, 2)) AS x", "", {"v": "DECIMAL(9,2)"}),
        ("max(v::INTEGER) AS x, max(v::VARCHAR) AS y", "", {"v": "VARCHAR"}),
        ("count(*) FILTER (WHERE v > 1) AS x", "", {"v": "DOUBLE"}),
        ("max(motor.temperature) AS x", "", {"motor.temperature": "DOUBLE"}),
        ('max(payload."the value") AS x', "", {"the value": "DOUBLE"}),
        ("max(payload.device) AS x", "", {"payload.device": "DOUBLE"}),
        ("max(t.v) AS x", "AS t", {"v": "DOUBLE"}),
        ("max(telemetry.v) AS x", "", {"v": "DOUBLE"}),
        ("count(*) AS x", "TIMESTAMP BY ts", {"ts": "TIMESTAMP"}),
        ("count(*) AS x", "TIMESTAMP BY to_timestamp(ts)", {"ts": "DOUBLE"}),
        ("count(*) AS x", "TIMESTAMP BY epoch_ms(ts::BIGINT)", {"ts": "BIGINT"}),
        ("max(ts) AS x", "TIMESTAMP BY ts", {"ts": "TIMESTAMP"}),
    ],
)
def test_use_gives_a_field_its_type(select: str, rest: str, expected: dict[str, str]) -> None:
    assert fields(plan(select, rest)) == expected


class Motor(msgspec.Struct):
    temperature: int


class Reading(msgspec.Struct, rename="camel"):
    v: int
    motor_state: Motor
    note: str | None = None


@dataclass
class PlainReading:
    v: int


class DictReading(TypedDict):
    v: int


class ModelReading(pydantic.BaseModel):
    v: int
    motor: ModelMotor | None = None


class ModelMotor(pydantic.BaseModel):
    temperature: float = 0


@pytest.mark.parametrize("kind", [Reading, PlainReading, DictReading, ModelReading, {"v": "BIGINT"}])
def test_annotation_gives_a_field_its_type(kind: Any) -> None:
    assert fields(plan("sum(v) AS x", types=kind)) == {"v": "BIGINT"}


def test_annotation_reaches_into_objects_and_follows_renaming() -> None:
    assert fields(plan("max(motorState.temperature) AS x", types=Reading)) == {"motorState.temperature": "BIGINT"}
    assert fields(plan("max(note) AS x", types=Reading)) == {"note": "VARCHAR"}


def test_time_of_an_annotated_text_is_still_read_as_a_time() -> None:
    assert fields(plan("count(*) AS x", "TIMESTAMP BY ts", types={"ts": "VARCHAR"})) == {"ts": "TIMESTAMP"}


def test_levels_come_before_attributes_and_fields() -> None:
    made = plan("device, max(site) AS x, max(_id) AS y, max(_time) AS z, max(v) AS w")
    assert (made.parameters, made.attributes, fields(made)) == (("device", "site"), ("_id", "_time"), {"v": "DOUBLE"})
    assert [column.type for column in made.columns] == ["VARCHAR", "VARCHAR", "VARCHAR", "TIMESTAMP", "DOUBLE"]


@pytest.mark.parametrize(
    ("stream", "group"),
    [
        ("telemetry", "device"),
        ("telemetry", "_key"),
        ("telemetry", "site, device"),
        ("levels", "site, device"),
        ("levels", "_topic"),
        ("levels", "_key"),
        ("two", "_topic"),
        ("alerts", "_key"),
    ],
)
def test_groups_that_lie_within_one_key(stream: str, group: str) -> None:
    plan("count(*) AS x", stream=stream, group=group)


def test_name_of_the_select_list_may_be_grouped_by_and_filtered() -> None:
    made = plan_query(
        "q",
        "SELECT device, floor(v / 10) AS bucket, count(*) AS n FROM telemetry "
        "GROUP BY device, bucket, TumblingWindow(second, 1) HAVING n > 3",
        STREAMS,
        into="out",
    )
    assert [(group.sql, group.type) for group in made.groups] == [('FLOOR("v" / 10)', "DOUBLE")]
    assert made.having == "a0 > 3"


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("TumblingWindow(second, 10)", [(10_000, 10_000, 0, None)]),
        ("tumblingwindow(MINUTES, 1)", [(60_000, 60_000, 0, None)]),
        ("TumblingWindow(Duration(hh, 2))", [(7_200_000, 7_200_000, 0, None)]),
        ("TumblingWindow(ms, 250)", [(250, 250, 0, None)]),
        ("TumblingWindow('day', 1)", [(86_400_000, 86_400_000, 0, None)]),
        ("Tumbling(second, 10, 3)", [(10_000, 10_000, 3_000, None)]),
        ("TumblingWindow(Duration(hour, 1), Offset(millisecond, -1))", [(3_600_000, 3_600_000, 3_599_999, None)]),
        ("HoppingWindow(second, 10, 5)", [(10_000, 5_000, 0, None)]),
        ("Hopping(mi, 10, 5, 2)", [(600_000, 300_000, 120_000, None)]),
        ("HoppingWindow(Duration(hour, 1), Hop(minute, 5))", [(3_600_000, 300_000, 0, None)]),
        ("HoppingWindow(Duration(hour, 1), Hop(s, 9), Offset(s, 10))", [(3_600_000, 9_000, 1_000, None)]),
        ("Windows(Tumbling(s, 1), Hopping(s, 2, 1))", [(1_000, 1_000, 0, None), (2_000, 1_000, 0, None)]),
        (
            "Windows(Window('a', TumblingWindow(s, 1)), Window('b', TumblingWindow(s, 1)))",
            [(1_000, 1_000, 0, "a"), (1_000, 1_000, 0, "b")],
        ),
    ],
)
def test_windows(window: str, expected: list[tuple[int, int, int, str | None]]) -> None:
    text = f"SELECT device FROM telemetry GROUP BY device, {window}"
    millisecond = SECOND // 1000
    assert plan_query("q", text, STREAMS, into="out").windows == tuple(
        Window(size * millisecond, hop * millisecond, offset * millisecond, id_) for size, hop, offset, id_ in expected
    )


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("SlidingWindow(minute, 5)", Sliding(300 * SECOND)),
        ("Sliding(Duration(hour, 1))", Sliding(3600 * SECOND)),
        ("SessionWindow(second, 5)", Session(5 * SECOND)),
        ("CountWindow(100)", Count(100, 100)),
        ("countwindow(100, 10) OVER (PARTITION BY device)", Count(100, 10)),
        ("SessionWindow(second, 5, 60) OVER (PARTITION BY device)", Session(5 * SECOND, 60 * SECOND)),
        ("SessionWindow(Timeout(s, 5), MaxDuration(mi, 1))", Session(5 * SECOND, 60 * SECOND)),
    ],
)
def test_windows_that_move(window: str, expected: Kind) -> None:
    text = f"SELECT device FROM telemetry GROUP BY device, {window}"
    assert plan_query("q", text, STREAMS, into="out").windows == (expected,)


def test_snapshot_is_the_window_of_one_instant() -> None:
    made = plan_query("q", "SELECT device FROM telemetry GROUP BY device, System.Timestamp()", STREAMS, into="out")
    assert made.windows == (Window(1, 1),)


def test_deep_fields_and_the_windows_end_in_any_spelling() -> None:
    made = plan("max(a.b.c.d.e.f) AS x, system.timestamp AS y, SYSTEM.TIMESTAMP() AS z")
    assert fields(made) == {"a.b.c.d.e.f": "DOUBLE"}
    assert [column.sql for column in made.columns] == ["a0", "window_end", "window_end"]


def test_an_aggregate_is_computed_once() -> None:
    made = plan("avg(v) AS x, avg(v) + 1 AS y, mean(v) AS z, count(*) AS n")
    assert [(a.function, a.arguments) for a in made.aggregates] == [("avg", ('"v"',)), ("count", ())]
    assert [column.sql for column in made.columns] == ["a0", "a0 + 1", "a0", "a1"]


def test_timestamp_by_may_stand_anywhere_behind_the_stream() -> None:
    text = "SELECT device\nFROM telemetry AS t\n  TIMESTAMP\n  BY t.ts\nWHERE t.v > 1\n"
    text += "GROUP BY device, TumblingWindow(day, 1)"
    made = plan_query("q", text, STREAMS, into="out")
    assert (made.time, made.where) == ('"ts"', '"v" > 1')


def test_explain_is_for_a_person() -> None:
    text = (
        "SELECT device, avg(celsius) AS mean, System.Timestamp() AS window_end FROM telemetry TIMESTAMP BY ts "
        "WHERE line = 'A' GROUP BY device, TumblingWindow(second, 10) HAVING avg(celsius) > 80"
    )
    assert plan_query("overheating", text, STREAMS, into="alerts").explain() == "\n".join(
        [
            "query       overheating",
            "reads       stream telemetry, key: {device}",
            "decodes     ts TIMESTAMP, line VARCHAR, celsius DOUBLE",
            'event time  "ts"',
            "keeps       \"line\" = 'A'",
            "per         key, and window of 10 s",
            'computes    avg("celsius") DOUBLE',
            "closes      0 s of event time after its end, or 10 s of silence",
            'only if     avg("celsius") > 80',
            'gives       device VARCHAR = key, mean DOUBLE = avg("celsius"), window_end TIMESTAMP = window_end',
            "into        alerts; late events into overheating.late",
        ]
    )


def test_explain_tells_what_a_join_pairs_and_keeps() -> None:
    text = """SELECT a.device, a.v, b.w + 1 AS w, System.Timestamp() AS at FROM telemetry a TIMESTAMP BY ts
              LEFT JOIN telemetry b ON a.device = b.device AND a.v = b.v AND DATEDIFF(second, a, b) BETWEEN -1 AND 30
              AND b.w > 1 WHERE a.state = 'on'"""
    assert plan_query("runs", text, STREAMS, into="out", grace=SECOND).explain() == "\n".join(
        [
            "query       runs",
            "reads       stream telemetry, key: {device}",
            'event time  "ts"',
            "left        events with \"state\" = 'on'",
            'left        keeps a.device VARCHAR = "device", a.v JSON = "v"',
            'right       events with "w" > 1',
            'right       keeps b.v JSON = "v", b.w DOUBLE = "w"',
            "pairs       of the same key, the right one from -1 s to 30 s after the left one",
            "            and left ones by themselves, when nothing can come for them any more",
            'if          "a.v" = "b.v"',
            "forgets     an event 30 s (left) or 1 s (right) of event time after it, and 1 s of grace; "
            "or 41 s of silence",
            'gives       device VARCHAR = "a.device", v JSON = "a.v", w DOUBLE = "b.w" + 1, '
            'at TIMESTAMP = "#window_end"',
            "into        out; late events into runs.late",
        ]
    )


@pytest.mark.parametrize(
    ("clause", "key"),
    [("telemetry TIMESTAMP BY ts OVER device", "device"), ("telemetry AS t TIMESTAMP BY t.ts OVER t.device", "device")],
)
def test_over_in_timestamp_by_names_the_key(clause: str, key: str) -> None:
    streams = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key=key)}
    group = "WHERE v > 1 GROUP BY device, TumblingWindow(second, 1)"
    texts = [f"SELECT device FROM {which} {group}" for which in (clause, clause.partition(" OVER")[0])]
    one, other = (replace(plan_query("q", text, streams, into="out"), text="") for text in texts)
    assert one == other
