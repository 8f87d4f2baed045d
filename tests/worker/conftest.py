"""A plant for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.support.clock import RestingClock
from tests.support.plant import Plant

from millstream.log.sqlite import SqliteLog


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    clock = RestingClock()
    log = await SqliteLog.memory(clock)
    plant = Plant(clock, log)
    yield plant
    for worker in list(plant.workers):
        await plant.stop(worker, timedelta(0))  # a test that failed may have left calls that nothing ends
    await log.close()
