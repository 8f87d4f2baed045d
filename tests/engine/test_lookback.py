"""`LAG`, `LAST` and `ISFIRST`: the examples of Stream Analytics' documentation, and any log against the definition."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.depth import examples
from tests.support.windows import Record, Sent, Store, Ticked, at, cut, data_of, reading, run

from millstream.engine import Processor, processor_of
from millstream.engine.history import FORGOTTEN
from millstream.errors import QueryError
from millstream.log.contract import MAX_CHUNK_BYTES, StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}
Payload = dict[str, Any]
HOUR = "LIMIT DURATION(hour, 1)"


def query(text: str) -> Processor:
    return processor_of(plan_query("q", text, STREAMS, into="out"))


def results(text: str, *log: Record) -> list[Any]:
    """Of the log in one step, and event by event, which are the same."""
    (step,) = run(query(text), cut(log, []))
    singly = [data_of(each.outputs) for each in run(query(text), cut(log, [1] * len(log)))]
    assert [result for each in singly for result in each] == data_of(step.outputs)
    return data_of(step.outputs)


def readings(*values: Any, key: str = "c") -> list[Record]:
    """A reading a second."""
    return [reading(key, second, v=value) for second, value in enumerate(values)]


def test_rate_of_growth_per_sensor() -> None:
    text = f"""SELECT device, v - LAG(v) OVER (PARTITION BY device {HOUR}) AS growth FROM telemetry TIMESTAMP BY ts"""
    log = [reading("c", 1, v=3), reading("d", 2, v=10), reading("c", 3, v=7), reading("d", 4, v=4)]
    assert results(text, *log) == [
        {"device": "c", "growth": None},
        {"device": "d", "growth": None},
        {"device": "c", "growth": 4.0},
        {"device": "d", "growth": -6.0},
    ]


def test_previous_reading_that_is_not_null() -> None:
    text = f"""SELECT LAG(v) OVER (PARTITION BY device {HOUR} WHEN v IS NOT NULL) AS before,
                      LAST(v) OVER (PARTITION BY device {HOUR} WHEN v IS NOT NULL) AS known
               FROM telemetry TIMESTAMP BY ts"""
    found = [(result["before"], result["known"]) for result in results(text, *readings(1, None, None, 2, 3))]
    assert found == [(None, 1), (1, 1), (1, 1), (1, 2), (2, 3)]


def test_variable_that_crosses_a_threshold() -> None:
    text = f"""SELECT device, v FROM telemetry TIMESTAMP BY ts WHERE kind = 'thermostat' AND v > 100
               AND LAG(v) OVER (PARTITION BY device {HOUR} WHEN kind = 'thermostat') <= 100"""
    values = [("thermostat", 99), ("fan", 500), ("thermostat", 101), ("thermostat", 102), ("fan", 1)]
    log = [reading("c", second, kind=kind, v=v) for second, (kind, v) in enumerate(values)]
    assert results(text, *log) == [{"device": "c", "v": 101.0}]


def test_when_an_event_was_last_seen() -> None:
    text = f"""SELECT v, LAST(System.Timestamp) OVER (PARTITION BY device {HOUR} WHEN v > 50) AS t
               FROM telemetry TIMESTAMP BY ts"""
    found = [result["t"] for result in results(text, *readings(10, 60, 70, 20))]
    assert found == [None, at(1), at(2), at(2)]


def test_duration_between_a_start_and_an_end() -> None:
    text = f"""SELECT feature, DATEDIFF(second, LAST(ts) OVER (PARTITION BY device, feature {HOUR}
                                                            WHEN event = 'start'), ts) AS duration
               FROM telemetry TIMESTAMP BY ts WHERE event = 'end'"""
    log = [
        reading("c", 1, feature="x", event="start"),
        reading("c", 2, feature="y", event="start"),
        reading("c", 8, feature="x", event="end"),
        reading("c", 9, feature="z", event="end"),
    ]
    assert results(text, *log) == [{"feature": "x", "duration": 7}, {"feature": "z", "duration": None}]


def test_how_long_a_fault_lasted() -> None:
    """The pattern with LAG over a step's LAG, and a step that keeps everything."""
    text = """WITH SelectPreviousEvent AS (
                SELECT *, LAG(ts) OVER (LIMIT DURATION(hour, 24)) AS previous_time,
                          LAG(weight) OVER (LIMIT DURATION(hour, 24)) AS previous_weight
                FROM telemetry TIMESTAMP BY ts)
              SELECT LAG(ts) OVER (LIMIT DURATION(hour, 24) WHEN previous_weight < 20000) AS StartFault,
                     previous_time AS EndFault
              FROM SelectPreviousEvent WHERE weight < 20000 AND previous_weight > 20000"""
    weights = [2000, 25000, 26000, 25000, 26000, 25000, 26000, 2000]
    log = [reading("c", second, weight=weight) for second, weight in enumerate(weights)]
    assert results(text, *log) == [{"StartFault": at(1), "EndFault": at(6)}]


def test_first_of_each_interval() -> None:
    text = """SELECT ISFIRST(second, 10) OVER (PARTITION BY device WHEN v > 5) AS first, ISFIRST(ss, 10) AS all
              FROM telemetry TIMESTAMP BY ts"""
    log = [reading("c", second, v=v) for second, v in ((1, 1), (2, 9), (10, 9), (10.1, 9), (15, 9), (16, 1), (31, 1))]
    found = [(result["first"], result["all"]) for result in results(text, *log)]
    assert found == [(0, 1), (1, 0), (0, 0), (1, 1), (0, 0), (0, 0), (0, 1)]


def test_lag_zero_is_last() -> None:
    text = f"SELECT LAG(v, 0) OVER ({HOUR} WHEN v > 1) AS a, LAST(v) OVER ({HOUR} WHEN v > 1) AS b FROM telemetry"
    assert [(r["a"], r["b"]) for r in results(text, *readings(1, 2, 1, 3))] == [(None,) * 2, (2, 2), (2, 2), (3, 3)]


def test_default_stands_for_an_event_that_is_not_there_and_not_for_null() -> None:
    text = "SELECT LAG(v, 2, -1) OVER (LIMIT DURATION(second, 3)) AS two FROM telemetry TIMESTAMP BY ts"
    log = [*readings(None, 1, 2), reading("c", 5, v=3)]
    assert [result["two"] for result in results(text, *log)] == [-1, -1, None, -1]


def test_nothing_is_found_at_the_end_of_the_duration() -> None:
    text = "SELECT LAG(v) OVER (LIMIT DURATION(second, 3)) AS p FROM telemetry TIMESTAMP BY ts"
    log = [reading("c", second, v=second) for second in (0, 2.9, 5.9)]
    assert [result["p"] for result in results(text, *log)] == [None, 0, None]


def test_where_comes_after_looking_back_but_that_of_a_step_before() -> None:
    lag = f"LAG(v) OVER ({HOUR}) AS p"
    own = f"SELECT v, {lag} FROM telemetry WHERE v > 5"
    assert [result["p"] for result in results(own, *readings(9, 1, 7))] == [None, 1]
    step = f"WITH hot AS (SELECT * FROM telemetry WHERE v > 5) SELECT v, {lag} FROM hot"
    assert [result["p"] for result in results(step, *readings(9, 1, 7))] == [None, 9]


def test_event_that_is_behind_finds_nothing_and_is_nobodys_event_before() -> None:
    text = f"SELECT v, LAG(v) OVER ({HOUR}) AS p, ISFIRST(second, 2) AS f FROM telemetry TIMESTAMP BY ts"
    log = [reading("c", second, 20, v=second) for second in (1, 4, 3, 4, 5)]
    assert [(r["v"], r["p"], r["f"]) for r in results(text, *log)] == [
        (1, None, 1),
        (4, 1, 1),
        (3, None, 0),
        (4, 4, 0),
        (5, 4, 1),
    ]


def test_key_that_was_silent_for_long_begins_anew() -> None:
    text = f"SELECT LAG(v) OVER ({HOUR}) AS p FROM telemetry TIMESTAMP BY ts"
    patience = 3600 + FORGOTTEN // 1_000_000
    for passed, found in ((patience, 1), (patience + 0.1, None)):
        log = [reading("c", 1, 1, v=1), reading("c", 2, 1 + passed, v=2)]
        assert [result["p"] for result in results(text, *log)] == [None, found]


def test_star_may_have_columns_behind_it() -> None:
    text = f"SELECT *, LAG(v, 1, 0) OVER ({HOUR}) AS p FROM telemetry"
    log = [Sent("c", 1, b'{ "v": 1.50 }\n'), Sent("c", 2, b"{ }")]
    (step,) = run(query(text), cut(log, []))
    assert step.outputs is not None
    assert step.outputs.column("data").to_pylist() == [b'{ "v": 1.50 ,"p":0.0}', b'{ "p":1.5}']


def test_what_is_found_keeps_its_type() -> None:
    payload: Payload = {
        "n": 9007199254740993,
        "o": {"a": [1, None]},
        "u": "a5e3a9b2-0b3e-4d0e-8f5c-000000000001",
        "d": 1.25,
    }
    columns = ["n::BIGINT", "o", "u::UUID", "d::DECIMAL(9,2)", "[d::DOUBLE]", "ts::TIMESTAMP", "d::DOUBLE > 1"]
    lags = ", ".join(f"LAG({column}) OVER ({HOUR}) AS c{n}" for n, column in enumerate(columns))
    found = results(f"SELECT {lags} FROM telemetry", reading("c", 1, **payload), reading("c", 2))[1]
    assert list(found.values()) == [payload["n"], payload["o"], payload["u"], 1.25, [1.25], at(1), True]


def test_rows_below_a_window_look_back() -> None:
    text = f"""SELECT device, max(v - LAG(v) OVER ({HOUR})) AS jump, count(*) AS n FROM telemetry TIMESTAMP BY ts
               WHERE v <> LAG(v) OVER ({HOUR}) GROUP BY device, TumblingWindow(second, 10)"""
    log = [reading("c", second, v=v) for second, v in ((1, 1), (2, 5), (3, 5), (11, 4), (12, 9), (25, 9))]
    assert results(text, *log) == [{"device": "c", "jump": 4.0, "n": 1}, {"device": "c", "jump": 5.0, "n": 2}]


def test_a_step_saves_only_what_it_changed() -> None:
    made = query(f"SELECT LAG(v) OVER ({HOUR}) AS p FROM telemetry")
    log = [*(reading(f"{n:05}", 1, v=n) for n in range(5000)), reading("00007", 2, v=1)]
    large, small = run(made, cut(log, [5000]))
    assert sum(map(len, small.save[0].values())) < 1000
    assert all(len(chunk) <= MAX_CHUNK_BYTES for chunk in large.save[0].values())


def test_silent_keys_go_with_the_next_snapshot() -> None:
    made = query(f"SELECT LAG(v) OVER ({HOUR}) AS p FROM telemetry")
    later = 2 + 2 * FORGOTTEN // 1_000_000
    log = [*(reading(f"{n:05}", 1, v=n) for n in range(5000)), *(reading("c", later + n, v=n) for n in range(500))]
    store = Store()
    for step in run(made, cut(log, [5000, *[1] * 499])):
        store.commit(step)
    assert sum(map(len, store.chunks[0].values())) < 100_000
    made.restore(0, store.chunks[0])
    assert made.kept(0) == 1


def test_state_of_another_query_is_refused() -> None:
    (step,) = run(query(f"SELECT LAG(v) OVER ({HOUR}) AS p FROM telemetry"), cut(readings(1), []))
    for other in (
        "SELECT v AS p FROM telemetry",
        f"SELECT LAG(v, 2) OVER ({HOUR}) AS p FROM telemetry",
        f"SELECT LAG(v) OVER ({HOUR} WHEN v > 1) AS p FROM telemetry",
        "SELECT device FROM telemetry GROUP BY device, TumblingWindow(second, 1)",
    ):
        with pytest.raises(QueryError, match="new name"):
            query(other).restore(0, step.save[0])
    query("SELECT device, LAG(v) OVER (LIMIT DURATION(day, 1)) AS q FROM telemetry").restore(0, step.save[0])


# --- any log, cut in any way, with failed commits: the results are those of the definition

TEXT = """SELECT device,
    LAG(v) OVER (LIMIT DURATION(second, 5)) AS a,
    LAG(v, 2, -9) OVER (PARTITION BY device, s LIMIT DURATION(second, 20) WHEN ok::BOOLEAN) AS b,
    LAST(v) OVER (LIMIT DURATION(minute, 1) WHEN v > 0) AS c,
    ISFIRST(second, 10) OVER (PARTITION BY device, s WHEN v > 0) AS f,
    LAG(v) OVER (LIMIT DURATION(second, 5) WHEN v > LAG(v) OVER (LIMIT DURATION(second, 5))) AS nested
    FROM telemetry TIMESTAMP BY ts"""


@dataclass(slots=True)
class Looking:
    """One lookback by definition: `before` are the events in order for which WHEN held, by group: time and value."""

    seconds: float
    offset: int
    by: Callable[[str, Payload], object]
    when: Callable[[Payload], bool]
    patience: float = 0
    before: dict[object, list[tuple[float, Any]]] = field(default_factory=lambda: defaultdict(list))
    seen: dict[object, float] = field(default_factory=dict)

    def find(self, key: str, time: float, arrival: float, payload: Payload) -> tuple[bool, Any]:
        """Whether an event finds one, and its value."""
        group, holds = self.by(key, payload), self.when(payload)
        before = self.before[group]
        is_forgotten = group in self.seen and arrival - self.seen[group] > self.patience
        if is_forgotten and holds:
            before.clear()
        is_behind = any(earlier > time for earlier, _ in before)
        found = (False, None)
        if holds and not self.offset:
            found = (True, payload["v"])
        elif not is_forgotten and not is_behind and len(before) >= max(self.offset, 1):
            earlier, value = before[-max(self.offset, 1)]
            found = (True, value) if earlier > round(time - self.seconds, 6) else found
        if holds:
            self.seen[group] = arrival
            if not is_behind:
                before.append((time, payload["v"]))
        return found


def expected(log: Sequence[Record]) -> dict[str, list[Payload]]:
    day = FORGOTTEN / 1_000_000
    own: Callable[[str, Payload], object] = lambda key, payload: key  # noqa: E731
    both: Callable[[str, Payload], object] = lambda key, payload: (key, payload["s"])  # noqa: E731
    is_up: Callable[[Payload], bool] = lambda payload: payload["v"] is not None and payload["v"] > 0  # noqa: E731
    a = Looking(5, 1, own, lambda payload: True, 5 + day)
    b = Looking(20, 2, both, lambda payload: payload["ok"], 20 + day)
    c = Looking(60, 0, own, is_up, 60 + day)
    f = Looking(10, 1, both, is_up, 10 + day)
    grows = lambda payload: None not in (payload["v"], payload["a"]) and payload["v"] > payload["a"]  # noqa: E731
    nested = Looking(5, 1, own, grows, 5 + day)
    found: dict[str, list[Payload]] = defaultdict(list)
    for record in log:
        if not isinstance(record, Sent):
            continue
        payload = json.loads(record.payload)
        time = (datetime.fromisoformat(payload["ts"]) - datetime.fromisoformat(at(0))).total_seconds()
        where = (record.key, time, record.seconds, payload)
        result = {"device": record.key, "a": a.find(*where)[1]}
        is_found, value = b.find(*where)
        result |= {"b": value if is_found else -9, "c": c.find(*where)[1], "f": int(is_first(f, *where))}
        payload["a"] = result["a"]
        found[record.key].append(result | {"nested": nested.find(*where)[1]})
    return found


def is_first(looking: Looking, key: str, time: float, arrival: float, payload: Payload) -> bool:
    """Whether an event is the first in order of its interval `(start, end]`."""
    before = list(looking.before[looking.by(key, payload)])
    looking.find(key, time, arrival, payload)
    after = looking.before[looking.by(key, payload)]
    earlier = after[:-1] if after and len(after) <= len(before) else before
    entered = bool(after) and after[-1] == (time, payload["v"]) and len(after) == len(earlier) + 1
    return entered and not any(-(-one // 10) == -(-time // 10) for one, _ in earlier)


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    now = {0: 0.0, 1: 0.0}
    log: list[Record] = []
    for key in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30)):
        partition = int(key in "ab")
        now[partition] += draw(st.sampled_from([0, 0.5, 1, 3, 8, 30, 86_500]))
        if draw(st.integers(0, 9)) == 0:
            log.append(Ticked(now[partition], partition))
        behind = draw(st.sampled_from([0, 0, 0, 0.2, 1, 4, 11]))
        payload = {"v": draw(st.one_of(st.none(), st.integers(-3, 3))), "s": draw(st.sampled_from("xy"))}
        sent = reading(key, now[partition] - behind, now[partition], ok=draw(st.booleans()), **payload)
        log.append(Sent(key, sent.seconds, sent.payload, partition, sent.topic))
    return log


MADE = query(TEXT)


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(log=logs(), lengths=st.lists(st.integers(1, 9), max_size=9), failures=st.sets(st.integers(0, 9)))
def test_results_are_those_of_the_definition(log: list[Record], lengths: list[int], failures: set[int]) -> None:
    store = Store()
    restore(store)
    found: dict[str, list[Payload]] = defaultdict(list)
    for number, batches in enumerate(cut(log, lengths)):
        step = MADE.step(batches)
        if number in failures:  # the commit failed: as if the step had not been
            restore(store)
            step = MADE.step(batches)
        store.commit(step)
        for result in data_of(step.outputs):
            found[result["device"]].append(result)
    assert found == expected(log)


def restore(store: Store) -> None:
    for partition in (0, 1):
        MADE.forget(partition)
        MADE.restore(partition, store.chunks.get(partition, {}))


@settings(max_examples=50, deadline=None)
@given(log=logs(), lengths=st.lists(st.integers(1, 9), max_size=9))
def test_rows_below_a_window_find_what_events_by_themselves_find(log: list[Record], lengths: list[int]) -> None:
    lag = "LAG(v) OVER (PARTITION BY device, s LIMIT DURATION(second, 20) WHEN v > 0)"
    log = [*log, *(Ticked(1e8, partition) for partition in (0, 1))]
    windows = query(
        f"SELECT device, list({lag} ORDER BY _time) AS l FROM telemetry GROUP BY device, TumblingWindow(second, 5)"
    )
    plain = query(f"SELECT device, {lag} AS l FROM telemetry")
    ours = (data_of(step.outputs) for step in run(windows, cut(log, lengths), (0, 1)))
    theirs = (data_of(step.outputs) for step in run(plain, cut(log, lengths), (0, 1)))
    assert by_device(ours, flat=True) == by_device(theirs, flat=False)


def by_device(found: Iterable[list[Payload]], *, flat: bool) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = defaultdict(list)
    for result in (result for results in found for result in results):
        values[result["device"]] += result["l"] if flat else [result["l"]]
    return values
