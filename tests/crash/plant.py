"""The application of the crash test: a handler an event, a handler of batches, and a query; what each puts out tells
what it was made from."""

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
