"""Sliding windows and sessions: what a person would look at. (The definition: the oracle.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.windows import Record, Store, Ticked, at, cut, data_of, reading, run

from millstream.clock import SECOND
from millstream.engine import WindowedQuery

MakeQuery = Callable[..., WindowedQuery]
SELECT = "count(*) AS n, System.Timestamp() AS t"


def counts(query: WindowedQuery, *log: Record) -> list[tuple[str, int]]:
    (step,) = run(query, cut(log, []))
    return [(result["t"], result["n"]) for result in data_of(step.outputs)]


def test_sliding_window_has_a_result_when_an_event_comes_in_or_goes_out(query: MakeQuery) -> None:
    """The example of Stream Analytics' documentation: A at 34, B at 38, C at 42, and windows of 5."""
    made = query(SELECT, window="SlidingWindow(second, 5)")
    log: list[Record] = [reading("c", second) for second in (34, 38, 42)]
    assert counts(made, *log, Ticked(70)) == [(at(34), 1), (at(38), 2), (at(39), 1), (at(42), 2), (at(43), 1)]


def test_sliding_windows_of_groups_change_by_themselves(query: MakeQuery) -> None:
    made = query("line, " + SELECT, groups="device, line", window="SlidingWindow(second, 5)")
    log: list[Record] = [reading("c", 1, line="x"), reading("c", 3, line="y"), reading("c", 4, line="x"), Ticked(60)]
    (step,) = run(made, cut(log, []))
    found = [(r["line"], r["t"], r["n"]) for r in data_of(step.outputs)]
    assert found == [("x", at(1), 1), ("y", at(3), 1), ("x", at(4), 2), ("x", at(6), 1)]


def test_event_whose_instant_is_closed_is_late_for_windows_that_move(query: MakeQuery) -> None:
    for window in ("SlidingWindow(second, 5)", "SessionWindow(second, 5)"):
        made = query("count(*) AS n", window=window, grace=2 * SECOND)
        (step,) = run(made, cut([reading("c", 10), reading("c", 8), reading("c", 7.9)], []))
        assert (step.counts["processed"], step.counts["late"]) == (2, 1)


def test_session_ends_its_timeout_after_its_last_event(query: MakeQuery) -> None:
    made = query(SELECT, window="SessionWindow(second, 5)")
    log = [reading("c", second) for second in (1, 5, 10, 15.1, 30)]
    assert counts(made, *log) == [(at(15), 3), (at(20.1), 1)]


def test_session_of_a_silent_device_ends_by_tick(query: MakeQuery) -> None:
    made = query(SELECT, window="SessionWindow(second, 5)")
    steps = run(made, cut([reading("c", 1), reading("c", 4), Ticked(18.9), Ticked(19)], [3]))
    assert [len(data_of(step.outputs)) for step in steps] == [0, 1]


def test_session_is_cut_at_multiples_of_its_maximum_duration(query: MakeQuery) -> None:
    """It is looked at 10, 20, 30 …: at 10 the session from 2 has lasted 8; at 20 it has lasted 18 and ends. What
    follows began there."""
    made = query(SELECT, window="SessionWindow(second, 5, 10) OVER (PARTITION BY device)")
    log = [reading("c", second) for second in range(2, 33, 3)]  # 2, 5, …, 32
    assert counts(made, *log, Ticked(60)) == [(at(20), 7), (at(30), 3), (at(37), 1)]


def test_session_that_was_cut_goes_on_after_a_restart(query: MakeQuery) -> None:
    made, store, found = query(SELECT, window="SessionWindow(second, 5, 10)"), Store(), []
    made.restore(0, {})
    for batches in cut([*(reading("c", second) for second in range(2, 33, 3)), Ticked(60)], [1] * 12):
        step = made.step(batches)
        store.commit(step)
        found += [(r["t"], r["n"]) for r in data_of(step.outputs)]
        made.forget(0)
        made.restore(0, store.chunks[0])
    assert found == [(at(20), 7), (at(30), 3), (at(37), 1)]


def test_long_session_keeps_one_pane_for_each_stretch(query: MakeQuery) -> None:
    made = query("count(*) AS n", window="SessionWindow(second, 5)")
    made.restore(0, {})
    for batches in cut([reading("c", n / 10) for n in range(40_000)], [1000] * 39):
        made.step(batches)
    assert len(made._state.panes) < 10_000


def test_sliding_windows_of_many_keys_and_any_aggregate(query: MakeQuery) -> None:
    select = "device, avg(v) AS mean, min(v) AS low, count(*) FILTER (WHERE v > 1) AS high, System.Timestamp() AS t"
    log = [reading(key, second, v=second) for second in (1, 2, 3) for key in "ab"]
    (step,) = run(query(select, window="SlidingWindow(second, 2)"), cut([*log, Ticked(60)], []))
    expected: list[dict[str, Any]] = []
    for t, inside in ((1, [1]), (2, [1, 2]), (3, [2, 3]), (4, [3])):
        for key in "ab":
            high = sum(v > 1 for v in inside)
            mean = sum(inside) / len(inside)
            expected.append({"device": key, "mean": mean, "low": min(inside), "high": high, "t": at(t)})
    assert data_of(step.outputs) == expected
