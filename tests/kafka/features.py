"""An application that has what queries and handlers can do, each once, for the tests that compare logs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from millstream import App, Event, Retry, State

SITES = "site/{site}/{line}/{device}"

app = App("features", catch_all=False)
telemetry = app.stream("telemetry", topics=f"{SITES}/telemetry", key="device", partitions=4)
orders = app.stream("orders", topics=f"{SITES}/order", key="device", partitions=4)
app.stream("copies", topics="copy/{device}", key="device", partitions=4)
app.stream("sums", topics="sums", partitions=1)
app.stream("taken", topics="taken", partitions=1)
app.reference("lines", "lines.csv")

QUERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chosen": ("SELECT *, celsius / 2 AS half FROM telemetry TIMESTAMP BY ts WHERE n % 3 = 0", {}),
    "tumbling": (
        """SELECT device, count(*) AS n, avg(celsius) AS mean, round(stddev_samp(celsius), 6) AS spread,
                  last(state) AS state, System.Timestamp() AS at
           FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(second, 10) HAVING avg(celsius) > 72""",
        {},
    ),
    "rows": (
        """SELECT device, median(celsius) AS middle, count(DISTINCT celsius) AS different, COLLECT(n) AS all_n,
                  TopOne() OVER (ORDER BY celsius DESC) AS top, System.Timestamp() AS at
           FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(second, 20)""",
        {},
    ),
    "hopping": (
        """SELECT device, state, sum(n) AS total, System.Timestamp() AS at
           FROM telemetry TIMESTAMP BY ts GROUP BY device, state, HoppingWindow(second, 20, 5)""",
        {},
    ),
    "sliding": (
        """SELECT device, max(celsius) AS peak, count(*) AS n, System.Timestamp() AS at
           FROM telemetry TIMESTAMP BY ts GROUP BY device, SlidingWindow(second, 5)""",
        {},
    ),
    "sessions": (
        """SELECT device, count(*) AS n, System.Timestamp() AS at
           FROM telemetry TIMESTAMP BY ts GROUP BY device, SessionWindow(second, 3, 30)""",
        {},
    ),
    "several": (
        """SELECT device, System.Window().Id AS which, count(*) AS n, System.Timestamp() AS at FROM telemetry
           TIMESTAMP BY ts GROUP BY device, Windows(Window('short', TumblingWindow(second, 5)),
                                                    Window('long', TumblingWindow(second, 40)))""",
        {},
    ),
    "instants": (
        """SELECT device, count(*) AS n, System.Timestamp() AS at
           FROM telemetry TIMESTAMP BY ts GROUP BY device, System.Timestamp()""",
        {},
    ),
    "counted": ("SELECT device, list(n) AS n FROM telemetry GROUP BY device, CountWindow(7)", {"grace": 0}),
    "recent": ("SELECT device, sum(n) AS n FROM telemetry GROUP BY device, CountWindow(10, 3)", {"grace": 0}),
    "hourly": (
        """SELECT device, count(*) AS n, sum(n) AS total, System.Timestamp() AS at
           FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(hour, 1)""",
        {"early": "1s"},
    ),
    "hourly-by-line": (
        """SELECT line, count(*) AS n, sum(n) AS total, System.Timestamp() AS at
           FROM telemetry TIMESTAMP BY ts GROUP BY line, TumblingWindow(hour, 1)""",
        {"early": "1s"},
    ),
    "changes": (
        """SELECT device, n, celsius - LAG(celsius, 2) OVER (LIMIT DURATION(minute, 1)) AS rise,
                  LAST(n) OVER (LIMIT DURATION(minute, 5) WHEN state = 'hot') AS last_hot,
                  ISFIRST(second, 15) OVER (PARTITION BY device) AS is_first
           FROM telemetry TIMESTAMP BY ts""",
        {"grace": 0},
    ),
    "cells": (
        """SELECT t.device, t.n, r.ArrayIndex AS number, r.ArrayValue.volts AS volts
           FROM telemetry AS t CROSS APPLY GetArrayElements(t.cells) AS r""",
        {"grace": 0},
    ),
    "weakest": (
        """SELECT t.device, min(r.ArrayValue.volts) AS volts, count(*) AS n, System.Timestamp() AS at
           FROM telemetry AS t TIMESTAMP BY t.ts CROSS APPLY GetArrayElements(t.cells) AS r
           GROUP BY t.device, TumblingWindow(second, 30)""",
        {},
    ),
    "located": (
        """SELECT t.device, l.line, max(celsius) AS peak, System.Timestamp() AS at
           FROM telemetry t TIMESTAMP BY ts LEFT JOIN lines l ON t.device = l.device
           GROUP BY t.device, l.line, TumblingWindow(second, 10)""",
        {},
    ),
    "pairs": (
        """SELECT a.device, a.n, b.n AS later, System.Timestamp() AS at
           FROM telemetry a TIMESTAMP BY ts LEFT JOIN telemetry b
           ON a.device = b.device AND b.n = a.n + 2 AND b.state = 'hot' AND DATEDIFF(second, a, b) BETWEEN 0 AND 5""",
        {},
    ),
    "ordered": (
        """SELECT o.device, o.number, t.celsius FROM orders o JOIN telemetry t
           ON o.device = t.device AND t.n = o.number AND DATEDIFF(hour, o, t) BETWEEN -1 AND 1""",
        {},
    ),
    "by-line": (
        """SELECT line, count(*) AS n, max(celsius) AS peak, System.Timestamp() AS at
           FROM telemetry TIMESTAMP BY ts GROUP BY line, TumblingWindow(second, 10)""",
        {},
    ),
    "statements": (
        """WITH tens AS (SELECT device, avg(celsius) AS mean FROM telemetry TIMESTAMP BY ts
                         GROUP BY device, TumblingWindow(second, 10))
           SELECT device, mean, System.Timestamp() AS at INTO warm FROM tens WHERE mean > 73
           SELECT device, count(*) AS n, max(mean) AS top, System.Timestamp() AS at INTO minutes
           FROM tens GROUP BY device, TumblingWindow(minute, 1)""",
        {},
    ),
    "both": (
        """SELECT device, n FROM telemetry WHERE n % 10 = 0
           UNION SELECT device, number AS n FROM orders WHERE number % 20 = 0""",
        {"grace": 0},
    ),
}

GRACE = "60s"
"""However long a busy machine takes from one publish to the next, no device counts as silent."""

for name, (sql, options) in QUERIES.items():
    app.query(name, sql, start="earliest", **{"grace": GRACE, **options})


def summed_up(total: State[dict[str, int]], device: str) -> dict[str, Any]:
    """What has come by then."""
    return {"device": device, **total.value}


ONCE_MORE = Retry(attempts=2, delay=timedelta(milliseconds=10))


@app.on(telemetry, start="earliest", into="sums", wake=summed_up, retry=ONCE_MORE)
def summing(event: Event, total: State[dict[str, int]]) -> dict[str, Any] | None:
    """Every tenth sum, and the last one by a wake."""
    reading = event.data
    total.value["n"] = total.value.get("n", 0) + 1
    total.value["sum"] = total.value.get("sum", 0) + reading["n"]
    if reading["state"] == "end" and event.time is not None:
        total.wake_at = event.time + timedelta(seconds=1)
    return {"device": event.key, **total.value} if total.value["n"] % 10 == 0 else None


@app.on(telemetry, start="earliest", batch=50)
def in_batches(events: list[Event]) -> list[Event]:
    """One for each, however they are divided."""
    return [Event(topic=f"copy/{event.key}", payload=event.payload) for event in events]


@app.on(orders, start="earliest", into="taken", retry=ONCE_MORE)
async def take(event: Event) -> dict[str, Any]:
    """Some cannot be taken."""
    if event.data["number"] % 7 == 0:
        raise ValueError("no such number")
    return {"device": event.key, "number": event.data["number"]}


OUTPUTS = (
    *sorted(set(QUERIES) - {"statements"}),
    *("warm", "minutes", "sums", "copies", "taken", "tumbling.late", "$deadletters"),
)
"""The streams of what comes out; early results are another matter."""
