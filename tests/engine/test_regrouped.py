"""Groups by something else than the stream's key: however partitions are read, change hands and fail, the results are
those of all events at once."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.depth import examples
from tests.support.regrouping import Definition, Rig
from tests.support.windows import START, Record, Sent, at, cut, reading

from millstream.clock import SECOND
from millstream.engine import RegroupedQuery, processor_of
from millstream.engine.window import Kind, Session, Sliding, Window
from millstream.errors import QueryError
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device", partitions=3)}
QUERY = """SELECT line, count(*) AS n, sum(v) AS total, avg(v) AS mean,
                  list(v ORDER BY v) FILTER (v IS NOT NULL) AS "all",
                  System.Timestamp() AS t, System.Window().Id AS kind
           FROM telemetry TIMESTAMP BY ts WHERE ok::BOOLEAN GROUP BY line, {window}"""
WINDOWS: dict[str, list[Kind]] = {
    "TumblingWindow(second, 10)": [Window(10 * SECOND, 10 * SECOND)],
    "TumblingWindow(second, 7, 3)": [Window(7 * SECOND, 7 * SECOND, 3 * SECOND)],
    "HoppingWindow(second, 10, 5)": [Window(10 * SECOND, 5 * SECOND)],
    "Windows(Window('a', HoppingWindow(second, 9, 6)), Window('b', TumblingWindow(second, 5)))": [
        Window(9 * SECOND, 6 * SECOND, 0, "a"),
        Window(5 * SECOND, 5 * SECOND, 0, "b"),
    ],
    "System.Timestamp()": [Window(1, 1)],
    "SlidingWindow(second, 4)": [Sliding(4 * SECOND)],
    "SessionWindow(second, 3)": [Session(3 * SECOND)],
    "SessionWindow(second, 5, 10) OVER (PARTITION BY line)": [Session(5 * SECOND, 10 * SECOND)],
}
NAMES = ("ab", "c", "de")  # the devices of each partition
BAD = [b"", b"[1]", b'{"ts":"\xff"}', b'{"ok":true}', b'{"ts":"soon","ok":true}']

gaps = st.sampled_from([0, 0.1, 0.5, 1, 3, 8, 12])
delays = st.sampled_from([0, 0, 0, 0, 0.2, 1, 4, 11, 22, -8])
turns = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 9)),
        st.tuples(st.just("step"), st.integers(0, 1), st.sampled_from([1, 1, 2, 5, 100])),
        st.tuples(st.just("fail"), st.integers(0, 1), st.sampled_from([1, 3, 100])),
        st.tuples(st.just("give"), st.integers(0, 2), st.integers(0, 1)),
    ),
    min_size=4,
    max_size=60,
)


@cache
def query(window: str, grace: int, number: int, early: int = 0) -> RegroupedQuery:
    text = QUERY.format(window=window)
    return RegroupedQuery(plan_query("q", text, STREAMS, into="out", grace=grace, early=early), threads=1)


@st.composite
def events(draw: st.DrawFn, partition: int, kind: int, now: float) -> Record:
    key = draw(st.sampled_from(NAMES[partition]))
    if kind == 0:
        return Sent(key, now, draw(st.sampled_from(BAD)), partition)
    line = draw(st.sampled_from(["x", "y", "z", None]))
    value = draw(st.one_of(st.none(), st.integers(-5, 5)))
    return replace(
        reading(key, now - draw(delays), now, line=line, v=value, ok=kind > 1),
        partition=partition,
    )


intervals = st.sampled_from([0, SECOND, 4 * SECOND, 30 * SECOND])
thorough = settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@thorough
@given(st.data(), turns, st.sampled_from(list(WINDOWS)), st.sampled_from([0, 0, 2 * SECOND]), intervals)
def test_results_are_those_of_all_events_at_once(
    data: st.DataObject, turns: list[tuple[str, int, int]], window: str, grace: int, early: int
) -> None:
    """Early ones too, if they are asked for."""
    early = 0 if "Sliding" in window else early
    rig, definitions = play(data, turns, window, grace, early)
    told = Definition.early_results(WINDOWS[window], definitions, early) if early else []
    assert in_order(plain(rig.early)) == in_order(written(told))
    places = {result["#id"]: result["#place"] for result in rig.results}
    assert all(result["#place"] < places.get(result["#id"].rpartition(":")[0], 1 << 62) for result in rig.early)


@pytest.mark.parametrize(("before", "after"), [(0, SECOND), (SECOND, 0), (SECOND, 30 * SECOND)])
def test_another_interval_of_early_results_is_another_query(before: int, after: int) -> None:
    """What was told in intervals of one length cannot be put in order with what is told in those of another."""
    window = "TumblingWindow(second, 4)"
    rig = Rig([query(window, 0, 0, before)], 1)
    rig.append(reading(NAMES[0][0], 0, 0, line="x", v=1, ok=True))
    while rig.step(0, 100):
        pass
    with pytest.raises(QueryError, match="was made with another"):
        rig.upgrade([query(window, 0, 0, after)])


def play(
    data: st.DataObject, turns: list[tuple[str, int, int]], window: str, grace: int, early: int
) -> tuple[Rig, list[Definition]]:
    """What comes of random events and turns. Final results and late events are compared with the definition."""
    rig = Rig([query(window, grace, number, early) for number in range(2)], 3)
    told = dict.fromkeys(range(3), 0.0)
    for partition in range(3):
        rig.append(replace(reading(NAMES[partition][0], 0, 0, line="x", v=1, ok=True), partition=partition))

    def send(partition: int, kind: int) -> None:
        told[partition] = rig.now
        rig.append(data.draw(events(partition, kind, rig.now)))

    for what, number, more in turns:
        match what:
            case "send":
                rig.now += data.draw(gaps)
                for partition, last in told.items():  # what is silent for a minute follows the others
                    if rig.now - last > 30:
                        told[partition] = rig.now
                        silent = reading(NAMES[partition][0], rig.now, rig.now, line="x", v=0, ok=True)
                        rig.append(replace(silent, partition=partition))
                send(number, more)
            case "give":
                rig.give(number, more)
            case _:
                rig.step(number, more, fails=what == "fail")
    rig.finish()
    definitions = [Definition(WINDOWS[window], 10 * SECOND + grace, grace) for _ in range(3)]
    for partition, records in rig.source.items():
        for place, record in enumerate(records):
            definitions[partition].feed(place, record)
    late = [f"telemetry:{number}:{place}" for number, one in enumerate(definitions) for place in one.late]
    assert sorted(rig.late) == sorted(late)
    assert in_order(plain(rig.results)) == in_order(written(Definition.results(WINDOWS[window], definitions)))
    ids = [result["#id"] for result in (*rig.results, *rig.early)]
    assert len(set(ids)) == len(ids)
    return rig, definitions


def written(results: list[dict[str, object]]) -> list[dict[str, object]]:
    """With times as they are written in results."""
    times = ("t", "mark")
    return [
        {
            name: at((value - START) / SECOND) if name in times and isinstance(value, int) else value
            for name, value in one.items()
        }
        for one in results
    ]


def plain(results: list[dict[str, object]]) -> list[dict[str, object]]:
    """Without what is no column."""
    return [
        {name: value if name != "all" else value or [] for name, value in result.items() if name[0] != "#"}
        for result in results
    ]


def in_order(results: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(results, key=lambda one: (*(str(one[name]) for name in ("line", "t", "kind")), str(one.get("mark"))))


def test_much_may_come_before_every_partition_has_told_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.engine.state.SNAPSHOT_BYTES", 100)
    text = QUERY.format(window="TumblingWindow(second, 10)")
    rig = Rig([RegroupedQuery(plan_query("q", text, STREAMS, into="out"), threads=1)], 3)
    for n in range(20):  # nothing of the other partitions is known before
        rig.append(reading("ab", n / 10, line="x", v=n, ok=True))
        while rig.step(0, 1):
            pass
    rig.finish()
    assert [(result["line"], result["all"]) for result in rig.results] == [("x", [0]), ("x", list(range(1, 20)))]


@pytest.mark.parametrize(("before", "after"), [("device, ", ""), ("", "device, "), ("", "line, ")])
def test_state_of_another_grouping_is_refused(before: str, after: str) -> None:
    text = "SELECT count(*) AS n FROM telemetry TIMESTAMP BY ts GROUP BY {}TumblingWindow(second, 10)"
    saved, other = (
        processor_of(plan_query("q", text.format(groups), STREAMS, into="out")) for groups in (before, after)
    )
    saved.restore(0, {})
    (batches,) = cut([reading("a", 1, line="x")], [])
    step = saved.step(batches)
    with pytest.raises(QueryError, match="give the changed query a new name"):
        other.restore(0, step.save[0])
