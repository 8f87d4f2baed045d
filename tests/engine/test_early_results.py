"""Early results: what a person would look at, and any log against the definition."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.depth import examples
from tests.support.windows import START, Oracle, Record, Sent, Store, Ticked, at, cut, data_of, reading

from millstream.clock import SECOND, Micros
from millstream.engine import WindowedQuery
from millstream.engine.window import Kind, Session, Window
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}
QUERY = """SELECT device, count(*) AS n, sum(v) AS total, min(v) AS low, max(v) AS top,
                  System.Timestamp() AS window_end, System.Window().Id AS kind
           FROM telemetry TIMESTAMP BY ts WHERE ok::BOOLEAN GROUP BY device, {window}"""
WINDOWS: dict[str, list[Kind]] = {
    "TumblingWindow(second, 10)": [Window(10 * SECOND, 10 * SECOND)],
    "HoppingWindow(second, 20, 10, 3)": [Window(20 * SECOND, 10 * SECOND, 3 * SECOND)],
    "Windows(Window('a', TumblingWindow(second, 5)), Window('b', HoppingWindow(second, 9, 6)))": [
        Window(5 * SECOND, 5 * SECOND, 0, "a"),
        Window(9 * SECOND, 6 * SECOND, 0, "b"),
    ],
    "SessionWindow(second, 5)": [Session(5 * SECOND)],
    "SessionWindow(second, 5, 10)": [Session(5 * SECOND, 10 * SECOND)],
}
NAMES = {0: "cd", 1: "ab"}  # the devices of each partition

gaps = st.sampled_from([0, 0, 0.5, 1, 3, 8, 25, 90_000])
delays = st.sampled_from([0, 0, 0, 0.2, 4, 11, 22, -30])


@cache
def query(window: str, early: int, grace: int = 0) -> WindowedQuery:
    text = QUERY.format(window=window)
    plan = plan_query("q", text, STREAMS, into="out", early=early * SECOND, grace=grace * SECOND)
    return WindowedQuery(plan, threads=1)


def split(outputs: pa.RecordBatch | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Final results, and early ones with their mark."""
    if outputs is None:
        return [], []
    is_early = pc.equal(outputs.column("topic"), "q.early")
    early = outputs.filter(is_early)
    marks = [dict(headers)["early-at"] for headers in early.column("headers").to_pylist()]
    told = [{**data, "mark": mark} for data, mark in zip(data_of(early), marks, strict=True)]
    return data_of(outputs.filter(pc.invert(is_early))), told


def test_open_windows_are_told_at_a_mark_and_again_when_something_has_come() -> None:
    made = query("TumblingWindow(second, 60)", 10)
    made.forget(0)
    made.restore(0, {})
    log: list[Record] = [
        reading("c", 3, v=1, ok=True),
        reading("d", 12, v=5, ok=True),
        Ticked(15),  # late: the mark at 10 has passed with the event at 12
        Ticked(20),
        reading("c", 25, v=2, ok=True),
        Ticked(30),
        Ticked(40),  # nothing has come since
        reading("c", 61, v=9, ok=True),
    ]
    found = [split(made.step(batches).outputs) for batches in cut(log, [1] * len(log))]
    early = [[(one["device"], one["n"], one["mark"]) for one in told] for _, told in found]
    assert early == [[], [("c", 1, at(10))], [], [("d", 1, at(20))], [], [("c", 2, at(30))], [], []]
    final = [[(one["device"], one["n"]) for one in results] for results, _ in found]
    assert final == [[], [], [], [], [], [], [], [("c", 2)]]


def test_an_early_result_has_an_id_and_a_topic_of_its_own() -> None:
    made = query("TumblingWindow(second, 60)", 10)
    made.forget(0)
    made.restore(0, {})
    log: list[Record] = [reading("c", 3, v=1, ok=True), Ticked(10), reading("c", 12, v=1, ok=True), Ticked(20)]
    (batches,) = cut([*log, reading("c", 61, v=1, ok=True)], [])
    outputs = made.step(batches).outputs
    assert outputs is not None
    end, marks = START + 60 * SECOND, (START + 10 * SECOND, START + 20 * SECOND)
    assert outputs.column("topic").to_pylist() == ["q.early", "q.early", "out"]
    assert outputs.column("id").to_pylist() == [*(f"q:c:{end}:{mark}" for mark in marks), f"q:c:{end}"]
    assert outputs.column("key").to_pylist() == ["c", "c", "c"]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_mark_that_was_passed_is_not_told_again_after_a_restart(restarts: bool) -> None:
    made, store, found = query("TumblingWindow(second, 60)", 10), Store(), []
    made.forget(0)
    made.restore(0, {})
    for batches in cut([reading("c", 3, v=1, ok=True), Ticked(10), Ticked(11), reading("d", 12, ok=True)], [1] * 4):
        step = made.step(batches)
        store.commit(step)
        found += split(step.outputs)[1]
        if restarts:
            made.forget(0)
            made.restore(0, store.chunks[0])
    assert [(one["device"], one["mark"]) for one in found] == [("c", at(10))]


def test_a_query_that_has_no_early_results_any_more_goes_on() -> None:
    made, store = query("TumblingWindow(second, 60)", 10), Store()
    made.forget(0)
    made.restore(0, {})
    for batches in cut([reading("c", 3, v=1, ok=True), Ticked(10)], [1, 1]):
        store.commit(made.step(batches))
    without = WindowedQuery(replace(made.plan, early=0), threads=1)
    without.restore(0, store.chunks[0])
    (batches,) = cut([reading("c", 61, v=1, ok=True)], [])
    assert [one["n"] for one in data_of(without.step(batches).outputs)] == [1]


@dataclass(slots=True)
class EarlyOracle(Oracle):
    """The definition, with what it tells early by partition and key."""

    early: Micros = SECOND
    intervals: dict[int, int] = field(default_factory=dict)
    told: dict[tuple[int, str], list[dict[str, Any]]] = field(default_factory=dict)

    def feed(self, place: int, record: Record) -> None:
        interval = (START + round(record.seconds * SECOND)) // self.early
        before = self.intervals.setdefault(record.partition, interval)
        if interval > before:
            mark = at(((before + 1) * self.early - START) / SECOND)
            for name, key in self.keys.items():
                if name[0] == record.partition and key.seen // self.early == before:
                    inside = self._all(key)
                    for end, number in sorted(self._open(key)):
                        values = [value for value in inside[end, number] if value is not None]
                        told = {
                            "device": name[1],
                            "n": len(inside[end, number]),
                            "total": sum(values) if values else None,
                            "low": min(values, default=None),
                            "top": max(values, default=None),
                            "window_end": at((end - START) / SECOND),
                            "kind": self.windows[number].id,
                            "mark": mark,
                        }
                        self.told.setdefault(name, []).append(told)
            self.intervals[record.partition] = interval
        Oracle.feed(self, place, record)

    def due(self, partition: int) -> Micros | None:
        interval = self.intervals.get(partition)
        dues = [Oracle.due(self, partition)]
        for (its, _), key in self.keys.items():
            if its == partition and interval is not None and key.seen // self.early == interval and self._open(key):
                dues.append((interval + 1) * self.early)
        return min((due for due in dues if due is not None), default=None)


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    now = {0: 0.0, 1: 0.0}
    log: list[Record] = []
    for kind in draw(st.lists(st.integers(0, 12), min_size=1, max_size=40)):
        partition = draw(st.integers(0, 1))
        now[partition] += draw(gaps)
        key = draw(st.sampled_from(NAMES[partition]))
        if kind <= 3:
            log.append(Ticked(now[partition], partition))
        elif kind == 4:
            log.append(Sent(key, now[partition], b"broken", partition))
        else:
            value = draw(st.one_of(st.none(), st.integers(-5, 5)))
            sent = reading(key, now[partition] - draw(delays), now[partition], v=value, ok=kind > 5)
            log.append(replace(sent, partition=partition))
    return log


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=logs(),
    lengths=st.lists(st.integers(1, 12), max_size=12),
    failures=st.sets(st.integers(0, 12)),
    restarts=st.sets(st.integers(0, 12)),
    window=st.sampled_from(list(WINDOWS)),
    early=st.sampled_from([1, 4, 30]),
    grace=st.sampled_from([0, 0, 2]),
)
def test_early_and_final_results_are_those_of_the_definition(
    log: list[Record],
    lengths: list[int],
    failures: set[int],
    restarts: set[int],
    window: str,
    early: int,
    grace: int,
) -> None:
    """However the log is cut into steps, of which some have to be repeated, and whenever a worker begins anew."""
    made, store = query(window, early, grace), Store()
    oracle = EarlyOracle(WINDOWS[window], (10 + grace) * SECOND, grace * SECOND, early=early * SECOND)
    finals: dict[tuple[int, str], list[dict[str, Any]]] = {}
    told: dict[tuple[int, str], list[dict[str, Any]]] = {}
    fed = 0
    restore(made, store)
    for number, batches in enumerate(cut(log, lengths)):
        step = made.step(batches)
        if number in failures:  # the commit failed: as if the step had not been
            restore(made, store)
            step = made.step(batches)
        store.commit(step)
        length = sum(len(batch) + len(batch.ticks) for batch in batches)
        for place in range(fed, fed + length):
            oracle.feed(place, log[place])
        fed += length
        for into, results in zip((finals, told), split(step.outputs), strict=True):
            for result in results:
                into.setdefault((int(result["device"] in NAMES[1]), result["device"]), []).append(result)
        for batch in batches:
            assert store.due.get(batch.partition) == oracle.due(batch.partition)
        if number in restarts:
            restore(made, store)
    assert finals == oracle.results
    assert told == oracle.told


def restore(made: WindowedQuery, store: Store) -> None:
    for partition in NAMES:
        made.forget(partition)
        made.restore(partition, store.chunks.get(partition, {}))
