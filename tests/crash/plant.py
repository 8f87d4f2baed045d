"""The application of the crash test: a handler an event, a handler of batches, a query over windows, one over pairs,
one over pairs of two streams, and one over windows of all devices together; what each puts out tells what it was made
from."""

import json
from typing import Any

from millstream import App, Event

app = App("crash", catch_all=False)
telemetry = app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device", partitions=4)
echoes = app.stream("echoes", topics="echo/{device}", key="device", partitions=4)
batches = app.stream("batches", topics="batch/{device}", key="device", partitions=4)


@app.on(telemetry, into="echo/{device}")
async def echo(event: Event, device: str) -> dict[str, Any]:
    return {"seq": event.data["seq"], "position": event.position}


@app.on(telemetry, batch=True)
def in_batches(events: list[Event]) -> list[Event]:
    return [
        Event(topic=f"batch/{event.key}", payload=json.dumps({"position": event.position}).encode()) for event in events
    ]


app.query(
    "overheating",
    """
    SELECT device, count(*) AS n, sum(seq) AS total, System.Timestamp() AS window_end
    FROM telemetry TIMESTAMP BY ts
    GROUP BY device, TumblingWindow(second, 1)
    """,
)

app.query(
    "followed",
    """
    SELECT a.device, a.seq, b.seq AS next, System.Timestamp() AS at
    FROM telemetry a TIMESTAMP BY ts
    LEFT JOIN telemetry b ON a.device = b.device AND b.seq = a.seq + 1 AND DATEDIFF(millisecond, a, b) BETWEEN 0 AND 500
    """,
)

app.query(
    "answered",
    """
    SELECT t.device, t.seq, e.position, System.Timestamp() AS at
    FROM telemetry t
    JOIN echoes e ON t.device = e.device AND t.seq = e.seq AND DATEDIFF(second, t, e) BETWEEN 0 AND 600
    """,
)

app.query(
    "together",
    """
    SELECT count(*) AS n, sum(seq) AS total, System.Timestamp() AS window_end
    FROM telemetry TIMESTAMP BY ts
    GROUP BY TumblingWindow(second, 1)
    """,
)
