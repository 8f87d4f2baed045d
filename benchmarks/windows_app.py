"""The application of the windows benchmark."""

from millstream import App

app = App("windows", catch_all=False)

telemetry = app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")

app.query(
    "averages",
    """
    SELECT device, count(*) AS n, avg(celsius) AS mean, max(celsius) AS peak, System.Timestamp() AS "end"
    FROM telemetry TIMESTAMP BY ts
    GROUP BY device, TumblingWindow(second, 10)
    """,
    start="earliest",
)
