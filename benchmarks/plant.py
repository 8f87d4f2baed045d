"""The application of the ingest and the idle benchmark: two streams capture every reading, a query consumes one."""

from millstream import App

app = App("plant")

telemetry = app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")

# By arrival time: the generator sends the same readings over and over, which event time would call late.
app.query(
    "averages",
    """
    SELECT device, count(*) AS n, avg(CAST(celsius AS DOUBLE)) AS mean, max(CAST(celsius AS DOUBLE)) AS peak,
           System.Timestamp() AS window_end
    FROM telemetry
    GROUP BY device, TumblingWindow(second, 10)
    """,
)
