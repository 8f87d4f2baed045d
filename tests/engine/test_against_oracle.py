"""Any log, cut in any way, with failed commits at any step: the results are those of the definition."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.depth import examples
from tests.support.windows import Oracle, Record, Sent, Store, Ticked, cut, data_of, reading

from millstream.clock import SECOND
from millstream.engine import Step, WindowedQuery
from millstream.engine.window import Kind, Session, Sliding, Window
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query, statements

IDLE = 10 * SECOND
STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}
QUERY = """SELECT device, count(*) AS n, sum(v) AS total, min(v) AS low, max(v) AS top,
                  System.Timestamp() AS window_end, System.Window().Id AS kind
           FROM telemetry TIMESTAMP BY ts WHERE ok::BOOLEAN GROUP BY device, {window}"""
WINDOWS: dict[str, list[Kind]] = {
    "TumblingWindow(second, 1)": [Window(SECOND, SECOND)],
    "TumblingWindow(second, 10)": [Window(10 * SECOND, 10 * SECOND)],
    "TumblingWindow(second, 10, 3)": [Window(10 * SECOND, 10 * SECOND, 3 * SECOND)],
    "TumblingWindow(Duration(second, 10), Offset(millisecond, -1))": [Window(10 * SECOND, 10 * SECOND, -1000)],
    "HoppingWindow(second, 10, 5)": [Window(10 * SECOND, 5 * SECOND)],
    "HoppingWindow(second, 10, 7, 2)": [Window(10 * SECOND, 7 * SECOND, 2 * SECOND)],
    "HoppingWindow(second, 12, 1)": [Window(12 * SECOND, SECOND)],
    "Windows(TumblingWindow(second, 5), HoppingWindow(second, 9, 6))": [
        Window(5 * SECOND, 5 * SECOND),
        Window(9 * SECOND, 6 * SECOND),
    ],
    "Windows(Window('a', Hopping(Duration(second, 4), Hop(ms, 2500))), Window('b', Tumbling(second, 10)))": [
        Window(4 * SECOND, 5 * SECOND // 2, 0, "a"),
        Window(10 * SECOND, 10 * SECOND, 0, "b"),
    ],
    "System.Timestamp()": [Window(1, 1)],
    "SlidingWindow(second, 4)": [Sliding(4 * SECOND)],
    "SlidingWindow(Duration(second, 15))": [Sliding(15 * SECOND)],
    "SessionWindow(second, 2)": [Session(2 * SECOND)],
    "SessionWindow(second, 5, 10) OVER (PARTITION BY device)": [Session(5 * SECOND, 10 * SECOND)],
    "SessionWindow(Timeout(second, 9), MaxDuration(second, 4))": [Session(9 * SECOND, 4 * SECOND)],
}
NAMES = {0: "cd", 1: "ab"}  # the devices of each partition
BAD = [
    b"",
    b"{",
    b"[1]",
    b"3",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b'{"ts":"\xff"}',
    b'{"ok":true}',
    b'{"ts":"soon","ok":true}',
]

gaps = st.sampled_from([0, 0, 0.1, 0.5, 1, 3, 8, 12, 25])  # between records, in seconds
delays = st.sampled_from([0, 0, 0, 0, 0.2, 1, 4, 11, 14, 22, -30, 60])  # of an event
lags = st.sampled_from([0, 0, 3, 15, -5])  # of a device's clock
values = st.one_of(st.none(), st.integers(-5, 5))


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """Two partitions; arrivals and ticks go on; clocks are wrong, events are delayed, some payloads are bad."""
    lag = {key: draw(lags) for key in "abcd"}
    now = {0: 0.0, 1: 0.0}
    log: list[Record] = []
    for kind in draw(st.lists(st.integers(0, 19), min_size=1, max_size=40)):
        partition = draw(st.integers(0, 1))
        now[partition] += draw(gaps)
        key = draw(st.sampled_from(NAMES[partition]))
        if kind <= 4:
            log.append(Ticked(now[partition], partition))
        elif kind == 5:
            log.append(Sent(key, now[partition], draw(st.sampled_from(BAD)), partition))
        else:
            beyond = 400 if kind == 6 else 0  # a clock so wrong that it is clamped
            seconds = now[partition] - lag[key] - draw(delays) + beyond
            sent = reading(key, seconds, now[partition], v=draw(values), ok=kind > 8)
            log.append(replace(sent, partition=partition))
    return log


@st.composite
def close_calls(draw: st.DrawFn) -> list[Record]:
    """One device about the edges of its first windows: what is late often depends on a single tick."""
    now = 0.0
    log: list[Record] = []
    for kind in draw(st.lists(st.integers(0, 3), min_size=3, max_size=8)):
        now += draw(st.sampled_from([0, 5, 10, 15]))
        if kind == 0:
            log.append(Ticked(now))
        else:
            seconds = draw(st.sampled_from([0.1, 9.9, 10, 10.1, 19, 20.1]))
            log.append(reading("c", seconds, now, v=1, ok=kind > 1))
    return log


SEVERAL = """Windows(Window('a', TumblingWindow(second, 5)), Window('b', SessionWindow(second, 5, 10)),
                     Window('c', HoppingWindow(second, 9, 6)), Window('d', SlidingWindow(second, 4)))"""
EACH: list[list[Kind]] = [
    [Window(5 * SECOND, 5 * SECOND, 0, "a"), Window(9 * SECOND, 6 * SECOND, 0, "c")],
    [Session(5 * SECOND, 10 * SECOND, "b")],
    [Sliding(4 * SECOND, "d")],
]


@cache
def query(window: str, grace: int) -> WindowedQuery:
    return made(QUERY.format(window=window), grace)


def made(text: str, grace: int) -> WindowedQuery:
    plan = plan_query("q", text, STREAMS, into="out", grace=grace * SECOND)
    return WindowedQuery(replace(plan, idle=IDLE), threads=1)


@cache
def queries(grace: int) -> list[WindowedQuery]:
    """Those of `SEVERAL`."""
    return [made(one.text, grace) for one in statements(QUERY.format(window=SEVERAL))]


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=logs(),
    lengths=st.lists(st.integers(1, 12), max_size=12),
    failures=st.sets(st.integers(0, 12)),
    window=st.sampled_from(list(WINDOWS)),
    grace=st.sampled_from([0, 0, 2]),
)
def test_results_are_those_of_the_definition(
    log: list[Record], lengths: list[int], failures: set[int], window: str, grace: int
) -> None:
    check(log, lengths, failures, query(window, grace), WINDOWS[window], grace)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=logs(),
    lengths=st.lists(st.integers(1, 12), max_size=12),
    failures=st.sets(st.integers(0, 12)),
    grace=st.sampled_from([0, 0, 2]),
)
def test_each_of_several_kinds_gives_what_it_gives_by_itself(
    log: list[Record], lengths: list[int], failures: set[int], grace: int
) -> None:
    for processor, windows in zip(queries(grace), EACH, strict=True):
        check(log, lengths, failures, processor, windows, grace)


@settings(max_examples=examples(200), deadline=None)
@given(
    log=close_calls(),
    lengths=st.lists(st.integers(1, 4), max_size=1),
    window=st.sampled_from(["TumblingWindow(second, 10)", *WINDOWS]),
    grace=st.sampled_from([0, 0, 0, 5]),
)
def test_close_calls_are_decided_as_in_the_definition(
    log: list[Record], lengths: list[int], window: str, grace: int
) -> None:
    check(log, lengths, set(), query(window, grace), WINDOWS[window], grace)


@st.composite
def silences(draw: st.DrawFn) -> list[Record]:
    """Devices that are silent for days, and come back with old events too; ticks come when they are due, or late."""
    now = {0: 80_000.0, 1: 0.0}
    log: list[Record] = []
    for key in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=14)):
        partition = int(key in NAMES[1])
        now[partition] += draw(st.sampled_from([0, 1, 6, 90_000, 200_000]))
        if draw(st.booleans()):
            log.append(Ticked(now[partition], partition))
            now[partition] += draw(st.sampled_from([0, 90_000]))
        behind = draw(st.sampled_from([0, 0, 4, 11, 200_000, 600_000]))
        sent = reading(key, now[partition] - behind, now[partition], v=draw(values), ok=draw(st.integers(0, 5)) > 0)
        log.append(replace(sent, partition=partition))
    return log


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=silences(),
    lengths=st.lists(st.integers(1, 6), max_size=6),
    failures=st.sets(st.integers(0, 6)),
    window=st.sampled_from(list(WINDOWS)),
    grace=st.sampled_from([0, 0, 2]),
)
def test_silent_keys_are_forgotten_at_midnight_as_in_the_definition(
    log: list[Record], lengths: list[int], failures: set[int], window: str, grace: int
) -> None:
    check(log, lengths, failures, query(window, grace), WINDOWS[window], grace)


def check(
    log: list[Record],
    lengths: list[int],
    failures: set[int],
    processor: WindowedQuery,
    windows: list[Kind],
    grace: int,
) -> None:
    """Run a log, cut into steps, of which some have to be repeated; compare everything that comes out."""
    oracle = Oracle(windows, IDLE, grace * SECOND)
    store = Store()
    results: dict[tuple[int, str], list[object]] = {}
    late: list[str] = []
    counts: dict[str, int] = {}
    fed = rejected = 0
    restore(processor, store)
    for number, batches in enumerate(cut(log, lengths)):
        step = processor.step(batches)
        if number in failures:  # the commit failed: as if the step had not been
            restore(processor, store)
            step = processor.step(batches)
        store.commit(step)
        length = sum(len(batch) + len(batch.ticks) for batch in batches)
        for place in range(fed, fed + length):
            oracle.feed(place, log[place])
        fed += length
        for result in data_of(step.outputs):
            results.setdefault((int(result["device"] in NAMES[1]), result["device"]), []).append(result)
        late += late_positions(step)
        rejected += len(step.rejected)
        for name, count in {**step.counts, **step.notes}.items():
            counts[name] = counts.get(name, 0) + count
        assert sum(step.counts.values()) == sum(map(len, batches))
        for batch in batches:
            assert store.due.get(batch.partition) == oracle.due(batch.partition)
    assert results == oracle.results
    assert sorted(late) == sorted(position(log, place) for place in oracle.late)
    assert rejected == len(oracle.rejected) == counts["rejected"]
    assert counts["filtered"] == oracle.filtered
    assert counts["late"] == len(oracle.late)
    assert counts["clamped"] == oracle.clamped


def restore(processor: WindowedQuery, store: Store) -> None:
    for partition in NAMES:
        processor.forget(partition)
        processor.restore(partition, store.chunks.get(partition, {}))


def late_positions(step: Step) -> list[str]:
    headers = [] if step.late is None else step.late.column("headers").to_pylist()
    return [dict(items)["late-position"] for items in headers]


def position(log: list[Record], place: int) -> str:
    partition = log[place].partition
    return f"telemetry:{partition}:{sum(record.partition == partition for record in log[:place])}"
