"""Queries without windows: each event by itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.windows import Record, Sent, Ticked, at, cut, data_of, reading, run

from millstream.engine import PlainQuery, WindowedQuery, processor_of
from millstream.errors import QueryError
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}


def query(text: str) -> PlainQuery:
    made = processor_of(plan_query("q", text, STREAMS, into="out"))
    assert isinstance(made, PlainQuery)
    return made


def results(text: str, *log: Record) -> list[Any]:
    (step,) = run(query(text), cut(log, []))
    return data_of(step.outputs)


def test_result_is_an_event_of_the_same_key_with_an_id_from_its_place() -> None:
    log = [reading("c", 1, v=90), reading("d", 2, v=20), reading("c", 3, v=91)]
    (step,) = run(query("SELECT device, site, v * 2 AS twice FROM telemetry WHERE v > 80"), cut(log, []))
    assert step.outputs is not None
    first, second = step.outputs.to_pylist()
    assert (first["topic"], first["key"], first["type"], first["id"]) == ("out", "c", "q", "q:telemetry:0:0")
    assert (second["key"], second["id"]) == ("c", "q:telemetry:0:2")
    assert data_of(step.outputs)[0] == {"device": "c", "site": "a", "twice": 180.0}
    assert step.counts == {"processed": 2, "filtered": 1, "late": 0, "rejected": 0}


def test_star_hands_the_payload_on_as_it_came() -> None:
    payload = b'{ "v": 1.50, "x": [1, {"y": null}] }'
    (step,) = run(query("SELECT * FROM telemetry WHERE v > 1"), cut([Sent("c", 1, payload)], []))
    assert step.outputs is not None
    assert step.outputs.column("data")[0].as_py() == payload


def test_fields_that_are_handed_on_stay_what_they_were() -> None:
    text = "SELECT v, motor.state, v > 1 AS high FROM telemetry"
    assert results(text, reading("c", 1, v=3, motor={"state": "on"})) == [{"v": 3.0, "state": "on", "high": True}]
    assert results("SELECT v, w FROM telemetry", reading("c", 1, v="3", w=[1, {"a": None}])) == [
        {"v": "3", "w": [1, {"a": None}]}
    ]


def test_system_timestamp_is_the_events_time() -> None:
    text = "SELECT System.Timestamp() AS t, _time AS came FROM telemetry TIMESTAMP BY ts"
    assert results(text, reading("c", 1, 5)) == [{"t": at(1), "came": at(5)}]
    assert results("SELECT System.Timestamp() AS t FROM telemetry", reading("c", 1, 5)) == [{"t": at(5)}]


def test_what_is_no_json_or_has_no_time_is_rejected() -> None:
    log = [Sent("c", 1, b"{"), Sent("c", 2, b"{}"), reading("c", 3)]
    (step,) = run(query("SELECT device FROM telemetry TIMESTAMP BY ts"), cut(log, []))
    assert [(one.row, one.reason.split(":")[0]) for one in step.rejected] == [
        (0, "the payload is not JSON"),
        (1, "the event has no time"),
    ]
    assert (step.counts["processed"], step.counts["rejected"]) == (1, 2)


def test_expression_that_fails_is_null_and_stops_nothing() -> None:
    assert results("SELECT sqrt(v) AS x FROM telemetry", reading("c", 1, v=-1), reading("c", 1, v=4)) == [
        {"x": None},
        {"x": 2.0},
    ]


def test_wide_decimals_are_written_exactly_whether_or_not_they_need_their_width() -> None:
    made = query("SELECT TRY_CAST(v AS DECIMAL(30,3)) * 2 AS d FROM telemetry")
    texts = ["104.42", "1234567890123456789012.125", "-7", "null", "1e400"]
    log = [Sent("c", n, f'{{"v": "{text}"}}'.encode()) for n, text in enumerate(texts)]
    for lengths in ([], [1, 1, 1, 1]):  # in one step, where one of them needs it, and each by itself
        found = [step.outputs for step in run(made, cut(log, lengths)) if step.outputs is not None]
        data = [value.as_py() for outputs in found for value in outputs.column("data")]
        assert data == [
            b'{"d":208.840}',
            b'{"d":2469135780246913578024.250}',
            b'{"d":-14.000}',
            b'{"d":null}',
            b'{"d":null}',
        ]


def test_steps_without_events_are_fine() -> None:
    made = query("SELECT device FROM telemetry")
    assert made.step([]).outputs is None
    (step,) = run(made, cut([Ticked(3)], []))
    assert (step.outputs, sum(step.counts.values())) == (None, 0)


def test_many_threads_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.engine.pieces._PIECE_ROWS", 16)
    log: list[Record] = [reading(f"{n % 7}", n, v=n % 13) for n in range(400)]
    log[90] = Sent("1", 9, b"bad")
    made = query("SELECT device, v, System.Timestamp() AS t FROM telemetry TIMESTAMP BY ts WHERE v > 1").plan
    one, many = (run(PlainQuery(made, threads=threads), cut(log, [200])) for threads in (1, 3))
    assert [data_of(step.outputs) for step in many] == [data_of(step.outputs) for step in one]
    assert [step.rejected for step in many] == [step.rejected for step in one]
    assert sum(len(data_of(step.outputs)) for step in many) > 300


def test_state_of_a_query_over_windows_is_refused() -> None:
    text = "SELECT device FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(second, 1)"
    (step,) = run(WindowedQuery(plan_query("q", text, STREAMS, into="out")), cut([reading("c", 1)], []))
    with pytest.raises(QueryError, match="new name"):
        query("SELECT device FROM telemetry").restore(0, step.save[0])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.one_of(st.none(), st.integers(-5, 5)), st.booleans()), max_size=12),
    st.lists(st.integers(1, 4), max_size=4),
)
def test_results_are_those_of_each_event_by_itself(events: list[tuple[str, Any, bool]], lengths: list[int]) -> None:
    log: list[Record] = [
        reading(key, n, v=v) if good else Sent(key, n, b"no") for n, (key, v, good) in enumerate(events)
    ]
    made = query("SELECT device, v + 1 AS w, System.Timestamp() AS t FROM telemetry TIMESTAMP BY ts WHERE v > 0")
    found = [result for batches in cut(log, lengths) for result in data_of(made.step(batches).outputs)]
    expected = [(key, n, v) for n, (key, v, good) in enumerate(events) if good and v is not None and v > 0]
    assert found == [{"device": key, "w": v + 1.0, "t": at(n)} for key, n, v in expected]
