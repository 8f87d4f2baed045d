"""Devices at hand are what the registry has, whatever changes while they are read."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.devices import PRESS, VISION, change

from millstream.devices import Device, Name, Registry
from millstream.gateway.devices import known_devices
from millstream.gateway.devices.known_devices import KnownDevices


@pytest.fixture
def reads(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> list[Name]:
    """What is asked of the registry."""
    asked: list[Name] = []
    find = registry.find

    async def counted(name: Name) -> Device | None:
        asked.append(name)
        return await find(name)

    monkeypatch.setattr(registry, "find", counted)
    return asked


async def test_a_device_is_read_once_until_it_changes(registry: Registry, reads: list[Name]) -> None:
    known = KnownDevices(registry)
    for _ in range(3):
        found = await known.find(PRESS)
        assert found is not None and found.credentials.password is not None
    assert reads == [PRESS]
    await registry.patch(PRESS, change(status="disabled"))
    changed = await known.find(PRESS)
    assert changed is not None and changed.status == "disabled"
    await registry.delete(PRESS)
    assert await known.find(PRESS) is None and await known.find(VISION) is None


async def test_who_is_not_there_is_asked_for_again(registry: Registry, reads: list[Name]) -> None:
    known = KnownDevices(registry)
    assert await known.find(Name("new")) is None
    await registry.put(Name("new"), change())
    assert await known.find(Name("new")) is not None


async def test_what_was_read_before_a_change_is_not_kept(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is on its way while the device is disabled."""
    known, find = KnownDevices(registry), registry.find
    read, go_on = asyncio.Event(), asyncio.Event()

    async def slow(name: Name) -> Device | None:
        found = await find(name)
        read.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(registry, "find", slow)
    asking = asyncio.ensure_future(known.find(PRESS))
    await read.wait()
    await registry.patch(PRESS, change(status="disabled"))
    go_on.set()
    await asking
    found = await known.find(PRESS)
    assert found is not None and found.status == "disabled"


async def test_so_many_are_at_hand_and_no_more(
    registry: Registry, reads: list[Name], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_devices, "_MOST", 1)
    known = KnownDevices(registry)
    for name in (PRESS, VISION, PRESS):
        await known.find(name)
    assert reads == [PRESS, VISION, PRESS]
