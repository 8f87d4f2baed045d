"""Windows of so many events: what a person would look at, and any log against one batch query over all of it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.depth import examples
from tests.support.windows import Record, Sent, Store, Ticked, at, cut, data_of, reading, run

from millstream.engine import CountedQuery, processor_of
from millstream.errors import QueryError
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}
WINDOWS = [(1, 1), (3, 3), (7, 7), (4, 2), (5, 1), (5, 2), (6, 5)]  # how many events, and at every which
NAMES = {0: "cd", 1: "ab"}  # the devices of each partition
BAD = [b"", b"{", b"[1]", b'{"ts":"\xff"}', b'{"ok":true}', b'{"ts":"soon","ok":true}']

gaps = st.sampled_from([0, 0.1, 1, 30, 90_000])
delays = st.sampled_from([0, 0, 0.2, 4, 22, 200_000, -30])


def count(select: str, window: str, rest: str = "TIMESTAMP BY ts", groups: str = "device") -> CountedQuery:
    text = f"SELECT {select} FROM telemetry {rest} GROUP BY {groups}, {window}"
    made = processor_of(plan_query("q", text, STREAMS, into="out"))
    assert isinstance(made, CountedQuery)
    return made


def results(query: CountedQuery, *log: Record, lengths: Sequence[int] = ()) -> list[dict[str, Any]]:
    return [result for step in run(query, cut(log, lengths)) for result in data_of(step.outputs)]


def test_window_of_so_many_events_closes_with_the_last_of_them() -> None:
    made = count("count(*) AS n, avg(v) AS mean, System.Timestamp() AS t", "CountWindow(3)")
    steps = run(made, cut([reading("c", second, v=second) for second in range(1, 9)], [2, 1, 1]))
    assert [[result["mean"] for result in data_of(step.outputs)] for step in steps] == [[], [2], [], [5]]


def test_window_moves_by_so_many_events_when_it_is_full() -> None:
    made = count("list(v) AS v", "CountWindow(4, 2)")
    found = results(made, *(reading("c", second, v=second) for second in range(1, 10)), lengths=[1] * 9)
    assert [result["v"] for result in found] == [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8]]


def test_events_count_in_the_order_of_the_log_and_none_is_late() -> None:
    made = count("list(v) AS v, first(v) AS earliest, System.Timestamp() AS t", "CountWindow(2)")
    log = [reading("c", second, 1000 + n, v=second) for n, second in enumerate((50, 10, 30, 20))]
    (step,) = run(made, cut(log, []))
    assert step.counts["late"] == 0
    first, second = data_of(step.outputs)
    assert (first["v"], first["earliest"], first["t"]) == ([10, 50], 10, at(50))  # within it, in the order of time
    assert (second["v"], second["earliest"], second["t"]) == ([20, 30], 20, at(30))


def test_what_where_leaves_out_does_not_count() -> None:
    made = count("list(v) AS v", "CountWindow(2)", "TIMESTAMP BY ts WHERE v > 0")
    log = [reading("c", n, v=v) for n, v in enumerate((1, -1, 0, 2, 3))]
    (step,) = run(made, cut(log, []))
    assert [result["v"] for result in data_of(step.outputs)] == [[1, 2]]
    assert (step.counts["processed"], step.counts["filtered"]) == (3, 2)


def test_each_group_counts_by_itself_and_results_come_as_windows_fill() -> None:
    made = count("line, list(v) AS v", "CountWindow(2)", groups="device, line")
    lines = ["x", "y", None, "y", "x", None, "y", "y"]
    found = results(made, *(reading("c", n, v=n, line=line) for n, line in enumerate(lines)))
    assert [(one["line"], one["v"]) for one in found] == [("y", [1, 3]), ("x", [0, 4]), (None, [2, 5]), ("y", [6, 7])]


def test_window_stays_open_however_long_its_key_is_silent() -> None:
    made, store = count("list(v) AS v", "CountWindow(3)"), Store()
    log: list[Record] = [
        reading("c", 0, v=1),
        reading("c", 1, v=2),
        Ticked(9e4),
        Ticked(4e5),
        reading("d", 4e5),
        reading("c", 5e5, v=3),
    ]
    found = []
    made.restore(0, {})
    for batches in cut(log, [1] * len(log)):
        step = made.step(batches)
        store.commit(step)
        assert not step.due
        found += data_of(step.outputs)
        made.restore(0, store.chunks[0])
    assert [result["v"] for result in found] == [[1, 2, 3]]


def test_silent_groups_are_forgotten_at_midnight_where_the_query_says_after_how_long() -> None:
    made, store = count("list(v) AS v", "CountWindow(2, Keep(day, 2))"), Store()
    made.restore(0, {})
    day = 86_400
    log = [reading(f"d{n}", 10, v=n) for n in range(100)]
    log += [reading("c", 20, v=1), reading("e", 1.5 * day, v=2), reading("x", 2.5 * day), reading("x", 3.5 * day)]
    found = []
    for batches in cut([*log, reading("c", 3.6 * day, v=3), reading("e", 3.6 * day, v=4)], [101, 1, 1, 1]):
        step = made.step(batches)
        store.commit(step)
        found.append(data_of(step.outputs))
        made.forget(0)
        made.restore(0, store.chunks[0])
    # at the third midnight c had been silent for two days, and e not yet
    assert found == [[], [], [], [{"v": [None, None]}], [{"v": [2, 4]}]]
    assert sum(map(len, store.chunks[0].values())) < 3000


def test_how_long_groups_are_kept_may_change() -> None:
    store = Store()
    (step,) = run(count("list(v) AS v", "CountWindow(2)"), cut([reading("c", 0, v=1)], []))
    store.commit(step)
    made = count("list(v) AS v", "CountWindow(2, Keep(day, 7))")
    made.restore(0, store.chunks[0])
    (batches,) = cut([reading("c", 1), reading("c", 9, v=2)], [1])[1:]
    assert data_of(made.step(batches).outputs) == [{"v": [1, 2]}]


def test_elements_of_an_array_count_each() -> None:
    made = count(
        "list(r.ArrayValue::INT) AS v", "CountWindow(2)", "TIMESTAMP BY ts CROSS APPLY GetArrayElements(vs) AS r"
    )
    (step,) = run(made, cut([reading("c", 1, vs=[1, 2, 3]), reading("c", 2, vs=[]), reading("c", 3, vs=[4, 5])], []))
    assert [result["v"] for result in data_of(step.outputs)] == [[1, 2], [3, 4]]
    assert (step.counts["processed"], step.counts["filtered"]) == (2, 1)


def test_what_an_event_finds_when_it_looks_back_is_counted_on() -> None:
    made = count("list(v - LAG(v) OVER (LIMIT DURATION(hour, 1))) AS rise", "CountWindow(2)")
    found = results(made, *(reading("c", n, v=v) for n, v in enumerate((1, 4, 4, 9))), lengths=[1, 2])
    assert [result["rise"] for result in found] == [[None, 3], [0, 5]]


def test_window_that_waits_is_shown_as_it_is() -> None:
    made = count("device, list(v) AS v", "CountWindow(4, 2)")
    results(made, *(reading("c", n, v=n) for n in range(5)), reading("d", 9, v=9))
    assert data_of(made.waiting(0)) == [{"device": "c", "v": [2, 3, 4]}, {"device": "d", "v": [9]}]
    assert made.waiting(1) is None


def test_results_have_ids_of_their_own() -> None:
    made = count("line", "CountWindow(2, 1)", groups="device, line")
    log = [reading(key, n, line=line) for n, (key, line) in enumerate(zip("cdcdcdccdd", "xyxyxyyyxx", strict=True))]
    (step,) = run(made, cut(log, []))
    assert step.outputs is not None
    ids = step.outputs.column("id").to_pylist()
    assert len(ids) == len(set(ids)) == 6
    assert step.outputs.column("key").to_pylist() == list("cdcdcd")


def test_state_of_another_size_is_refused() -> None:
    made, store = count("count(*) AS n", "CountWindow(3)"), Store()
    (step,) = run(made, cut([reading("c", 1)], []))
    store.commit(step)
    for window in ("CountWindow(4)", "TumblingWindow(second, 3)"):
        plan = plan_query("q", f"SELECT count(*) AS n FROM telemetry GROUP BY device, {window}", STREAMS, into="out")
        with pytest.raises(QueryError, match="give the changed query a new name"):
            processor_of(plan).restore(0, store.chunks[0])


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """Two partitions; events are out of order, days apart, repeated, broken or left out; ticks are of no concern."""
    now = {0: 0.0, 1: 0.0}
    log: list[Record] = []
    for kind in draw(st.lists(st.integers(0, 14), min_size=1, max_size=50)):
        partition = draw(st.integers(0, 1))
        now[partition] += draw(gaps)
        key = draw(st.sampled_from(NAMES[partition]))
        if kind == 0:
            log.append(Ticked(now[partition], partition))
        elif kind == 1:
            log.append(Sent(key, now[partition], draw(st.sampled_from(BAD)), partition))
        elif kind == 2 and isinstance(log[-1:] and log[-1], Sent):
            log.append(log[-1])
        else:
            line = draw(st.sampled_from(["x", "x", "y", None]))
            value = draw(st.one_of(st.none(), st.integers(-5, 5)))
            sent = reading(key, now[partition] - draw(delays), now[partition], line=line, v=value, ok=kind > 3)
            log.append(replace(sent, partition=partition))
    return log


@cache
def workers(size: int, hop: int, keep: int) -> list[CountedQuery]:
    window = f"CountWindow({size}{f', {hop}' * (hop < size)}{f', Keep(day, {keep})' * (keep > 0)})"
    select = """line, count(*) AS n, sum(v) AS total, avg(v) AS mean, min(v) AS low, median(v) AS middle,
                last(v) AS last, System.Timestamp() AS t"""
    return [count(f"device, {select}", window, "TIMESTAMP BY ts WHERE ok::BOOLEAN", "device, line") for _ in range(2)]


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=logs(),
    lengths=st.lists(st.integers(1, 12), max_size=12),
    failures=st.sets(st.integers(0, 12)),
    hands=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=12),
    window=st.sampled_from(WINDOWS),
    keep=st.sampled_from([0, 0, 1, 2]),
)
def test_results_are_those_of_one_batch_query_over_everything(
    log: list[Record],
    lengths: list[int],
    failures: set[int],
    hands: list[tuple[int, int]],
    window: tuple[int, int],
    keep: int,
) -> None:
    """However the log is cut into steps, which of these have to be repeated, and whichever of two workers has a
    partition, which before each step may go to the other one."""
    processors, store, owners = workers(*window, keep), Store(), {0: 0, 1: 0}
    found: dict[str, list[dict[str, Any]]] = {}
    ids: list[str] = []
    counts = dict.fromkeys(("processed", "filtered", "late", "rejected"), 0)
    take(processors, store, owners)
    for number, batches in enumerate(cut(log, lengths)):
        for worker, processor in enumerate(processors):
            its = [batch for batch in batches if owners[batch.partition] == worker]
            step = processor.step(its)
            if number in failures:  # the commit failed: as if the step had not been
                take(processors, store, owners)
                step = processor.step(its)
            store.commit(step)
            for result in data_of(step.outputs):
                found.setdefault(result["device"], []).append(result)
            ids += [] if step.outputs is None else step.outputs.column("id").to_pylist()
            for name, n in step.counts.items():
                counts[name] += n
        if number < len(hands):
            partition, worker = hands[number]
            owners[partition] = worker
            take(processors, store, owners)
    assert found == batch_results(log, *window, keep)
    assert len(set(ids)) == len(ids)
    taken = [fields for fields in map(fields_of, log) if fields is not None]
    events = [record for record in log if isinstance(record, Sent)]
    kept = sum(fields["ok"] for fields in taken)
    filtered, rejected = len(taken) - kept, len(events) - len(taken)
    assert counts == {"processed": kept, "filtered": filtered, "late": 0, "rejected": rejected}


@pytest.mark.parametrize("window", [*WINDOWS, (7, 3), (9, 4), (10, 1)])
@pytest.mark.parametrize("length", [1, 4, 33])
def test_groups_that_fill_many_windows(window: tuple[int, int], length: int) -> None:
    """In random logs groups have few events: sizes that the hop does not divide need more of them."""
    chance = random.Random(length)
    log = [reading(chance.choice("cd"), second, line=chance.choice("xy"), v=second, ok=True) for second in range(1, 91)]
    (processor, _), store = workers(*window, 0), Store()
    found: dict[str, list[dict[str, Any]]] = {}
    for batches in cut(log, [length] * (len(log) // length)):
        processor.forget(0)
        processor.restore(0, store.chunks.get(0, {}))
        step = processor.step(batches)
        store.commit(step)
        for result in data_of(step.outputs):
            found.setdefault(result["device"], []).append(result)
    assert found == batch_results(log, *window, 0)
    assert min(map(len, found.values())) > 3


def take(processors: Sequence[CountedQuery], store: Store, owners: Mapping[int, int]) -> None:
    """Each worker gets its partitions as they are committed."""
    for worker, processor in enumerate(processors):
        for partition in NAMES:
            processor.forget(partition)
            if owners[partition] == worker:
                processor.restore(partition, store.chunks.get(partition, {}))


def fields_of(record: Record) -> dict[str, Any] | None:
    """What is in an event that has a payload and a time."""
    try:
        fields = json.loads(record.payload.decode()) if isinstance(record, Sent) else None
        return fields if isinstance(fields, dict) and fields["ts"] != "soon" else None
    except (ValueError, KeyError):
        return None


def batch_results(log: Sequence[Record], size: int, hop: int, keep: int) -> dict[str, list[dict[str, Any]]]:
    """All results by device, in their order. A group that was silent at a midnight for `keep` days begins another
    `life`."""
    rows = []
    days, seen, lives = dict[int, int](), dict[tuple[str, Any], float](), dict[tuple[str, Any], int]()
    for place, record in enumerate(log):
        day = int(record.seconds // 86_400)
        if keep and day > days.setdefault(record.partition, day):
            days[record.partition] = day
            for group, last in list(seen.items()):
                if group[0] in NAMES[record.partition] and last <= (day - keep) * 86_400:
                    lives[group] = lives.get(group, 0) + 1
                    del seen[group]
        fields = fields_of(record)
        if isinstance(record, Sent) and fields is not None and fields["ok"]:
            latest = at(record.seconds + 300)  # a clock that is further ahead is clamped
            time = min(fields["ts"], latest, key=datetime.fromisoformat)
            group = (record.key, fields["line"])
            seen[group] = record.seconds
            rows.append((place, lives.get(group, 0), *group, fields["v"], time))
    types = {
        "place": pa.int64(),
        "life": pa.int64(),
        "device": pa.string(),
        "line": pa.string(),
        "v": pa.float64(),
        "ts": pa.string(),
    }
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    events = [pa.array(column, type_) for column, type_ in zip(columns, types.values(), strict=True)]
    duck = batch()
    duck.register("events", pa.table(events, names=list(types)))
    answer = duck.execute(
        """WITH numbered AS (
               SELECT *, row_number() OVER (PARTITION BY device, line, life ORDER BY place) AS number FROM events),
           counted AS (SELECT device, line, life, count(*) AS n FROM events GROUP BY ALL),
           ends AS (SELECT device, line, life, unnest(range($size, n + 1, $hop)) AS final FROM counted)
           SELECT e.device, e.line, count(*), sum(v), avg(v), min(v), median(v),
                  last(v ORDER BY ts::TIMESTAMPTZ, place), last(ts ORDER BY ts::TIMESTAMPTZ)
           FROM ends e JOIN numbered n
             ON n.device = e.device AND n.line IS NOT DISTINCT FROM e.line AND n.life = e.life
            AND n.number > e.final - $size AND n.number <= e.final
           GROUP BY e.device, e.line, e.life, e.final ORDER BY max(place)""",
        {"size": size, "hop": hop},
    ).fetchall()
    names = ("device", "line", "n", "total", "mean", "low", "middle", "last", "t")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in answer:
        found.setdefault(row[0], []).append(dict(zip(names, row, strict=True)))
    return found


@cache
def batch() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()
