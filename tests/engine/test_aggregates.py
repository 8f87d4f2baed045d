"""Every aggregate is what DuckDB computes of all events of a window at once, however they came."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.windows import Record, Store, Ticked, at, cut, data_of, reading, run

from millstream.clock import SECOND
from millstream.engine import WindowedQuery
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

MakeQuery = Callable[..., WindowedQuery]
STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}
ORDER = "ORDER BY t, o"

AGGREGATES = {
    # as in the query, and as over a table of all events
    "count(*)": "count(*)",
    "sum(v)": "sum(v)",
    "var_pop(v)": "var_pop(v)",
    "variance(v)": "var_samp(v)",
    "VAR(v)": "var_samp(v)",
    "VARP(v)": "var_pop(v)",
    "stddev(v)": "stddev_samp(v)",
    "STDEV(v)": "stddev_samp(v)",
    "STDEVP(v)": "stddev_pop(v)",
    "stddev(v) FILTER (WHERE w > 1)": "stddev_samp(v) FILTER (WHERE w > 1)",
    "first(v::DOUBLE)": f"first(v {ORDER})",
    "last(v::DOUBLE)": f"last(v {ORDER})",
    "last(v::DOUBLE) FILTER (WHERE w > 1)": f"last(v {ORDER}) FILTER (WHERE w > 1)",
    "arg_max(v::DOUBLE, w)": f"arg_max(v, w {ORDER})",
    "arg_min(s::VARCHAR, w)": f"arg_min(s, w {ORDER})",
    "max_by(v::DOUBLE, w) FILTER (WHERE w < 3)": f"arg_max(v, w {ORDER}) FILTER (WHERE w < 3)",
    "median(v)": "median(v)",
    "quantile_cont(v, 0.9)": "quantile_cont(v, 0.9)",
    "mode(s::VARCHAR)": f"mode(s {ORDER})",
    "corr(v, w)": "corr(v, w)",
    "regr_slope(v, w)": "regr_slope(v, w)",
    "count(DISTINCT s)": "count(DISTINCT s)",
    "sum(DISTINCT w)": "sum(DISTINCT w)",
    "approx_count_distinct(s)": "approx_count_distinct(s)",
    "string_agg(s, ',')": f"string_agg(s, ',' {ORDER})",
    "string_agg(DISTINCT s, '-' ORDER BY s DESC)": "string_agg(DISTINCT s, '-' ORDER BY s DESC)",
    "bool_or(w > 3)": "bool_or(w > 3)",
    "list(v::DOUBLE)": f"list(v {ORDER})",
    "list(w + 1 ORDER BY w DESC)": "list(w + 1 ORDER BY w DESC, t, o)",
    "COLLECT(v::DOUBLE)": f"list(v {ORDER})",
    "median(v) - min(v)": "median(v) - min(v)",
    "kurtosis(v)": "kurtosis(v)",
    "TRY(1 / count(DISTINCT s))": "1 / count(DISTINCT s)",
    "any_value(v::DOUBLE)": f"any_value(v {ORDER})",
    "product(w)": "product(w)",
}
WINDOWS = {
    "TumblingWindow(second, 10)": lambda t, end: end - 10 < t <= end,
    "HoppingWindow(second, 10, 4)": lambda t, end: end - 10 < t <= end,
    "SlidingWindow(second, 3)": lambda t, end: end - 3 < t <= end,
}


@cache
def query(window: str) -> WindowedQuery:
    columns = ", ".join(f"{text} AS a{n}" for n, text in enumerate(AGGREGATES))
    text = f"SELECT {columns}, System.Timestamp() AS t FROM telemetry TIMESTAMP BY ts GROUP BY device, {window}"
    return WindowedQuery(plan_query("q", text, STREAMS, into="out"), threads=1)


def expected(events: Sequence[tuple[float, Any, Any, Any]], end: float, inside: Any) -> list[Any]:
    rows = [(t, o, v, w, s) for o, (t, v, w, s) in enumerate(events) if inside(t, end)]
    connection = duckdb.connect()
    connection.execute("CREATE TABLE e (t DOUBLE, o BIGINT, v DOUBLE, w DOUBLE, s VARCHAR)")
    connection.executemany("INSERT INTO e VALUES (?, ?, ?, ?, ?)", rows)
    (found,) = connection.execute(f"SELECT {', '.join(AGGREGATES.values())} FROM e").fetchall()
    connection.close()
    return list(found)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    if isinstance(other, float) and not math.isfinite(other):
        return one is None
    return bool(one == other)


events = st.lists(
    st.tuples(
        st.sampled_from([0, 0.5, 1, 2.5, 5]),
        st.one_of(st.none(), st.sampled_from([1.5, -2.0, 3.25, 1e6])),
        st.one_of(st.none(), st.integers(0, 5)),
        st.one_of(st.none(), st.sampled_from(["a", "b", "ä"])),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=events, lengths=st.lists(st.integers(1, 4), max_size=4), window=st.sampled_from(list(WINDOWS)))
def test_aggregates_are_those_of_all_events_at_once(
    events: list[tuple[float, Any, Any, Any]], lengths: list[int], window: str
) -> None:
    now, placed = 0.0, []
    for gap, v, w, s in events:
        now += gap
        placed.append((now, v, w, s))
    log: list[Record] = [reading("c", t, v=v, w=w, s=s) for t, v, w, s in placed]
    made, store, found = query(window), Store(), []
    made.forget(0)
    made.restore(0, {})
    for batches in cut([*log, Ticked(500)], lengths):
        step = made.step(batches)
        store.commit(step)
        found += data_of(step.outputs)
        made.forget(0)
        made.restore(0, store.chunks.get(0, {}))
    assert found
    ends = {at(t): t for t in [n / 2 for n in range(400)]}
    for result in found:
        end = ends[result["t"]]
        for n, (text, value) in enumerate(zip(AGGREGATES, expected(placed, end, WINDOWS[window]), strict=True)):
            assert same(result[f"a{n}"], value), (text, result[f"a{n}"], value, end)


def test_spread_is_exact_where_the_mean_is_large() -> None:
    made = WindowedQuery(
        plan_query(
            "q",
            "SELECT var_pop(v) AS x FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(second, 10)",
            STREAMS,
            into="out",
        ),
        threads=1,
    )
    steps = run(made, cut([*(reading("c", n, v=1.7e9 + n % 2) for n in range(1, 9)), Ticked(60)], [1] * 8))
    (result,) = data_of(steps[-1].outputs)
    assert result["x"] == pytest.approx(0.25, rel=1e-6)


def test_top_one_is_the_event_that_comes_first(query: MakeQuery) -> None:
    made = query("TopOne() OVER (ORDER BY v DESC) AS top, TopOne() OVER (ORDER BY v ASC) AS least")
    log = [reading("c", 1, v=3, x="a"), reading("c", 2, v=7, x="b"), reading("c", 3, v=7, x="c"), reading("c", 11)]
    (step,) = run(made, cut(log, []))
    (result,) = data_of(step.outputs)
    assert (result["top"]["x"], result["least"]["x"]) == ("b", "a")


def test_collect_gives_the_payloads_of_a_window_in_the_order_of_event_time(query: MakeQuery) -> None:
    made = query("COLLECT() AS events, collect(v) AS values", grace=5 * SECOND)
    log: list[Record] = [reading("c", 4, v=1), reading("c", 2, v={"x": [1]}), Ticked(100)]
    (step,) = run(made, cut(log, []))
    assert data_of(step.outputs) == [
        {"events": [{"ts": at(2), "v": {"x": [1]}}, {"ts": at(4), "v": 1}], "values": [{"x": [1]}, 1]}
    ]


def test_what_is_handed_on_is_as_it_came(query: MakeQuery) -> None:
    made = query("first(state) AS f, last(state) AS l, mode(state) AS m, arg_max(state, v) AS a")
    log: list[Record] = [
        reading("c", 1, v=1, state="on"),
        reading("c", 2, v=9, state=3),
        reading("c", 3, v=2, state=3),
        Ticked(60),
    ]
    (step,) = run(made, cut(log, []))
    assert data_of(step.outputs) == [{"f": "on", "l": 3, "m": 3, "a": 3}]


def test_state_of_kept_rows_is_arrow_that_json_can_say(query: MakeQuery) -> None:
    made = query("list(v) AS all, histogram(v) AS h", groups="device")
    (step,) = run(made, cut([reading("c", 1, v=1.5), reading("c", 2, v=1.5), Ticked(60)], []))
    assert step.outputs is not None
    assert json.loads(step.outputs.column("data")[0].as_py()) == {"all": [1.5, 1.5], "h": {"1.5": 2}}
