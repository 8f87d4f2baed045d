"""Sides of a join that look back, or have a row for each element of an event: against the same join of plain events,
which have what is found, or one of the elements, by themselves."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.depth import examples
from tests.support.joins import JoinOracle, dense, logs
from tests.support.windows import Record, Sent, Store, at, cut, data_of, reading, run

from millstream.clock import SECOND, to_micros
from millstream.engine import Processor, processor_of
from millstream.errors import QueryError
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}
PARTITIONS = (0, 1)
LAG = "LAG(v) OVER (LIMIT DURATION(second, 20))"
READ = "telemetry a TIMESTAMP BY ts {join} telemetry b TIMESTAMP BY ts ON a.device = b.device"
NEAR = "DATEDIFF(second, {one}, {other}) BETWEEN -4 AND 4"
LOOKING = {
    "step": f"""WITH a AS (SELECT device, {LAG} AS v FROM telemetry TIMESTAMP BY ts WHERE kind = 'x'),
                     b AS (SELECT device, v FROM telemetry TIMESTAMP BY ts WHERE kind = 'y')
                SELECT a.device, a.v, b.v AS w, System.Timestamp() AS t FROM a {{join}} b
                ON a.device = b.device AND {NEAR.format(one="a", other="b")} AND a.v <= b.v""",
    "direct": f"""SELECT a.device, LAG(a.v::BIGINT) OVER (LIMIT DURATION(second, 20)) AS v, b.v AS w,
                         System.Timestamp() AS t FROM {READ} AND {NEAR.format(one="a", other="b")}
                  AND LAG(a.v::BIGINT) OVER (LIMIT DURATION(second, 20)) <= b.v AND b.kind = 'y' WHERE a.kind = 'x'""",
}
ELEMENTS = f"""WITH a AS (SELECT t.device, r.ArrayValue AS v FROM telemetry t TIMESTAMP BY t.ts
                          CROSS APPLY GetArrayElements(t.all) AS r WHERE t.kind = 'x'),
                    b AS (SELECT t.device, r.ArrayValue AS v FROM telemetry t TIMESTAMP BY t.ts
                          CROSS APPLY GetArrayElements(t.all) AS r WHERE t.kind = 'y')
               SELECT a.device, a.v, b.v AS w, System.Timestamp() AS t FROM a {{join}} b
               ON a.device = b.device AND {NEAR.format(one="a", other="b")} AND a.v::BIGINT <= b.v::BIGINT"""
Rows = dict[str, list[tuple[int | None, int | None, int]]]


@cache
def query(text: str, grace: int = 0) -> Processor:
    return processor_of(plan_query("q", text, STREAMS, into="out", grace=grace * SECOND))


def restore(processor: Processor, store: Store) -> None:
    for partition in PARTITIONS:
        processor.forget(partition)
        processor.restore(partition, store.chunks.get(partition, {}))


def play(processor: Processor, log: list[Record], lengths: list[int], failures: set[int]) -> tuple[Rows, list[str]]:
    """The results by device and their ids, with failed commits and restarts at some steps."""
    store, found, ids = Store(), Rows(), list[str]()
    restore(processor, store)
    for number, batches in enumerate(cut(log, lengths)):
        step = processor.step(batches)
        if number in failures:
            restore(processor, store)
            step = processor.step(batches)
        store.commit(step)
        assert sum(step.counts.values()) == sum(map(len, batches))
        for result in data_of(step.outputs):
            time = to_micros(datetime.fromisoformat(result["t"]))
            found.setdefault(result["device"], []).append((result["v"], result["w"], time))
        ids += [] if step.outputs is None else step.outputs.column("id").to_pylist()
    return found, ids


def changed(record: Sent, **fields: Any) -> Sent:
    """A record with further fields, if it has any."""
    try:
        payload = json.loads(record.payload.decode())
    except ValueError:
        return record
    return replace(record, payload=json.dumps(payload | fields).encode()) if isinstance(payload, dict) else record


def looked(log: Sequence[Record]) -> list[Record]:
    """The log, with what its events find in the place of `v` where their kind is x."""
    (step,) = run(query(f"SELECT {LAG} AS v FROM telemetry TIMESTAMP BY ts"), cut(log, []), PARTITIONS)
    ids = [] if step.outputs is None else step.outputs.column("id").to_pylist()
    values: dict[str, Any] = defaultdict(lambda: None)
    values |= {place: row["v"] for place, row in zip(ids, data_of(step.outputs), strict=True)}
    return [
        changed(record, v=values[place]) if isinstance(record, Sent) and _kind(record) == "x" else record
        for place, record in placed(log)
    ]


def placed(log: Sequence[Record]) -> Iterable[tuple[str, Record]]:
    offsets = dict.fromkeys(PARTITIONS, -1)
    for record in log:
        offsets[record.partition] += 1
        yield f"q:telemetry:{record.partition}:{offsets[record.partition]}", record


def _kind(record: Sent) -> Any:
    try:
        return json.loads(record.payload.decode()).get("kind")
    except (ValueError, AttributeError):
        return None


def divided(log: Sequence[Record]) -> list[Record]:
    """The log, with an event for each element; of one without any, one that no side takes."""
    found: list[Record] = []
    for record in log:
        elements = (
            json.loads(record.payload.decode()).get("all") if isinstance(record, Sent) and _kind(record) else None
        )
        if isinstance(record, Sent) and elements is not None:
            found += [changed(record, v=v) for v in elements] or [changed(record, kind="z")]
        else:
            found.append(record)
    return found


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=st.one_of(logs(), dense()),
    lengths=st.lists(st.integers(1, 8), max_size=12),
    failures=st.sets(st.integers(0, 12)),
    text=st.sampled_from(list(LOOKING.values())),
    optional=st.booleans(),
    grace=st.sampled_from([0, 2, 15]),
)
def test_a_side_that_looks_back_is_joined_as_events_that_have_what_it_finds(
    log: list[Record], lengths: list[int], failures: set[int], text: str, optional: bool, grace: int
) -> None:
    oracle = JoinOracle(-4, 4, grace * SECOND, (10 + grace) * SECOND)
    oracle.feed(looked(log))
    processor = query(text.format(join="LEFT JOIN" if optional else "JOIN"), grace)
    found, ids = play(processor, log, lengths, failures)
    assert found == oracle.results(optional)
    assert len(set(ids)) == len(ids)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=st.one_of(logs(), dense()),
    elements=st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1),
    lengths=st.lists(st.integers(1, 8), max_size=12),
    failures=st.sets(st.integers(0, 12)),
    optional=st.booleans(),
    grace=st.sampled_from([0, 2, 15]),
)
def test_rows_of_what_is_inside_are_joined_as_events(
    log: list[Record],
    elements: list[list[int]],
    lengths: list[int],
    failures: set[int],
    optional: bool,
    grace: int,
) -> None:
    log = [
        changed(record, all=elements[number % len(elements)]) if isinstance(record, Sent) else record
        for number, record in enumerate(log)
    ]
    oracle = JoinOracle(-4, 4, grace * SECOND, (10 + grace) * SECOND)
    oracle.feed(divided(log))
    found, ids = play(query(ELEMENTS.format(join="LEFT JOIN" if optional else "JOIN"), grace), log, lengths, failures)
    expected = oracle.results(optional)  # pairs of the same two events come in the order of the left one's elements
    assert {key: Counter(rows) for key, rows in found.items()} == {key: Counter(rows) for key, rows in expected.items()}
    assert len(set(ids)) == len(ids)


def test_how_much_more_than_before_an_order_was_when_it_was_answered() -> None:
    text = """SELECT a.n, a.n - LAG(a.n) OVER (LIMIT DURATION(hour, 1) WHEN a.kind = 'order') AS more, b.n AS m
              FROM telemetry a TIMESTAMP BY ts JOIN telemetry b TIMESTAMP BY ts
              ON a.device = b.device AND DATEDIFF(second, a, b) BETWEEN 0 AND 10
              WHERE a.kind = 'order' AND b.kind = 'answer'"""
    log = [reading("c", 1, kind="order", n=3), reading("c", 2, kind="other", n=9), reading("c", 30, kind="order", n=5)]
    log.append(reading("c", 31, kind="answer", n=7))
    (step,) = run(query(text), cut(log, []))
    assert data_of(step.outputs) == [{"n": 5, "more": 2, "m": 7}]


def test_a_pair_of_elements_has_an_id_of_its_own_and_outer_apply_keeps_events_without_any() -> None:
    text = """WITH a AS (SELECT t.device, r.ArrayValue.n AS n FROM telemetry t TIMESTAMP BY ts
                         OUTER APPLY GetArrayElements(t.parts) AS r WHERE t.kind = 'x')
              SELECT a.n, b.v, System.Timestamp() AS t FROM a JOIN telemetry b TIMESTAMP BY ts
              ON a.device = b.device AND DATEDIFF(second, a, b) BETWEEN 1 AND 10"""
    log = [reading("c", 1, kind="x", parts=[{"n": 1}, {"n": 2}]), reading("c", 2, kind="x"), reading("c", 3, v=8)]
    steps = run(query(text), cut(log, [1, 1]))
    assert [data_of(step.outputs) for step in steps] == [
        [],
        [{"n": n, "v": None, "t": at(2)} for n in (1, 2)],
        [{"n": n, "v": 8, "t": at(3)} for n in (1, 2, None)],
    ]
    assert steps[2].outputs is not None
    ids = [f"q:telemetry:0:{one}:telemetry:2" for one in ("0.0", "0.1", "1.0")]
    assert steps[2].outputs.column("id").to_pylist() == ids
    assert steps[0].counts["processed"] == 1


def test_state_of_a_side_that_looked_back_otherwise_is_refused() -> None:
    store, text = Store(), LOOKING["step"].format(join="JOIN")
    processor = query(text)
    for step in run(processor, cut([reading("c", 1, kind="x", v=1)], [])):
        store.commit(step)
    assert processor.kept(0) == 1
    other = query(text.replace("WHERE kind = 'x'", "WHERE kind = 'z'").replace("LAG(v)", "LAG(w)"))
    with pytest.raises(QueryError, match="give the changed query a new name"):
        other.restore(0, store.chunks[0])
