"""The backends over which the behavioural suite runs. Another backend adds a fixture's branch, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.support.kafka_logs import fresh_prefix, virtual_clock
from tests.support.records import SETTINGS

from millstream.clock import VirtualClock
from millstream.log import Log
from millstream.log.kafka import Cluster, KafkaLog
from millstream.log.sqlite import RemoteLog, SqliteLog, serve_log
from millstream.runtime.bus import SocketBus, connect

AnotherLog = Callable[[], Coroutine[Any, Any, Log]]


@pytest.fixture(params=["memory", "file", "bus", pytest.param("kafka", marks=pytest.mark.kafka)])
def backend(request: pytest.FixtureRequest) -> str:
    """The log that a test runs over."""
    return str(request.param)


@pytest.fixture
def clock(backend: str) -> VirtualClock:
    return virtual_clock() if backend == "kafka" else VirtualClock()


@pytest.fixture
def shown() -> list[str]:
    """The payloads that transactions have shown."""
    return []


@pytest.fixture
async def another_log(
    backend: str, request: pytest.FixtureRequest, clock: VirtualClock, tmp_path: Path, shown: list[str]
) -> AsyncIterator[AnotherLog]:
    """Gives the same log again, each time as one more process would see it where the backend has processes."""

    def show(events: pa.RecordBatch) -> None:
        shown.extend(data.decode() for data in events.column("data").to_pylist())

    async with AsyncExitStack() as closing:
        if backend == "kafka":
            cluster = Cluster(request.getfixturevalue("kafka_servers"), fresh_prefix(), session_seconds=120.0)

            async def another_kafka() -> Log:
                log = await KafkaLog.open(cluster, clock)
                log.on_show(show)
                closing.push_async_callback(log.close)
                return log

            yield another_kafka
            return
        if backend == "memory":
            server = await SqliteLog.memory(clock)
        else:
            server = await SqliteLog.open(tmp_path / "data", SETTINGS, clock)
        closing.push_async_callback(server.close)
        server.on_show(show)
        if backend == "bus":
            bus = SocketBus()
            serve_log(server, bus)
            await bus.listen(tmp_path / "bus")
            closing.push_async_callback(bus.close)

        async def another() -> Log:
            if backend != "bus":
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
