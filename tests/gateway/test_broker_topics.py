"""`$SYS`: how the broker is, for MQTT tools."""

from __future__ import annotations

import asyncio

from tests.gateway.test_kept_sessions import come
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE

from millstream.clock import VirtualClock
from millstream.mqtt import packet as p


async def test_who_listens_is_told_every_ten_seconds(running: Plant, clock: VirtualClock) -> None:
    watcher, everything = await come(running), await running.connect("everything")
    await watcher.subscribe("$SYS/#", 1)
    await everything.subscribe("#", 0)
    publisher = await running.connect("publisher")
    await publisher.publish("a", b"1", retain=True)
    for _ in range(2):
        told: dict[str, str] = {}
        reading = asyncio.ensure_future(watcher.read(p.Publish))
        async with asyncio.timeout(PATIENCE):
            while len(told) < 8:
                await clock.advance(1)
                if reading.done():
                    message = reading.result()
                    told[message.topic.removeprefix("$SYS/broker/")] = message.payload.decode()
                    reading = asyncio.ensure_future(watcher.read(p.Publish))
        reading.cancel()
        assert told["clients/connected"] == "3"
        assert told["clients/persistent"] == "1"
        assert (told["messages/received"], told["retained messages/count"]) == ("1", "1")
        assert told["version"].startswith("millstream ")
    assert (await everything.read(p.Publish)).topic == "a"
    assert await everything.is_silent(), "wildcards at the first level do not match $SYS (4.7.2)"
    assert running.statistics["received"] == 1
