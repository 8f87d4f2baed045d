"""The application of the demo: what `millstream demo` runs, and an example of an application of your own."""

import msgspec

from millstream import App, Event

app = App("plant")

app.stream("readings", topics="site/{site}/{device}/{quantity}", key="device")

app.query(
    "hourly",
    """
    SELECT device, quantity, count(*) AS readings, round(avg(value), 1) AS mean, min(value) AS lowest,
           max(value) AS highest, System.Timestamp() AS window_end
    FROM readings TIMESTAMP BY ts
    GROUP BY device, quantity, TumblingWindow(hour, 1)""",
)

app.query(
    "machine-failing",
    """
    SELECT device, 'temperature out of range' AS problem, round(avg(value), 1) AS mean,
           System.Timestamp() AS window_end
    FROM readings TIMESTAMP BY ts
    WHERE site = 'works' AND quantity = 'temperature'
    GROUP BY device, TumblingWindow(hour, 1)
    HAVING avg(value) < 50 OR avg(value) > 104""",
    into="alerts",
)

app.query(
    "office-hot",
    """
    SELECT device, 'too hot to work' AS problem, round(avg(value), 1) AS mean, System.Timestamp() AS window_end
    FROM readings TIMESTAMP BY ts
    WHERE site = 'office'
    GROUP BY device, TumblingWindow(hour, 6)
    HAVING avg(value) > 80""",
    into="alerts",
)

app.query(
    "road-jammed",
    """
    SELECT device, 'traffic is standing' AS problem, round(avg(value), 1) AS mean, System.Timestamp() AS window_end
    FROM readings TIMESTAMP BY ts
    WHERE quantity = 'travel-time'
    GROUP BY device, TumblingWindow(hour, 1)
    HAVING avg(value) > 1200""",
    into="alerts",
)


class Alert(msgspec.Struct):
    device: str
    problem: str
    mean: float
    window_end: str


@app.on("alerts")
def notify(alert: Alert) -> Event:
    """Tell the people on duty: published together with the position in the stream, so once per alert."""
    text = f"{alert.window_end}  {alert.device}: {alert.problem} (mean {alert.mean:g})"
    return Event(topic=f"notifications/{alert.device}", payload=text.encode(), content_type="text/plain")
