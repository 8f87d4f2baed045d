"""`CROSS APPLY`: a row for each element of an array, and for each property of a record."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.depth import examples
from tests.support.windows import Record, Sent, Store, Ticked, at, cut, data_of, reading, run

from millstream.engine import Processor, processor_of
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}


def query(text: str) -> Processor:
    return processor_of(plan_query("q", text, STREAMS, into="out"))


def results(text: str, *log: Record) -> list[Any]:
    (step,) = run(query(text), cut(log, []))
    assert sum(step.counts.values()) == sum(isinstance(record, Sent) for record in log)
    return data_of(step.outputs)


def test_elements_of_an_array() -> None:
    """The example of Stream Analytics' documentation."""
    text = """SELECT event.id, arrayElement.ArrayIndex, arrayElement.ArrayValue FROM telemetry AS event
              CROSS APPLY GetArrayElements(event.arrayField) AS arrayElement"""
    log = [reading("c", 1, id=7, arrayField=["a", {"b": 1}, None]), reading("c", 2, id=8, arrayField=[])]
    assert results(text, *log) == [
        {"id": 7, "ArrayIndex": 0, "ArrayValue": "a"},
        {"id": 7, "ArrayIndex": 1, "ArrayValue": {"b": 1}},
        {"id": 7, "ArrayIndex": 2, "ArrayValue": None},
    ]


def test_properties_of_a_record() -> None:
    text = """SELECT device, p.PropertyName, p.PropertyValue FROM telemetry AS event
              CROSS APPLY GetRecordProperties(event.sensors) AS p"""
    log = [reading("c", 1, sensors={"temperature": 20.5, "on": True}), reading("c", 2)]
    assert results(text, *log) == [
        {"device": "c", "PropertyName": "temperature", "PropertyValue": 20.5},
        {"device": "c", "PropertyName": "on", "PropertyValue": True},
    ]


def test_outer_apply_keeps_events_without_elements() -> None:
    text = "SELECT v, r.ArrayValue AS x FROM telemetry AS t OUTER APPLY GetArrayElements(t.a) AS r"
    log = [reading("c", 1, v=1, a=[5]), reading("c", 2, v=2, a=[]), reading("c", 3, v=3), reading("c", 4, v=4, a=7)]
    assert results(text, *log) == [{"v": 1, "x": 5}, {"v": 2, "x": None}, {"v": 3, "x": None}, {"v": 4, "x": None}]


def test_columns_of_a_row_have_the_types_in_which_they_are_used() -> None:
    text = """SELECT r.ArrayValue.celsius * 2 AS twice, upper(r.ArrayValue.name) AS name,
                     DATEADD(second, 1, r.arrayvalue.at) AS later, r.ArrayIndex + 1 AS n
              FROM telemetry TIMESTAMP BY ts CROSS APPLY GetArrayElements(readings) AS r
              WHERE r.ArrayValue.celsius > 10"""
    readings = [{"celsius": 20, "name": "a", "at": at(5)}, {"celsius": 5}, {"celsius": "x"}, {"celsius": "30"}]
    assert results(text, reading("c", 1, readings=readings)) == [
        {"twice": 40.0, "name": "A", "later": at(6), "n": 1},
        {"twice": 60.0, "name": None, "later": None, "n": 4},
    ]


def test_elements_of_elements() -> None:
    text = """SELECT x.ArrayIndex AS i, y.ArrayIndex AS j, y.ArrayValue AS v FROM telemetry
              CROSS APPLY GetArrayElements(rows) AS x CROSS APPLY GetArrayElements(x.ArrayValue.cells) AS y"""
    rows = [{"cells": [1, 2]}, {"cells": []}, {"cells": [3]}]
    found = results(text, reading("c", 1, rows=rows))
    assert [(result["i"], result["j"], result["v"]) for result in found] == [(0, 0, 1), (0, 1, 2), (2, 0, 3)]


def test_each_row_has_an_id_of_its_own() -> None:
    made = query("SELECT r.ArrayValue AS v FROM telemetry CROSS APPLY GetArrayElements(a) AS r WHERE r.ArrayValue > 1")
    (step,) = run(made, cut([reading("c", 1, a=[1, 2, 3])], []))
    assert step.outputs is not None
    assert step.outputs.column("id").to_pylist() == ["q:telemetry:0:0:1", "q:telemetry:0:0:2"]
    assert step.counts == {"processed": 1, "filtered": 0, "late": 0, "rejected": 0}


def test_payload_that_is_no_json_is_rejected_once() -> None:
    for rest in ("", "GROUP BY device, r.ArrayIndex, TumblingWindow(second, 1)"):
        select = "device" if rest else "r.ArrayValue AS v"
        made = query(f"SELECT {select} FROM telemetry TIMESTAMP BY ts CROSS APPLY GetArrayElements(a) AS r {rest}")
        (step,) = run(made, cut([Sent("c", 1, b"{"), Sent("c", 1, b'{"a": [1, 2]}'), reading("c", 1, a=[1])], []))
        assert [one.row for one in step.rejected] == [0, 1]
        assert step.counts["rejected"] == 2


def test_windows_aggregate_elements() -> None:
    text = """WITH flat AS (SELECT device, r.ArrayValue.v AS v FROM telemetry AS t TIMESTAMP BY t.ts
                            CROSS APPLY GetArrayElements(t.readings) AS r WHERE r.ArrayValue.ok::BOOLEAN)
              SELECT device, sum(v) AS total, count(*) AS n FROM flat GROUP BY device, TumblingWindow(second, 10)"""
    first = [{"v": 1, "ok": True}, {"v": 10, "ok": False}, {"v": 100, "ok": True}]
    log: list[Record] = [reading("c", 1, readings=first), reading("c", 2, readings=[{"v": 5, "ok": True}]), Ticked(60)]
    assert results(text, *log) == [{"device": "c", "total": 106.0, "n": 3}]


elements = st.lists(st.one_of(st.none(), st.integers(-3, 3)), max_size=4)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    events=st.lists(
        st.tuples(st.sampled_from("cd"), st.sampled_from([0, 1, 4, 12]), st.sampled_from([0, 0, 3, 15]), elements),
        min_size=1,
        max_size=15,
    ),
    lengths=st.lists(st.integers(1, 4), max_size=6),
    window=st.sampled_from(["TumblingWindow(second, 5)", "HoppingWindow(second, 10, 5)"]),
    where=st.sampled_from(["true", "r.ArrayValue > 0"]),
)
def test_windows_are_those_over_each_element_as_an_event(
    events: list[tuple[str, float, float, list[Any]]], lengths: list[int], window: str, where: str
) -> None:
    """What is late is late as a whole, so the two logs close the same windows at the same places."""
    now, log, flat = 0.0, list[Record](), list[Record]()
    for key, passed, behind, values in events:
        now += passed
        log.append(reading(key, now - behind, now, a=values))
        flat += [reading(key, now - behind, now, v=value) for value in values]
        flat += [reading(key, now - behind, now)] if not values else []  # which only moves the clock
    log.append(Ticked(1e6))
    flat.append(Ticked(1e6))
    select = "SELECT device, count(*) AS n, sum({}) AS total, System.Timestamp() AS t FROM telemetry TIMESTAMP BY ts"
    group = f"GROUP BY device, {window}"
    ours = query(f"{select.format('r.ArrayValue')} CROSS APPLY GetArrayElements(a) AS r WHERE {where} {group}")
    condition = "v IS NOT NULL OR v IS NULL" if where == "true" else "v > 0"
    theirs = query(f"{select.format('v')} WHERE ({condition}) AND has_v::BOOLEAN {group}")
    flat = [marked(record) for record in flat]
    store = Store()
    ours.restore(0, {})
    found: Counter[str] = Counter()
    for batches in cut(log, lengths):
        step = ours.step(batches)
        store.commit(step)
        assert sum(step.counts.values()) == sum(map(len, batches))
        ours.forget(0)
        ours.restore(0, store.chunks.get(0, {}))
        found.update(json.dumps(result) for result in data_of(step.outputs))
    expected = Counter(json.dumps(result) for step in run(theirs, cut(flat, [])) for result in data_of(step.outputs))
    assert found == expected


def marked(record: Record) -> Record:
    if not isinstance(record, Sent):
        return record
    payload = json.loads(record.payload)
    payload["has_v"] = "v" in payload
    return Sent(record.key, record.seconds, json.dumps(payload).encode(), topic=record.topic)


ERRORS = [
    (
        "CROSS APPLY GetArrayElementz(a) AS r",
        "APPLY has no function GetArrayElementz; did you mean 'GetArrayElements'?",
    ),
    ("CROSS APPLY GetArrayElements(a, b) AS r", "takes one argument"),
    ("CROSS APPLY GetArrayElements(a) AS r WHERE r.ArrayValu > 1", "has no column 'ArrayValu'; did you mean 'ArrayVal"),
    ("CROSS APPLY GetArrayElements(a) AS r CROSS APPLY GetArrayElements(b) AS r", "two APPLY are called 'r'"),
    ("TIMESTAMP BY r.ArrayValue.t CROSS APPLY GetArrayElements(a) AS r", "TIMESTAMP BY comes before APPLY"),
    ("CROSS APPLY GetArrayElements(device) AS r", "takes an array or a record of the payload, and this is a VARCHAR"),
    ("CROSS APPLY GetArrayElements(a) AS r WHERE LAG(v) OVER (LIMIT DURATION(hour, 1)) > 1", "look at whole events"),
]


@pytest.mark.parametrize(("rest", "told"), ERRORS, ids=[rest[:60] for rest, _ in ERRORS])
def test_error_says_what_is_wrong(rest: str, told: str) -> None:
    from millstream.errors import QueryError

    with pytest.raises(QueryError) as caught:
        query(f"SELECT device FROM telemetry {rest}")
    assert told in str(caught.value)
    assert caught.value.line == 1
    assert caught.value.column is not None
    assert caught.value.column > 20
