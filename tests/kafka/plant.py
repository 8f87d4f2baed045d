"""An application for tests of the whole platform on Kafka."""

from __future__ import annotations

from millstream import App, Event

app = App("plant")
telemetry = app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device", partitions=4)
opened = app.stream("opened", topics="site/{site}/{device}/door", key="device", partitions=4)
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

app.reference("lines", "lines.csv")
app.query(
    "followed",
    """
    WITH a AS (SELECT t.device, celsius, l.line FROM telemetry t TIMESTAMP BY ts JOIN lines l ON t.device = l.device)
    SELECT a.device, a.line, a.celsius AS before, b.celsius AS after, System.Timestamp() AS at
    FROM a JOIN telemetry b ON a.device = b.device AND DATEDIFF(second, a, b) BETWEEN 1 AND 1""",
)

app.query(
    "together",
    """
    SELECT count(*) AS n, max(celsius) AS peak, System.Timestamp() AS window_end
    FROM telemetry TIMESTAMP BY ts
    GROUP BY TumblingWindow(second, 10)""",
    grace="31s",  # the devices are sent one after the other, half a minute of each
)

app.query(
    "meanwhile",
    """
    SELECT o.device, o.n, t.celsius
    FROM opened o JOIN telemetry t
    ON o.device = t.device AND t.n = o.n + 1 AND DATEDIFF(hour, o, t) BETWEEN -1 AND 1""",
)
