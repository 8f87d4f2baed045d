"""Wills: after which ends they are published, when, and that a crash does not lose them."""

from __future__ import annotations

import pytest
from tests.gateway.test_kept_sessions import HOUR, come, go, pass_time, restart, take_one
from tests.support.gateway import Plant

from millstream.clock import VirtualClock
from millstream.mqtt import Properties, Version
from millstream.mqtt import packet as p

both_versions = pytest.mark.parametrize("version", list(Version))
WILL = p.Will(topic="gone", payload=b"1", qos=2, retain=True)
LATER = p.Will(topic="gone", payload=b"1", qos=1, properties=Properties(will_delay_interval=30, content_type="x"))


@both_versions
async def test_a_will_has_its_quality_and_is_retained(running: Plant, version: Version) -> None:
    listener = await come(running, client_id="listener")
    await listener.subscribe("gone", 2)
    client = await running.connect("press-1", version, will=WILL)
    await client.close()
    assert (await take_one(listener)).qos == 2
    late = await running.connect("late")
    await late.subscribe("gone", 2)
    assert (await take_one(late)).retain


async def test_a_delayed_will_waits(running: Plant, clock: VirtualClock) -> None:
    await go(running, await come(running, client_id="press-1", will=LATER))
    await clock.advance(20)
    assert await running.read("events") == []
    await pass_time(clock, lambda: running.statistics["received"] == 1)
    (event,) = await running.read("events")
    assert (event.topic, event.payload, event.content_type) == ("gone", b"1", "x")


async def test_who_comes_back_in_time_is_not_mourned(running: Plant, clock: VirtualClock) -> None:
    await go(running, await come(running, client_id="press-1", will=LATER))
    await clock.advance(20)
    await come(running, client_id="press-1")
    await clock.advance(20)
    assert running.statistics["received"] == 0


async def test_the_end_of_the_session_publishes_it_sooner(running: Plant, clock: VirtualClock) -> None:
    for number, end in enumerate(("no session", "expiry", "clean start"), 1):
        expiry = {"no session": 0, "expiry": 10, "clean start": 3_600}[end]
        kept = Properties(session_expiry_interval=expiry)
        await go(running, await come(running, client_id="press-1", will=LATER, properties=kept))
        if end == "clean start":
            assert running.statistics["received"] == number - 1
            await come(running, client_id="press-1", clean_start=True)
        if end == "expiry":
            await clock.advance(9)
            assert running.statistics["received"] == number - 1
            await pass_time(clock, lambda number=number: running.statistics["received"] == number)  # type: ignore[misc]
        await running.until(lambda number=number: running.statistics["received"] == number)  # type: ignore[misc]


@pytest.mark.parametrize("kept", [False, True])
async def test_a_will_survives_the_server(running: Plant, clock: VirtualClock, kept: bool) -> None:
    if kept:
        await come(running, client_id="press-1", will=LATER)
    else:
        await running.connect("press-1", will=WILL)
    await restart(running)
    assert await running.read("events") == []
    await pass_time(clock, lambda: running.statistics["received"] == 1)
    await running.until(lambda: running.statistics["committed"] == 1)
    await restart(running)
    await clock.advance(60)
    assert [event.payload for event in await running.read("events")] == [b"1"], "once"


async def test_goodbye_takes_the_will_back_also_over_a_restart(running: Plant, clock: VirtualClock) -> None:
    client = await running.connect("press-1", will=WILL, properties=HOUR)
    client.send(p.Disconnect())
    await client.rest()
    await restart(running)
    await clock.advance(60)
    assert await running.read("events") == []
