"""Joins of events with events, against their definition."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.depth import examples
from tests.support.joins import NAMES, JoinOracle, dense, logs
from tests.support.windows import Record, Sent, Store, Ticked, cut, data_of, reading, run

from millstream.clock import SECOND, to_micros
from millstream.engine import JoinQuery, Processor, WindowPlan, processor_of
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {
    "telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device"),
    "asked": StreamSpec("asked", ("site/{site}/{device}/telemetry",), key="device"),
    "told": StreamSpec("told", ("site/{site}/{machine}/telemetry",), key="machine"),
}
ON = "a.device = b.device AND DATEDIFF(second, a, b) BETWEEN {low} AND {high} AND a.v <= b.v"
QUERIES = {
    "self": "SELECT a.device, a.v, b.v AS w, System.Timestamp() AS t FROM telemetry a TIMESTAMP BY ts "
    "{join} telemetry b TIMESTAMP BY ts ON {on} AND b.kind = 'y' WHERE a.kind = 'x'",
    "steps": "WITH a AS (SELECT device AS machine, v FROM telemetry TIMESTAMP BY ts WHERE kind = 'x'), "
    "b AS (SELECT device AS machine, v + 0 AS v FROM telemetry TIMESTAMP BY ts WHERE kind = 'y') "
    "SELECT a.machine AS device, a.v, b.v AS w, System.Timestamp() AS t FROM a {join} b "
    "ON a.machine = b.machine AND DATEDIFF(second, b, a) BETWEEN {most} AND {least} AND a.v <= b.v",
}
TWO = """
    SELECT a.device, a.v, b.v AS w, System.Timestamp() AS t FROM asked a TIMESTAMP BY ts {join} told b TIMESTAMP BY ts
    ON a.device = b.machine AND DATEDIFF(second, a, b) BETWEEN {low} AND {high} AND a.v <= b.v AND b.kind = 'y'
    WHERE a.kind = 'x'"""
BOUNDS = [(0, 10), (1, 5), (-4, 4), (0, 0), (-10, -2), (2, 2)]


@st.composite
def lagging(draw: st.DrawFn) -> list[Record]:
    """One device, whose events arrive late by turns, and which is silent for a while again and again."""
    now, lag, log = 0.0, 0.0, list[Record]()
    for _ in range(draw(st.integers(2, 12))):
        now += draw(st.sampled_from([1, 4, 12, 25]))
        lag = max(0, lag + draw(st.sampled_from([0, 0, -10, 12, 25])))
        log.append(
            Ticked(now)
            if draw(st.booleans()) and lag
            else reading("c", now - lag, now, v=1, kind=draw(st.sampled_from("xy")))
        )
    return log


def planned(kind: str, bound: tuple[int, int], optional: bool, grace: int) -> WindowPlan:
    low, high = bound
    on = ON.format(low=low, high=high)
    text = QUERIES[kind].format(join="LEFT JOIN" if optional else "JOIN", on=on, most=-high, least=-low)
    return plan_query("q", text, STREAMS, into="out", grace=grace * SECOND)


@cache
def query(kind: str, bound: tuple[int, int], optional: bool, grace: int) -> Processor:
    return processor_of(planned(kind, bound, optional, grace))


def restore(processor: Processor, store: Store) -> None:
    for partition in NAMES:
        processor.forget(partition)
        processor.restore(partition, store.chunks.get(partition, {}))


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=st.one_of(logs(), dense()),
    lengths=st.one_of(st.lists(st.integers(1, 12), max_size=12), st.lists(st.integers(1, 3), min_size=4, max_size=12)),
    failures=st.sets(st.integers(0, 12)),
    kind=st.sampled_from(list(QUERIES)),
    bound=st.sampled_from(BOUNDS),
    optional=st.booleans(),
    grace=st.sampled_from([0, 0, 2, 15]),
)
def test_results_are_those_of_the_definition(
    log: list[Record],
    lengths: list[int],
    failures: set[int],
    kind: str,
    bound: tuple[int, int],
    optional: bool,
    grace: int,
) -> None:
    """Any log, cut in any way, with failed commits and restarts at any step."""
    check(query(kind, bound, optional, grace), log, lengths, failures, bound, optional, grace)


def check(
    processor: Processor,
    log: list[Record],
    lengths: list[int],
    failures: set[int],
    bound: tuple[int, int],
    optional: bool,
    grace: int,
) -> None:
    oracle = JoinOracle(*bound, grace * SECOND, (10 + grace) * SECOND)
    oracle.feed(log)
    store = Store()
    found: dict[str, list[tuple[int | None, int | None, int]]] = {}
    ids: list[str] = []
    counts: dict[str, int] = {}
    restore(processor, store)
    for number, batches in enumerate(cut(log, lengths)):
        step = processor.step(batches)
        if number in failures:
            restore(processor, store)
            step = processor.step(batches)
        store.commit(step)
        for result in data_of(step.outputs):
            time = to_micros(datetime.fromisoformat(result["t"]))
            found.setdefault(result["device"], []).append((result["v"], result["w"], time))
        ids += [] if step.outputs is None else step.outputs.column("id").to_pylist()
        for name, count in {**step.counts, **step.notes}.items():
            counts[name] = counts.get(name, 0) + count
        assert sum(step.counts.values()) == sum(map(len, batches))
        assert len(step.rejected) == step.counts["rejected"]
        assert (0 if step.late is None else len(step.late)) == step.counts["late"]
    assert found == oracle.results(optional)
    assert len(set(ids)) == len(ids) == counts["results"]
    assert {name: counts[name] for name in oracle.counts()} == oracle.counts()
    assert counts["clamped"] == oracle.clamped


def planned_of_two(bound: tuple[int, int], optional: bool, grace: int) -> WindowPlan:
    low, high = bound
    text = TWO.format(join="LEFT JOIN" if optional else "JOIN", low=low, high=high)
    return plan_query("q", text, STREAMS, into="out", grace=grace * SECOND)


@cache
def processors(bound: tuple[int, int], optional: bool, grace: int) -> tuple[Processor, Processor]:
    """Two workers' processors of a query over two streams."""
    plan = planned_of_two(bound, optional, grace)
    return processor_of(plan), processor_of(plan)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    asked=st.one_of(logs(), dense(), lagging(), lagging()),
    told=st.one_of(logs(), dense(), lagging(), lagging()),
    lengths=st.tuples(*[st.lists(st.integers(1, 8), max_size=12)] * 2),
    turns=st.lists(st.sampled_from(["asked", "told", "both"]), max_size=24),
    failures=st.sets(st.integers(0, 24)),
    moves=st.lists(st.sampled_from([None, None, 0, 1]), max_size=24),
    bound=st.sampled_from(BOUNDS),
    optional=st.booleans(),
    grace=st.sampled_from([0, 0, 2, 15]),
)
def test_results_of_two_streams_are_those_of_the_definition_however_far_which_is_read(
    asked: list[Record],
    told: list[Record],
    lengths: tuple[list[int], list[int]],
    turns: list[str],
    failures: set[int],
    moves: list[int | None],
    bound: tuple[int, int],
    optional: bool,
    grace: int,
) -> None:
    """Any logs of two streams, cut in any way and read in any order, with failed commits and partitions that go from
    one worker to another one and back."""
    workers = processors(bound, optional, grace)
    check_two(workers, asked, told, lengths, turns, failures, moves, bound, optional, grace)


def check_two(
    workers: tuple[Processor, Processor],
    asked: list[Record],
    told: list[Record],
    lengths: tuple[list[int], list[int]],
    turns: list[str],
    failures: set[int],
    moves: list[int | None],
    bound: tuple[int, int],
    optional: bool,
    grace: int,
) -> None:
    oracle = JoinOracle(*bound, grace * SECOND, (10 + grace) * SECOND)
    oracle.feed(asked, "asked", "x")
    oracle.feed(told, "told", "y")
    owner, store = dict.fromkeys(NAMES, 0), Store()
    for worker in workers:
        for partition in NAMES:
            worker.forget(partition)
    for partition in NAMES:
        workers[0].restore(partition, {})
    left = {"asked": cut(asked, lengths[0], "asked"), "told": cut(told, lengths[1], "told")}
    found: dict[str, list[tuple[int | None, int | None, int]]] = {}
    counts: dict[str, int] = {}
    number = 0
    for turn in (*turns, *["asked"] * 50, *["told"] * 50):
        streams = ("asked", "told") if turn == "both" else (turn,)
        read = [batch for stream in streams if left[stream] for batch in left[stream].pop(0)]
        move = moves[number] if number < len(moves) else None
        number += bool(read)
        if read and move is not None:
            workers[owner[move]].forget(move)
            owner[move] = 1 - owner[move]
            workers[owner[move]].restore(move, store.chunks.get(move, {}))
        for which, worker in enumerate(workers):
            batches = [batch for batch in read if owner[batch.partition] == which]
            step = worker.step(batches)
            if number in failures:
                for partition in {batch.partition for batch in batches}:
                    worker.forget(partition)
                    worker.restore(partition, store.chunks.get(partition, {}))
                step = worker.step(batches)
            store.commit(step)
            for result in data_of(step.outputs):
                time = to_micros(datetime.fromisoformat(result["t"]))
                found.setdefault(result["device"], []).append((result["v"], result["w"], time))
            for name, count in step.counts.items():
                counts[name] = counts.get(name, 0) + count
            assert sum(step.counts.values()) == sum(map(len, batches))
    expected = oracle.results(optional)
    assert {key: Counter(rows) for key, rows in found.items()} == {key: Counter(rows) for key, rows in expected.items()}
    assert {name: counts.get(name, 0) for name in oracle.counts()} == oracle.counts()


def test_many_threads_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.engine.pieces._PIECE_ROWS", 16)
    monkeypatch.setattr("millstream.engine.inputs._FEW_ROWS", 16)
    log: list[Record] = [
        reading(f"{n % 7}", (n + 1) / 10, v=n % 13, kind="xy"[n % 2]) if n % 50 else Sent(f"{n % 7}", n / 10, b"bad")
        for n in range(1, 400)
    ]
    text = QUERIES["self"].format(join="LEFT JOIN", on=ON.format(low=-4, high=4))
    plan = plan_query("q", text, STREAMS, into="out")
    assert plan.join is not None
    one, many = (run(JoinQuery(plan, plan.join, threads=threads), cut(log, [200])) for threads in (1, 3))
    assert [(step.counts, step.rejected) for step in many] == [(step.counts, step.rejected) for step in one]
    assert [data_of(step.outputs) for step in many] == [data_of(step.outputs) for step in one]
    assert sum(step.notes["results"] for step in many) > 100
