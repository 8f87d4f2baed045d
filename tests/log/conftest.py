"""The backends over which the behavioural suite runs. Another backend adds a fixture's branch, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.support.records import SETTINGS

from millstream.clock import VirtualClock
from millstream.log import Log
from millstream.log.sqlite import RemoteLog, SqliteLog, serve_log
from millstream.runtime.bus import SocketBus, connect

AnotherLog = Callable[[], Coroutine[Any, Any, Log]]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def shown() -> list[str]:
    """The payloads that transactions have shown."""
    return []


@pytest.fixture(params=["memory", "file", "bus"])
async def another_log(
    request: pytest.FixtureRequest, clock: VirtualClock, tmp_path: Path, shown: list[str]
) -> AsyncIterator[AnotherLog]:
    """Gives the same log again, each time as one more process would see it where the backend has processes."""
    async with AsyncExitStack() as closing:
        if request.param == "memory":
            server = await SqliteLog.memory(clock)
        else:
            server = await SqliteLog.open(tmp_path / "data", SETTINGS, clock)
        closing.push_async_callback(server.close)
        server.on_show(lambda events: shown.extend(data.decode() for data in events.column("data").to_pylist()))
        if request.param == "bus":
            bus = SocketBus()
            serve_log(server, bus)
            await bus.listen(tmp_path / "bus")
            closing.push_async_callback(bus.close)

        async def another() -> Log:
            if request.param != "bus":
                return server
            peer = await connect(tmp_path / "bus")
            closing.push_async_callback(peer.close)
            log = RemoteLog(peer, tmp_path / "data", clock)
            closing.push_async_callback(log.close)
            return log

        yield another


@pytest.fixture
async def log(another_log: AnotherLog) -> Log:
    return await another_log()
