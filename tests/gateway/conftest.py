"""A gateway over the real engine in memory, on a clock that stands still, with clients that are closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.certificates import make_certificate
from tests.support.clock import RestingClock
from tests.support.gateway import Plant

from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog

EVENTS = StreamSpec("events", ("#",), partitions=2)
TELEMETRY = StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device", partitions=4)


@pytest.fixture
def clock() -> RestingClock:
    return RestingClock()


@pytest.fixture
async def log(clock: RestingClock) -> AsyncIterator[SqliteLog]:
    """In memory, with two streams: one for telemetry, keyed by device, and one for everything."""
    log = await SqliteLog.memory(clock)
    clock.attend(log)
    await log.create(EVENTS)
    await log.create(TELEMETRY)
    yield log
    await log.close()


@pytest.fixture
async def plant(log: SqliteLog, clock: RestingClock) -> AsyncIterator[Plant]:
    """Nothing is started yet."""
    plant = Plant(log, clock)
    yield plant
    await plant.stop()


@pytest.fixture
async def running(plant: Plant) -> Plant:
    """Started, with defaults."""
    await plant.start()
    return plant


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `NAME.pem` of the server (localhost), of an authority, and of a client that it vouches for."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificate(folder, "localhost")
    make_certificate(folder, "authority")
    make_certificate(folder, "press-1", by="authority")
    return folder
