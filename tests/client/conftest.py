"""A gateway over the real engine in memory, and clients of it on the same clock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.support.clock import RestingClock
from tests.support.gateway import Plant

from millstream import Client
from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    """Started, with a stream of everything in two partitions."""
    clock = RestingClock()
    log = await SqliteLog.memory(clock)
    clock.attend(log)
    await log.create(StreamSpec("events", ("#",), partitions=2))
    plant = Plant(log, clock)
    await plant.start(http="127.0.0.1:0")
    yield plant
    await plant.stop()
    await log.close()


@pytest.fixture
async def client(plant: Plant) -> AsyncIterator[Client]:
    async with Client(address(plant), clock=plant.clock) as client:
        yield client


def address(plant: Plant) -> str:
    assert plant.gateway.http_address is not None
    host, port = plant.gateway.http_address
    return f"http://{host}:{port}"
