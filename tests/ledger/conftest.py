"""A plant for each test, over the real log in memory and in a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.clock import RestingClock
from tests.support.plant import Plant
from tests.support.records import SETTINGS

from millstream.log.sqlite import SqliteLog


@pytest.fixture(params=["memory", "file"])
async def plant(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Plant]:
    clock = RestingClock()
    memory = request.param == "memory"
    log = await SqliteLog.memory(clock) if memory else await SqliteLog.open(tmp_path / "data", SETTINGS, clock)
    plant = Plant(clock, log)
    yield plant
    for worker in list(plant.workers):
        await plant.stop(worker)
    await log.close()
