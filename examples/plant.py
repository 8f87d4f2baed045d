"""The README's first application."""

from millstream import App, Event

app = App("plant")
app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")


@app.on("site/{site}/{device}/door")
async def door_opened(event: Event, site: str, device: str) -> None:
    print(f"{device} on site {site}: {event.data}")


app.query(
    "overheating",
    """
    SELECT device, avg(celsius) AS mean, System.Timestamp() AS window_end
    FROM telemetry TIMESTAMP BY ts
    GROUP BY device, TumblingWindow(second, 10)
    HAVING avg(celsius) > 80""",
    into="alerts",
)
