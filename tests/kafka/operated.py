"""An application for the commands that operators use: a query with a shadow, a handler that keeps state of each key,
one that fails, and reference data from the registry."""

from __future__ import annotations

from typing import Any

from millstream import App, Retry, State

app = App("operated", catch_all=False)
telemetry = app.stream("telemetry", topics="site/{device}/telemetry", key="device", partitions=4)
app.stream("evens", topics="evens", partitions=1)
app.reference("devices", "registry")

PEAKS = """
    SELECT device, max(celsius) AS peak, System.Timestamp() AS at
    FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(minute, 10) HAVING max(celsius) > {}"""

app.query("peaks", PEAKS.format(80), into="alerts", start="earliest")
app.query("peaks-2", PEAKS.format(82), shadow="peaks", start="earliest")

app.query(
    "located",
    """
    SELECT t.device, d.tags.line, t.n FROM telemetry t JOIN devices d ON t.device = d.id
    WHERE t.celsius > d.tags.most_celsius""",
    start="earliest",
)


@app.on(telemetry, group="highest", start="earliest")
def highest(data: dict[str, Any], state: State[dict[str, float]]) -> None:
    """Keeps the highest of each device."""
    state.value["celsius"] = max(state.value.get("celsius", 0), data["celsius"])


@app.on(telemetry, group="even", start="earliest", retry=Retry(attempts=1), into="evens")
def even(data: dict[str, Any]) -> dict[str, Any]:
    """Cannot stand odd numbers, unless they are mended."""
    if data["n"] % 2 and "mended" not in data:
        raise ValueError(f"{data['n']} is odd")
    return {"n": data["n"]}
