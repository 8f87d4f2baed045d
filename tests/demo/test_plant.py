"""The demo's application, in the night in which the machine fails."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from millstream.demo.plant import app
from millstream.demo.recordings import FAILING_DEVICE, readings
from millstream.testing import Pause, Publish

BEGIN, END = b'{"ts":"2014-02-07T20', b'{"ts":"2014-02-08T00'  # of the payloads


async def test_failure_of_the_machine_is_caught_hour_by_hour_and_each_alert_is_told_once() -> None:
    night = [reading for reading in readings() if reading.device == FAILING_DEVICE and BEGIN < reading.payload < END]
    pauses = [Pause(later.at - earlier.at) for earlier, later in pairwise(night)] + [Pause(timedelta(hours=1))]
    async with app.test() as plant:
        for reading, pause in zip(night, pauses, strict=True):
            await plant.play([Publish(reading.topic, reading.payload, id=reading.id), pause])
        assert [(alert.data["problem"], alert.data["window_end"]) for alert in plant.alerts] == [
            ("temperature out of range", "2014-02-07T22:00:00Z"),
            ("temperature out of range", "2014-02-07T23:00:00Z"),
            ("temperature out of range", "2014-02-08T00:00:00Z"),
        ]
        assert [told.data[:20] for told in plant.published(f"notifications/{FAILING_DEVICE}")] == [
            alert.data["window_end"] for alert in plant.alerts
        ]
        assert plant.counts("machine-failing")["processed"] == len(night) == 48
