"""A gateway with a registry of two, and somebody who may manage it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.support.devices import CHEAP, PRESS, SECRET, VISION
from tests.support.gateway import Plant

from millstream.clock import VirtualClock
from millstream.devices import Registry
from millstream.log.sqlite import SqliteLog


@pytest.fixture
async def registry(clock: VirtualClock) -> AsyncIterator[Registry]:
    """In memory, with a device and a module that have a password and keys."""
    registry = await Registry.open("", None, clock)
    for name in (PRESS, VISION):
        await registry.put(name, SECRET)
    yield registry
    await registry.close()


@pytest.fixture
async def plant(log: SqliteLog, clock: VirtualClock, registry: Registry) -> AsyncIterator[Plant]:
    """Nothing is started yet."""
    plant = Plant(log, clock, registry)
    yield plant
    await plant.stop()


@pytest.fixture
async def site(plant: Plant) -> Plant:
    """A gateway that knows the user ann, who may manage devices, bob, who may not, and the registry's devices."""
    users = {"ann": {"password": CHEAP, "manage": True}, "bob": CHEAP}
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users)
    return plant
