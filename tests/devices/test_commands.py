"""Queued commands, over every database."""

from __future__ import annotations

from typing import Any

import pytest
from tests.devices.conftest import OpenRegistry
from tests.devices.test_registry import PRESS, change, outbox

from millstream.clock import SECOND, VirtualClock
from millstream.devices import Command, Commands, Name, Registry, What
from millstream.devices.command import IN_FLIGHT, MAX_DELIVERIES
from millstream.errors import DeviceError, OverloadError, UnknownCommandError, UnknownDeviceError

OTHER = Name("press-2")


@pytest.fixture
async def commands(registry: Registry) -> Commands:
    for name in (PRESS, OTHER):
        await registry.put(name, change())
    return Commands(registry)


def payloads(those: list[Command]) -> list[bytes]:
    return [each.payload for each in those]


async def told(registry: Registry) -> list[tuple[str, dict[str, Any]]]:
    return [
        (topic.removeprefix("$commands/"), data)
        for topic, data in await outbox(registry)
        if topic.startswith("$commands/")
    ]


async def test_commands_come_in_order_and_once(commands: Commands, registry: Registry, clock: VirtualClock) -> None:
    first = await commands.queue(PRESS, b'{ "a": 1 }', by="ann")
    await commands.queue(PRESS, b"", 60)
    await commands.queue(OTHER, b"3")
    assert (first.payload, first.queued, first.expires) == (b'{"a":1}', clock.now(), clock.now() + 3_600 * SECOND)
    taken = await commands.take(PRESS)
    assert payloads(taken) == [b'{"a":1}', b"null"]
    assert [each.deliveries for each in taken] == [1, 1]
    assert await commands.take(PRESS) == [], "it has them"
    await commands.settle(PRESS, taken[0].id, What.DELIVERED)
    await commands.settle(PRESS, taken[1].id, What.REJECTED, "too hot")
    assert await commands.waiting(PRESS) == []
    assert payloads(await commands.waiting(OTHER)) == [b"3"]
    events = await told(registry)
    assert [topic for topic, _ in events] == [
        "press-1/queued",
        "press-1/queued",
        "press-2/queued",
        "press-1/delivered",
        "press-1/rejected",
    ]
    assert (events[0][1]["payload"], events[0][1]["by"], events[0][1]["command"]) == ({"a": 1}, "ann", first.id)
    assert (events[4][1]["reason"], events[4][1]["deliveries"]) == ("too hot", 1)
    for attempt in (taken[0].id, "unknown"):
        with pytest.raises(UnknownCommandError):
            await commands.settle(PRESS, attempt, What.DELIVERED)


async def test_what_is_not_settled_in_time_comes_again(commands: Commands, clock: VirtualClock) -> None:
    await commands.queue(PRESS, b"1")
    await commands.take(PRESS)
    await clock.advance(59)
    assert await commands.take(PRESS) == []
    assert await commands.unsettled() == []
    await clock.advance(1)
    assert await commands.unsettled() == [PRESS]
    (again,) = await commands.take(PRESS)
    assert again.deliveries == 2
    (anew,) = await commands.take(PRESS, anew=True)
    assert anew.deliveries == 3


async def test_a_device_has_only_so_many_at_a_time(commands: Commands) -> None:
    for number in range(IN_FLIGHT + 2):
        await commands.queue(PRESS, str(number).encode())
    taken = await commands.take(PRESS)
    assert payloads(taken) == [str(number).encode() for number in range(IN_FLIGHT)]
    await commands.settle(PRESS, taken[3].id, What.DELIVERED)
    assert payloads(await commands.take(PRESS)) == [str(IN_FLIGHT).encode()]


async def test_commands_expire(commands: Commands, registry: Registry, clock: VirtualClock) -> None:
    await commands.queue(PRESS, b"1", 10)
    await commands.queue(PRESS, b"2", 20)
    await commands.queue(PRESS, b"3", 100)
    await commands.take(PRESS)
    await clock.advance(10)
    assert await commands.expire()
    await clock.advance(10)
    assert payloads(await commands.take(PRESS, anew=True)) == [b"3"], "whether anybody has looked or not"
    events = [(topic, data["deliveries"]) for topic, data in await told(registry) if topic.endswith("expired")]
    assert events == [("press-1/expired", 1)] * 2
    await clock.advance(80)
    assert not await commands.expire()


async def test_what_is_never_settled_ends(commands: Commands, registry: Registry) -> None:
    await commands.queue(PRESS, b"1")
    for _ in range(MAX_DELIVERIES):
        assert len(await commands.take(PRESS, anew=True)) == 1
    assert await commands.take(PRESS, anew=True) == []
    topic, data = (await told(registry))[-1]
    assert (topic, data["reason"]) == ("press-1/expired", f"delivered {MAX_DELIVERIES} times, and never settled")


async def test_commands_are_purged_and_go_with_their_device(commands: Commands, registry: Registry) -> None:
    for name in (PRESS, PRESS, OTHER):
        await commands.queue(name, b"1")
    assert await commands.purge(PRESS, by="ann") == 2
    await registry.delete(OTHER)
    events = [(topic, data.get("by")) for topic, data in await told(registry) if topic.endswith("purged")]
    assert events == [("press-1/purged", "ann")] * 2 + [("press-2/purged", None)]
    await registry.put(OTHER, change())
    assert await commands.waiting(OTHER) == []


async def test_commands_are_there_again(commands: Commands, open_registry: OpenRegistry) -> None:
    queued = await commands.queue(PRESS, b'"\xc3\xa9"')
    again = Commands(await open_registry())
    assert await again.waiting(PRESS) == [queued]


async def test_impossible_commands_are_told(commands: Commands) -> None:
    for wrong in (b"{", b"\xff", b'"' + b"x" * 65_536 + b'"'):
        with pytest.raises(DeviceError):
            await commands.queue(PRESS, wrong)
    for seconds in (0, 10_000_000):
        with pytest.raises(DeviceError, match="lives for"):
            await commands.queue(PRESS, b"1", seconds)
    for attempt in (
        commands.queue(Name("nobody"), b"1"),
        commands.take(Name("nobody")),
        commands.waiting(Name("nobody")),
        commands.purge(Name("nobody")),
    ):
        with pytest.raises(UnknownDeviceError):
            await attempt
    for _ in range(50):
        await commands.queue(PRESS, b"1")
    with pytest.raises(OverloadError, match="50 commands wait"):
        await commands.queue(PRESS, b"1")
