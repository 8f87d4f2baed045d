"""What is told of an event that counts in a window of so many events."""

from __future__ import annotations

from millstream import App
from millstream.cli.windows import results
from millstream.ledger.trace import COMPLETED, Copy, Outcome


async def test_which_window_an_event_counts_in_follows_from_those_before() -> None:
    app = App("plant", catch_all=False)
    app.stream("telemetry", topics="site/{device}", key="device")
    app.query("counted", "SELECT count(*) AS n FROM telemetry GROUP BY device, CountWindow(1)", start="earliest")
    async with app.test() as plant:
        await plant.publish("site/a", {})
        (event,) = plant.stream("telemetry")
        (told,) = await results(plant._rig.log, app, [Copy(event, [Outcome("counted", COMPLETED)])])
        assert (told.query, told.id) == ("counted", None)
        assert told.why == "if it counts, in which window of 1 events follows from the events before it"
