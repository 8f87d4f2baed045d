"""An application for tests of the whole platform on Kafka."""

from __future__ import annotations

from millstream import App, Event

app = App("plant")
telemetry = app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device", partitions=4)
doors = app.stream("doors", topics="doors", partitions=1)


@app.on("site/{site}/{device}/door")
async def door_opened(event: Event, device: str) -> Event:
    """Tells of a door."""
    return Event(topic="doors", key=device, payload=event.payload)


app.query(
    "overheating",
    """
    SELECT device, avg(celsius) AS mean, count(*) AS n, System.Timestamp() AS window_end
    FROM telemetry TIMESTAMP BY ts
    GROUP BY device, TumblingWindow(second, 10)
    HAVING avg(celsius) > 80""",
    into="alerts",
)
