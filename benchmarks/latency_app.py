"""The application of the latency benchmark: a handler and a query, each of which answers every reading with an alert.

Every reading of a device is a second later than the one before it, so it closes the window of that one."""

from millstream import App, Event

app = App("latency")

readings = app.stream("readings", topics="query/{device}", key="device")


@app.on("handler/{device}")
def echo(event: Event, device: str) -> None:
    app.publish(f"handled/{device}", event.payload)


app.query(
    "windows",
    """
    SELECT device, max(CAST(n AS BIGINT)) AS n
    FROM readings TIMESTAMP BY ts
    GROUP BY device, TumblingWindow(second, 1)
    """,
    into="alerts",
)
