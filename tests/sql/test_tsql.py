"""The functions of T-SQL, on events."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.windows import at, cut, data_of, reading, run

from millstream.engine import processor_of
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}
EVENT: dict[str, Any] = {
    "begun": at(0),
    "v": 5,
    "n": None,
    "items": [{"id": 7}, {"id": 8}],
    "a record": {"x": [1]},
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("DATEDIFF(second, begun, ts)", 90),
        ("DATEDIFF(mi, begun, System.Timestamp())", 1),
        ("DATEDIFF(ms, ts, begun)", -90_000),
        ("DATEADD(minute, -5, System.Timestamp())", at(-210)),
        ("DATEADD(ss, v, begun)", at(5)),
        ("DATEADD(mm, 1, begun)", "2026-02-01T00:00:00Z"),
        ("DATEPART(hour, begun)", 0),
        ("DATEPART(weekday, begun)", 4),
        ("DATENAME(weekday, begun)", "Thursday"),
        ("DATENAME(year, begun)", "2026"),
        ("ISNULL(n, v)", "5"),
        ("ISNULL(v, 0) + 1", 6),
        ("TRY_CAST(v AS bigint)", 5),
        ("CAST(v AS nvarchar(max))", "5"),
        ("IIF(v > 3, 'high', 'low')", "high"),
        ("LEN(CAST(v AS nvarchar(max)))", 1),
        ("GetArrayLength(items)", 2),
        ("GetArrayElement(items, 1)", {"id": 8}),
        ("GetRecordPropertyValue(payload.\"a record\", 'x')", [1]),
    ],
)
def test_function_gives_what_it_gives_there(expression: str, expected: Any) -> None:
    text = f"SELECT {expression} AS x FROM telemetry TIMESTAMP BY ts"
    made = processor_of(plan_query("q", text, STREAMS, into="out"))
    (step,) = run(made, cut([reading("c", 90, **EVENT)], []))
    assert data_of(step.outputs) == [{"x": expected}]


def test_functions_stand_in_every_clause() -> None:
    text = """SELECT DATEPART(minute, System.Timestamp()) AS m, max(DATEDIFF(second, begun, ts)) AS longest
              FROM telemetry TIMESTAMP BY DATEADD(second, 1, ts) WHERE ISNULL(n, 1) = 1
              GROUP BY device, TumblingWindow(minute, 1) HAVING max(DATEDIFF(second, begun, ts)) > 3"""
    made = processor_of(plan_query("q", text, STREAMS, into="out"))
    (step,) = run(made, cut([reading("c", 59, **EVENT), reading("c", 130, **EVENT)], []))
    assert data_of(step.outputs) == [{"m": 1, "longest": 59}]
