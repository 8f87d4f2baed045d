"""What results are: their values, their JSON, their place and identity."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.windows import Record, Sent, Store, Ticked, at, cut, data_of, reading, run

from millstream.clock import SECOND
from millstream.engine import WindowedQuery, merge
from millstream.engine.duck import FEW_ROWS

MakeQuery = Callable[..., WindowedQuery]
END = reading("c", 10.5)  # an event that closes the first window of its key


def results(query: WindowedQuery, *log: Record) -> list[dict[str, Any]]:
    (step,) = run(query, cut(log, []))
    return data_of(step.outputs)


def test_result_is_an_event_of_its_group(query: MakeQuery) -> None:
    made = query("device, count(*) AS n, avg(v) AS mean, System.Timestamp() AS window_end")
    (step,) = run(made, cut([reading("c", 1, v=1), reading("c", 10, v=2), END], []))
    assert step.outputs is not None
    (event,) = step.outputs.to_pylist()
    assert (event["topic"], event["key"], event["type"], event["content_type"]) == ("out", "c", "q", "application/json")
    assert event["id"] == "q:c:1767225610000000"
    assert json.loads(event["data"]) == {"device": "c", "n": 2, "mean": 1.5, "window_end": "2026-01-01T00:00:10Z"}
    assert step.counts == {"processed": 3, "filtered": 0, "late": 0, "rejected": 0}
    assert step.notes == {"clamped": 0, "results": 1}


def test_window_is_open_at_its_start_and_closed_at_its_end(query: MakeQuery) -> None:
    made = query("count(*) AS n, System.Timestamp() AS t")
    log = [reading("c", 10), reading("c", 10.000001), reading("c", 20), reading("c", 20.000001)]
    assert results(made, *log) == [{"n": 1, "t": at(10)}, {"n": 2, "t": at(20)}]


def test_windows_before_1970_are_aligned_too(query: MakeQuery) -> None:
    log = [Sent("c", 0, json.dumps({"ts": ts}).encode()) for ts in ("1969-12-31T23:59:51Z", "1970-01-01T00:00:00.1Z")]
    assert results(query("count(*) AS n, System.Timestamp() AS t"), *log) == [{"n": 1, "t": "1970-01-01T00:00:00Z"}]


def test_results_come_in_the_order_of_windows_then_keys(query: MakeQuery) -> None:
    log = [reading(key, second) for second in (1, 11, 21) for key in "cab"]
    found = results(query("device, System.Timestamp() AS t"), *log)
    assert [(r["t"], r["device"]) for r in found] == [(at(end), key) for end in (10, 20) for key in "abc"]


def test_many_results_are_in_order_too(query: MakeQuery) -> None:
    log = [reading(f"{key:04}", second) for second in (1, 11, 21) for key in range(3000)]
    found = results(query("device, System.Timestamp() AS t"), *log)
    assert found == sorted(found, key=lambda r: (r["t"], r["device"]))
    assert len(found) == 6000


SEVERAL = "Windows(Window('ten', TumblingWindow(second, 10)), Window('four', HoppingWindow(second, 4, 2)))"
EVERYTHING = """device, System.Window().Id AS id, System.Timestamp() AS t, count(*) AS n, count(v) AS some,
    sum(v) AS total, avg(v) AS mean, min(v) AS least, stddev(v) AS spread, first(v) AS earliest, median(v) AS middle"""


@pytest.mark.parametrize("window", ["TumblingWindow(second, 10)", "SlidingWindow(second, 3)", SEVERAL])
def test_few_windows_of_one_pane_each_give_what_they_give_among_others(
    query: MakeQuery, monkeypatch: pytest.MonkeyPatch, window: str
) -> None:
    log = [
        reading(key, second, v=v) for second, v in ((1, 3), (11, None), (19, 2)) for key in ("b", "é", "a", "🙂", "z")
    ]
    log += [reading("a", 12, v=1), reading("b", 40)]
    found = []
    for few in (FEW_ROWS, 0):
        monkeypatch.setattr(merge, "FEW_ROWS", few)
        steps = run(query(EVERYTHING, "TIMESTAMP BY ts HAVING n < 5", window=window, grace=20 * SECOND), cut(log, [5]))
        found.append([event for step in steps if step.outputs is not None for event in step.outputs.to_pylist()])
    assert found[0] == found[1]
    assert found[0]


def test_ids_tell_groups_apart_and_stay_the_same(query: MakeQuery) -> None:
    log = [reading("c", 1, line="x"), reading("c", 1, line="y"), reading("c", 1), reading("c", 1, line=""), END]
    found = []
    for lengths in ([], [1, 1, 1, 1]):
        steps = run(query("device, line", groups="device, line"), cut(log, lengths))
        found.append([event["id"] for step in steps if step.outputs for event in step.outputs.to_pylist()])
    assert found[0] == found[1]
    assert len(set(found[0])) == 4
    assert all(name.startswith("q:c:1767225610000000:") for name in found[0])


@pytest.mark.parametrize(
    ("select", "payloads", "expected"),
    [
        ("sum(v) AS x", [{"v": 1.5}, {"v": "2"}, {"v": "two"}, {"v": None}, {}], 3.5),
        ("count(v) AS x", [{"v": 1}, {"v": None}, {}], 1),
        ("avg(v) AS x", [{}], None),
        ("sum(v::BIGINT) AS x", [{"v": 2**53}, {"v": 1}], 2**53 + 1),
        ("sum(v::UBIGINT) AS x", [{"v": 2**64 - 1}, {"v": 2**64 - 1}], 2**65 - 2),
        ("sum(v::DECIMAL(9, 2)) AS x", [{"v": 0.1}, {"v": 0.2}], 0.3),
        ("max(v::VARCHAR) AS x", [{"v": "b"}, {"v": "ä"}, {"v": 3}], "ä"),
        ("max(v::BOOLEAN) AS x", [{"v": True}, {"v": False}], True),
        ("max(v::TIMESTAMP) AS x", [{"v": "2026-01-01T01:00:00+02:00"}], "2025-12-31T23:00:00Z"),
        ("max(v::TIMESTAMP) AS x", [{"v": "2026-01-01T00:00:00.25Z"}], "2026-01-01T00:00:00.25Z"),
        ("min(v::DATE) AS x", [{"v": "2026-01-01"}], "2026-01-01"),
        ("max(motor.heat) AS x", [{"motor": {"heat": 3}}, {"motor": 5}, {"motor": [1]}, {"heat": 9}], 3.0),
        ("count_if(v > 1) AS x", [{"v": 1}, {"v": 2}, {}], 1),
        ("sum(v) FILTER (WHERE w = 'a') AS x", [{"v": 1, "w": "a"}, {"v": 2, "w": "b"}], 1.0),
        ("round(avg(v), 1) || ' °C' AS x", [{"v": 1.26}], "1.3 °C"),
        ("max(v) / 0 AS x", [{"v": 1}], None),  # infinite, which JSON cannot say
        ("max(v)::INTEGER AS x", [{"v": 1e300}], None),  # fails for this value
        ("max(v::TINYINT * 100::TINYINT) AS x", [{"v": 1}, {"v": 100}], 100),  # fails for one event
        ("max(sqrt(v)) AS x", [{"v": -1}, {"v": 4}], 2.0),
        ("sum(v) AS x", [{"v": 1e308}, {"v": 1e308}], None),
        ("max(site) AS x", [{}], "a"),
        ("max(_topic) AS x", [{}], "site/a/c/telemetry"),
        ("max(_time) AS x", [{}], "2026-01-01T00:00:01Z"),
    ],
)
def test_values(query: MakeQuery, select: str, payloads: list[dict[str, Any]], expected: object) -> None:
    log = [reading("c", 1, **payload) for payload in payloads]
    assert results(query(select), *log, END) == [{"x": expected}]


def test_numbers_that_json_does_not_have_are_absent(query: MakeQuery) -> None:
    bodies = [f'{{"ts": "{at(1)}", "v": {v}}}'.encode() for v in ("NaN", "Infinity", "1e999", '"NaN"', "2")]
    log = [Sent("c", 1, body) for body in bodies]
    assert results(query("sum(v) AS x, count(v) AS n"), *log, END) == [{"x": 2.0, "n": 1}]


def test_having_chooses_results_and_where_chooses_events(query: MakeQuery) -> None:
    made = query("device, count(*) AS n", "TIMESTAMP BY ts WHERE v > 1 HAVING count(*) > 1")
    log = [reading(key, 1, v=v) for key, v in (("c", 2), ("c", 3), ("c", 1), ("d", 2))]
    (step,) = run(made, cut([*log, END, reading("d", 10.5)], []))
    assert data_of(step.outputs) == [{"device": "c", "n": 2}]
    assert step.counts == {"processed": 3, "filtered": 3, "late": 0, "rejected": 0}


def test_without_timestamp_by_the_arrival_counts(query: MakeQuery) -> None:
    made = query("count(*) AS n, System.Timestamp() AS t", "")
    log = [Sent("c", 1, b"{}"), Sent("c", 9, b"{}"), Sent("c", 9.5, b"no"), Sent("c", 11, b"{}")]
    assert results(made, *log) == [{"n": 2, "t": at(10)}]


@pytest.mark.parametrize(
    ("rest", "ts"),
    [
        ("TIMESTAMP BY ts", "2026-01-01T00:00:01Z"),
        ("TIMESTAMP BY ts", "2026-01-01T02:00:01+02:00"),
        ("TIMESTAMP BY ts", "2026-01-01 00:00:01"),
        ("TIMESTAMP BY to_timestamp(ts::DOUBLE)", 1767225601.0),
        ("TIMESTAMP BY epoch_ms(ts::BIGINT)", 1767225601000),
        ("TIMESTAMP BY ts - INTERVAL 1 HOUR", "2026-01-01T01:00:01Z"),
    ],
)
def test_times(query: MakeQuery, rest: str, ts: object) -> None:
    made = query("System.Timestamp() AS t", rest)
    (step,) = run(made, cut([Sent("c", 1, json.dumps({"ts": ts}).encode()), Ticked(20)], []))
    assert data_of(step.outputs) == [{"t": at(10)}]


def test_further_groups_have_results_of_their_own(query: MakeQuery) -> None:
    made = query("device, line, site, sum(v) AS x", groups="device, line, site")
    log = [reading("c", 1, line=line, v=v) for line, v in (("b", 1), ("a", 2), (None, 4), ("b", 8))]
    assert results(made, *log, END) == [
        {"device": "c", "line": line, "site": "a", "x": x} for line, x in (("a", 2.0), ("b", 9.0), (None, 4.0))
    ]


def test_windows_of_less_than_a_second(query: MakeQuery) -> None:
    made = query("System.Timestamp() AS t", window="TumblingWindow(ms, 250)")
    assert results(made, reading("c", 0.1), reading("c", 0.3), reading("c", 0.6)) == [
        {"t": "2026-01-01T00:00:00.25Z"},
        {"t": "2026-01-01T00:00:00.5Z"},
    ]


def test_state_survives_in_another_processor(query: MakeQuery) -> None:
    text = "device, line, count(*) AS n, sum(v::BIGINT) AS x, min(w::VARCHAR) AS w"
    log = [reading("c", second, line=line, v=1, w="ü") for second in (1, 2, 3) for line in "xy"]
    store = Store()
    for step in run(query(text, groups="device, line"), cut(log, [1, 2, 3])):
        store.commit(step)
    successor = query(text, groups="device, line")
    successor.restore(0, store.chunks[0])
    (batches,) = cut([END], [])
    assert data_of(successor.step(batches).outputs) == [
        {"device": "c", "line": line, "n": 3, "x": 3, "w": "ü"} for line in "xy"
    ]
