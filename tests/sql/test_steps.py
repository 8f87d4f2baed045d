"""The steps of WITH come to the same as one query that says it all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from millstream.engine import WindowPlan
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}


def plan(text: str) -> WindowPlan:
    return replace(plan_query("q", text, STREAMS, into="out"), text="")


@pytest.mark.parametrize(
    ("steps", "one"),
    [
        (
            "WITH hot AS (SELECT * FROM telemetry TIMESTAMP BY ts WHERE v > 80) SELECT device, v FROM hot",
            "SELECT device, v FROM telemetry TIMESTAMP BY ts WHERE v > 80",
        ),
        (
            """WITH hot AS (SELECT device, v, motor.rpm AS rpm FROM telemetry AS t TIMESTAMP BY t.ts WHERE t.v > 80)
               SELECT hot.device, max(rpm) AS rpm, System.Timestamp() AS e FROM hot WHERE hot.v < 90
               GROUP BY hot.device, TumblingWindow(second, 10) HAVING max(rpm) > 3""",
            """SELECT device, max(motor.rpm) AS rpm, System.Timestamp() AS e FROM telemetry TIMESTAMP BY ts
               WHERE v > 80 AND v < 90 GROUP BY device, TumblingWindow(second, 10) HAVING max(motor.rpm) > 3""",
        ),
        (
            """WITH a AS (SELECT device, motor AS m FROM telemetry), b AS (SELECT device AS d, m.rpm AS r FROM a)
               SELECT d, r FROM b WHERE r > 3""",
            "SELECT device AS d, motor.rpm AS r FROM telemetry WHERE motor.rpm > 3",
        ),
        (
            "WITH a AS (SELECT device, v AS w FROM telemetry WHERE v > 1) SELECT * FROM a",
            "SELECT device AS device, v AS w FROM telemetry WHERE v > 1",
        ),
        (
            """WITH a AS (SELECT device, v * 2 AS w FROM telemetry)
               SELECT device, floor(w) AS f, count(*) AS n FROM a GROUP BY device, f, HoppingWindow(second, 10, 5)
               HAVING n > 3""",
            """SELECT device, floor((v * 2)) AS f, count(*) AS n FROM telemetry
               GROUP BY device, floor((v * 2)), HoppingWindow(second, 10, 5) HAVING count(*) > 3""",
        ),
        (
            "WITH unused AS (SELECT v FROM telemetry) SELECT device FROM telemetry",
            "SELECT device FROM telemetry",
        ),
    ],
)
def test_steps_are_put_in_where_they_are_read(steps: str, one: str) -> None:
    assert plan(steps) == plan(one)
