"""From the outbox to streams: each event once, in order, whenever the server dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pyarrow as pa
import pytest
from tests.devices.conftest import OpenRegistry
from tests.support.gateway import HeldLog

from millstream.clock import Clock, VirtualClock
from millstream.devices import STREAM, Change, Definition, Name, Presence, Registry, Relay, lifecycle
from millstream.devices.relay import GROUP
from millstream.errors import DiskFullError, FencedError
from millstream.event import Event
from millstream.log import Log, StreamSpec
from millstream.log.sqlite import SqliteLog

PRESS = Name("press-1")


class Published:
    """What subscribers of the moment got."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    def __call__(self, events: pa.RecordBatch) -> None:
        self.topics += events.column("topic").to_pylist()


@pytest.fixture
async def log(clock: VirtualClock) -> AsyncIterator[SqliteLog]:
    log = await SqliteLog.memory(clock)
    yield log
    await log.close()


async def read(log: Log, stream: str = STREAM.name) -> list[Event]:
    if stream not in await log.streams():
        return []
    batches = [await log.read(stream, number, 0) for number in range((await log.streams())[stream].partitions)]
    return sorted((event for batch in batches for event in batch), key=lambda event: int(str(event.id).split("-")[1]))


async def relayed(registry: Registry, log: Log, clock: Clock) -> Relay:
    relay = Relay(registry, log, Published(), clock)
    await relay.start()
    await relay.drain()
    return relay


async def test_events_come_in_order_and_to_every_stream_that_captures_them(
    registry: Registry, log: SqliteLog, clock: VirtualClock
) -> None:
    await log.create(StreamSpec("disabled", ("$devices/{device}/updated",), key="device"))
    published = Published()
    relay = Relay(registry, log, published, clock)
    await relay.start()
    await registry.put_many([Definition(Name(f"d{n}"), Change()) for n in range(2_500)], by="ann")
    await registry.patch(Name("d7"), Change(tags={"a": 1}))
    await relay.drain()
    events = await read(log)
    assert [event.data["device"] for event in events] == [*(f"d{n}" for n in range(2_500)), "d7"]
    assert published.topics == [*(event.topic for event in events), "$twins/d7/tags"]
    (tags,) = await read(log, "$twins")
    assert (tags.key, tags.type, tags.data["patch"]) == ("d7", "millstream.twin.tags", {"a": 1})
    (updated,) = await read(log, "disabled")
    assert (updated.key, updated.type, updated.content_type) == ("d7", "millstream.device.updated", "application/json")
    assert await registry.database.read(lambda connection: lifecycle.waiting(connection, "", 0, 1)) == []
    await relay.close()


async def test_what_the_server_did_not_live_to_relay_comes_after_its_next_start(
    registry: Registry, open_registry: OpenRegistry, log: SqliteLog, clock: VirtualClock
) -> None:
    await registry.put(PRESS, Change())
    relay = await relayed(await open_registry(), log, clock)
    assert len(await read(log)) == 1
    await relay.close()


async def test_a_crash_between_log_and_outbox_repeats_nothing(
    registry: Registry, log: SqliteLog, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(connection: object, up_to: int) -> None:
        raise DiskFullError("")

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "take_out", crash)
        await registry.put(PRESS, Change())
        relay = Relay(registry, log, Published(), clock)
        await relay.start()
        await relay.close()
    assert len(await registry.database.read(lambda connection: lifecycle.waiting(connection, "", 0, 9))) == 1
    again = await relayed(registry, log, clock)
    await registry.put(PRESS, Change(tags={"a": 1}))
    await again.drain()
    assert [event.topic for event in await read(log)] == ["$devices/press-1/created", "$devices/press-1/updated"]
    await again.close()


async def test_another_registry_begins_at_its_beginning(
    registry: Registry, log: SqliteLog, clock: VirtualClock
) -> None:
    for n in range(3):
        await registry.put(Name(f"d{n}"), Change())
    await (await relayed(registry, log, clock)).close()
    other = await Registry.open("", None, clock)
    await other.put(PRESS, Change())
    await (await relayed(other, log, clock)).close()
    assert [event.data["device"] for event in await read(log)].count("press-1") == 1
    await other.close()


async def test_a_full_disk_makes_events_wait(registry: Registry, log: SqliteLog, clock: VirtualClock) -> None:
    held = HeldLog(log)
    held.errors.append(DiskFullError("full"))
    relay = Relay(registry, held, Published(), clock)
    await registry.put(PRESS, Change())
    await relay.start()
    while clock.next_due is None:
        await registry.find(PRESS)
    assert await read(log) == []
    await clock.advance(1)
    await relay.drain()
    assert len(await read(log)) == 1
    await relay.close()


async def test_a_membership_that_has_ended_makes_events_wait_and_repeats_nothing(
    registry: Registry, log: SqliteLog, clock: VirtualClock
) -> None:
    held = HeldLog(log)
    await registry.put(PRESS, Change())
    relay = await relayed(registry, held, clock)
    reached = (await held.members[GROUP].state(0))["outbox"]
    held.errors.append(FencedError("gone to another member"))
    await registry.put(PRESS, Change(tags={"a": 1}))
    draining = asyncio.ensure_future(relay.drain())
    while not draining.done():
        await clock.advance(1)
    assert [event.topic for event in await read(log)] == ["$devices/press-1/created", "$devices/press-1/updated"]
    assert (await held.members[GROUP].state(0))["outbox"] != reached
    await relay.close()


async def test_presence_is_one_event_for_a_device_with_several_connections(
    registry: Registry, log: SqliteLog, clock: VirtualClock
) -> None:
    generation = (await registry.put(PRESS, Change())).device.generation
    relay = await relayed(registry, log, clock)
    presence = Presence(registry, clock)
    presence.came(PRESS, generation, {"client": "a"})
    presence.came(PRESS, generation, {"client": "b"})
    presence.gone(PRESS, generation, {"reason": "success"})
    assert presence.connected == 1
    await presence.close()
    assert (await registry.get(PRESS)).connected
    presence.gone(PRESS, generation, {"reason": "keep_alive_timeout"})
    await presence.close()
    assert not (await registry.get(PRESS)).connected
    await relay.drain()
    events = (await read(log))[1:]
    assert [(event.topic, event.data.get("client"), event.data.get("reason")) for event in events] == [
        ("$devices/press-1/connected", "a", None),
        ("$devices/press-1/disconnected", None, "keep_alive_timeout"),
    ]
    await relay.close()


async def test_presence_is_right_after_a_crash(
    registry: Registry, open_registry: OpenRegistry, log: SqliteLog, clock: VirtualClock
) -> None:
    await registry.put_many([Definition(Name(f"d{n}"), Change()) for n in range(1_500)])
    presence = Presence(registry, clock)
    for device in await registry.page(limit=2_000):
        presence.came(device.name, device.generation, {})
    await presence.close()
    assert len(await registry.page("connected", limit=2_000)) == 1_500
    again = await open_registry()
    await Presence(again, clock).start()
    assert await again.page("connected") == []
    relay = await relayed(again, log, clock)
    lost = [event for event in await read(log) if event.topic.endswith("/disconnected")]
    assert len(lost) == 1_500
    assert {event.data["reason"] for event in lost} == {"server_lost"}
    await relay.close()


async def test_activity_is_written_now_and_then(registry: Registry, clock: VirtualClock) -> None:
    generation = (await registry.put(PRESS, Change())).device.generation
    presence = Presence(registry, clock)
    presence.came(PRESS, generation, {})
    await presence.close()
    await clock.advance(10)
    presence.active(PRESS)
    heard = clock.now()
    while clock.next_due is None:
        await registry.find(PRESS)
    assert (await registry.get(PRESS)).last_activity != heard
    await clock.advance(60)
    await presence.close()
    assert (await registry.get(PRESS)).last_activity == heard
