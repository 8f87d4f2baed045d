"""Reference data that events are joined with, in plain queries and below windows."""

from __future__ import annotations

from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.windows import START, Record, Sent, cut, data_of, reading, run

from millstream.clock import SECOND
from millstream.engine import Processor, processor_of
from millstream.engine.lookup import Version
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}
COLUMNS = {"machines": {"id": "BIGINT", "line": "VARCHAR", "most": "DOUBLE", "since": "DATE"}}


def machines(*rows: tuple[int | None, str | None, float | None], since: float = -1_000) -> Version:
    columns = dict(zip(("id", "line", "most"), zip(*rows, strict=True), strict=True)) if rows else {}
    types = {"id": pa.int64(), "line": pa.string(), "most": pa.float64()}
    table = pa.table({name: pa.array(columns.get(name, ()), type_) for name, type_ in types.items()})
    return Version(START + round(since * SECOND), table)


def query(text: str, *versions: Version) -> Processor:
    made = processor_of(plan_query("q", text, STREAMS, into="out", references=COLUMNS))
    made.refer({"machines": versions})
    return made


def results(text: str, *log: Record, of: list[Version]) -> list[Any]:
    (step,) = run(query(text, *of), cut(log, []))
    return data_of(step.outputs)


ONE = [machines((1, "A", 80.0), (2, "B", 90.0))]
LOG = [reading("c", 1, machine=1, v=85), reading("d", 2, machine=2, v=85), reading("e", 3, machine=3, v=85)]


def test_event_without_a_row_is_left_out_and_counted_as_filtered() -> None:
    text = "SELECT t.device, m.line FROM telemetry t JOIN machines m ON t.machine = m.id"
    (step,) = run(query(text, *ONE), cut(LOG, []))
    assert data_of(step.outputs) == [{"device": "c", "line": "A"}, {"device": "d", "line": "B"}]
    assert step.counts == {"processed": 2, "filtered": 1, "late": 0, "rejected": 0}


def test_left_join_gives_nulls_where_there_is_no_row() -> None:
    text = "SELECT t.device, m.line FROM telemetry t LEFT JOIN machines m ON m.id = t.machine"
    assert [one["line"] for one in results(text, *LOG, of=ONE)] == ["A", "B", None]


def test_columns_of_a_row_stand_in_conditions_and_expressions() -> None:
    text = """SELECT v - m.most AS over FROM telemetry t TIMESTAMP BY ts JOIN machines m ON t.machine = m.id
              WHERE v > m.most"""
    assert results(text, *LOG, of=ONE) == [{"over": 5.0}]


def test_windows_aggregate_what_was_joined() -> None:
    text = """SELECT device, m.line, count(*) AS n FROM telemetry t TIMESTAMP BY ts JOIN machines m ON machine = m.id
              GROUP BY device, m.line, TumblingWindow(second, 10)"""
    log = [*LOG, reading("c", 4, machine=2), reading("c", 5, machine=2), reading("c", 6, machine=7), reading("c", 11)]
    assert results(text, *log, of=ONE) == [
        {"device": "c", "line": "A", "n": 1},
        {"device": "c", "line": "B", "n": 2},
    ]


def test_steps_of_with_may_join_and_be_joined() -> None:
    text = """WITH known AS (SELECT t.device, m.line FROM telemetry t JOIN machines m ON t.machine = m.id),
                   hot AS (SELECT device, line AS place FROM known WHERE line <> 'B')
              SELECT device, place, o.most FROM hot h LEFT JOIN machines o ON h.place = o.line"""
    assert results(text, *LOG, of=ONE) == [{"device": "c", "place": "A", "most": 80.0}]


def test_value_that_cannot_be_the_columns_type_has_no_row() -> None:
    text = "SELECT device FROM telemetry t JOIN machines m ON site = m.id"
    assert results(text, *LOG, of=ONE) == []
    assert results(
        "SELECT device FROM telemetry t JOIN machines m ON t.x::VARCHAR = m.id", reading("c", 1, x="1"), of=ONE
    )


def test_null_equals_nothing() -> None:
    text = "SELECT device FROM telemetry t JOIN machines m ON t.machine = m.id"
    assert results(text, reading("c", 1), of=[machines((None, "A", 1.0))]) == []


def test_event_is_joined_with_the_version_in_force_when_it_arrived() -> None:
    text = "SELECT m.line FROM telemetry t TIMESTAMP BY ts JOIN machines m ON t.machine = m.id"
    versions = [machines((1, "A", None), since=0), machines((1, "B", None), since=10), machines(since=20)]
    log = [reading("c", 50, arrival, machine=1) for arrival in (-1, 0, 9.9, 10, 19, 20)]
    assert [one["line"] for one in results(text, *log, of=versions)] == ["A", "A", "A", "B", "B"]


def test_column_that_a_version_has_not_is_null_and_so_is_a_value_of_another_type() -> None:
    text = "SELECT m.since, m.most FROM telemetry t JOIN machines m ON t.machine = m.id"
    version = Version(0, pa.table({"id": ["1", "x"], "most": ["a lot", "2"]}))
    assert results(text, reading("c", 1, machine=1), of=[version]) == [{"since": None, "most": None}]


def test_broken_payloads_are_rejected_whatever_there_is_to_join_with() -> None:
    text = "SELECT m.line FROM telemetry t JOIN machines m ON t.machine = m.id"
    (step,) = run(query(text, *ONE), cut([Sent("c", 1, b"{"), *LOG], []))
    assert step.counts == {"processed": 2, "filtered": 1, "late": 0, "rejected": 1}


tables = st.dictionaries(st.integers(0, 3), st.sampled_from("AB"), max_size=4)
events = st.tuples(st.sampled_from("cd"), st.integers(0, 40), st.one_of(st.none(), st.integers(0, 4)), st.booleans())


@cache
def lines(join: str) -> Processor:
    return query(f"SELECT device, machine, m.line FROM telemetry t {join} machines m ON t.machine = m.id")


@pytest.mark.parametrize("optional", [False, True])
@settings(max_examples=40, deadline=None)
@given(
    log=st.lists(events, max_size=15),
    versions=st.dictionaries(st.integers(0, 40), tables, min_size=1, max_size=4),
    lengths=st.lists(st.integers(1, 4), max_size=5),
)
def test_results_are_those_of_a_join_of_everything(
    optional: bool,
    log: list[tuple[str, int, int | None, bool]],
    versions: dict[int, dict[int, str]],
    lengths: list[int],
) -> None:
    """Beside DuckDB, which joins all events with all versions at once."""
    log = sorted(log, key=lambda event: event[1])
    join = "LEFT JOIN" if optional else "JOIN"
    sent: list[Record] = [
        reading(device, arrival, machine=machine) if good else Sent(device, arrival, b"{]")
        for device, arrival, machine, good in log
    ]
    its = [
        machines(*((n, line, 1.0) for n, line in versions[since].items()), since=since) for since in sorted(versions)
    ]
    made = lines(join)
    made.refer({"machines": its})
    found = [result for batches in cut(sent, lengths) for result in data_of(made.step(batches).outputs)]
    rows = [(n, *event) for n, event in enumerate(log)] or [(0, "c", 0, None, False)]
    table = pa.table({str(n): list(column) for n, column in enumerate(zip(*rows, strict=True))})
    known = [(since, n, line) for since, version in versions.items() for n, line in [*version.items(), (-1, "")]]
    reference = pa.table({str(n): list(column) for n, column in enumerate(zip(*known, strict=True))})
    with duckdb.connect() as connection:
        connection.register("event", table)
        connection.register("version", reference)
        expected = connection.execute(f"""
            WITH placed AS (SELECT *, coalesce((SELECT max("0") FROM version WHERE "0" <= event."2"),
                                               (SELECT min("0") FROM version)) AS since FROM event WHERE "4")
            SELECT e."1", e."3", v."2" FROM placed e {join} version v ON v."0" = e.since AND v."1" = e."3"
            ORDER BY e."0"
        """).fetchall()
    assert [(one["device"], one["machine"], one["line"]) for one in found] == expected
