"""Hopping windows, several windows at once, snapshots: what a person would look at. (The definition: the oracle.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.windows import Record, Ticked, at, cut, data_of, reading, run

from millstream.clock import SECOND
from millstream.engine import WindowedQuery

MakeQuery = Callable[..., WindowedQuery]


def results(query: WindowedQuery, *log: Record) -> list[dict[str, Any]]:
    (step,) = run(query, cut(log, []))
    return data_of(step.outputs)


def counts(query: WindowedQuery, *log: Record) -> list[tuple[str, int]]:
    return [(result["t"], result["n"]) for result in results(query, *log)]


def test_hopping_window_counts_an_event_in_each_window_around_it(query: MakeQuery) -> None:
    made = query("count(*) AS n, System.Timestamp() AS t", window="HoppingWindow(second, 10, 5)")
    log = [reading("c", 1), reading("c", 6), reading("c", 12), reading("c", 40)]
    assert counts(made, *log) == [(at(5), 1), (at(10), 2), (at(15), 2), (at(20), 1)]


def test_silent_device_closes_its_last_window_by_tick(query: MakeQuery) -> None:
    made = query("count(*) AS n, System.Timestamp() AS t", window="HoppingWindow(second, 10, 5)")
    steps = run(made, cut([reading("c", 1), Ticked(19), Ticked(20)], [2]))
    assert [[r["t"] for r in data_of(step.outputs)] for step in steps] == [[at(5)], [at(10)]]


def test_event_that_is_late_for_one_window_still_counts_in_the_next(query: MakeQuery) -> None:
    made = query("count(*) AS n, System.Timestamp() AS t", window="HoppingWindow(second, 10, 5)")
    log = [reading("c", 4), reading("c", 6), reading("c", 3), reading("c", 21), reading("c", 5)]
    (step,) = run(made, cut(log, []))
    assert [(r["t"], r["n"]) for r in data_of(step.outputs)] == [(at(5), 1), (at(10), 3), (at(15), 1)]
    assert step.counts == {"processed": 4, "filtered": 0, "late": 1, "rejected": 0}
    assert step.late is not None
    (late,) = step.late.to_pylist()
    assert dict(late["headers"])["late-window-end"] == at(10)


def test_grace_waits_for_events_out_of_order(query: MakeQuery) -> None:
    made = query("count(*) AS n, System.Timestamp() AS t", window="HoppingWindow(second, 10, 5)", grace=3 * SECOND)
    log = [reading("c", 4), reading("c", 8), reading("c", 3), reading("c", 8.1), reading("c", 4)]
    (step,) = run(made, cut(log, []))
    assert [(r["t"], r["n"]) for r in data_of(step.outputs)] == [(at(5), 2)]
    assert step.counts["late"] == 0


def test_offset_moves_windows_and_may_include_their_start(query: MakeQuery) -> None:
    window = "TumblingWindow(Duration(second, 10), Offset(millisecond, -1))"
    made = query("count(*) AS n, System.Timestamp() AS t", window=window)
    assert counts(made, reading("c", 0), reading("c", 9.999), reading("c", 10)) == [(at(9.999), 2)]


def test_several_windows_at_once_tell_theirs(query: MakeQuery) -> None:
    window = "Windows(Window('short', TumblingWindow(second, 5)), Window('long', TumblingWindow(second, 10)))"
    made = query("System.Window().Id AS id, count(*) AS n, System.Timestamp() AS t", window=window)
    (step,) = run(made, cut([reading("c", 1), reading("c", 7), reading("c", 11)], []))
    assert data_of(step.outputs) == [
        {"id": "short", "n": 1, "t": at(5)},
        {"id": "short", "n": 1, "t": at(10)},
        {"id": "long", "n": 2, "t": at(10)},
    ]
    assert step.outputs is not None
    assert len(set(step.outputs.column("id").to_pylist())) == 3
    assert step.counts["processed"] == 3


def test_windows_without_an_id_say_null_and_have_different_events(query: MakeQuery) -> None:
    made = query("System.Window().Id AS id", window="Windows(TumblingWindow(second, 5), TumblingWindow(second, 10))")
    (step,) = run(made, cut([reading("c", 7), reading("c", 11)], []))
    assert data_of(step.outputs) == [{"id": None}, {"id": None}]
    assert step.outputs is not None
    assert len(set(step.outputs.column("id").to_pylist())) == 2


def test_snapshot_groups_events_of_the_same_instant(query: MakeQuery) -> None:
    made = query("count(*) AS n, System.Timestamp() AS t", window="System.Timestamp()")
    assert counts(made, reading("c", 1), reading("c", 1), reading("c", 2), reading("c", 3)) == [(at(1), 2), (at(2), 1)]


def test_having_chooses_among_overlapping_windows(query: MakeQuery) -> None:
    made = query(
        "System.Timestamp() AS t", window="HoppingWindow(second, 10, 5)", rest="TIMESTAMP BY ts HAVING count(*) > 1"
    )
    assert [r["t"] for r in results(made, reading("c", 4), reading("c", 6), reading("c", 40))] == [at(10)]
