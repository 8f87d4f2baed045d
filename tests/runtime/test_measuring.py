"""Workers' metrics on their way to the server."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest
from tests.support.records import SETTINGS
from tests.support.topics import RecordedTopics

from millstream.bus import Peer
from millstream.clock import VirtualClock
from millstream.engine.scratch import Room, Scratch
from millstream.errors import MillstreamError
from millstream.log.sqlite import SqliteLog
from millstream.metrics import Reading, Sources, catalog
from millstream.runtime import measuring
from millstream.runtime.backend import ServersLog
from millstream.runtime.bus import SocketBus, connect
from millstream.runtime.measuring import SUBJECT, Measuring, server_sources, state_bytes
from millstream.runtime.peer import SocketPeer
from millstream.runtime.topics import BusTopics, TopicsService


class Server:
    """A server's bus and sources, and workers that connect to it."""

    def __init__(self, log: SqliteLog, bus: SocketBus, path: Path) -> None:
        self.bus = bus
        self._path = path
        self._peers: list[SocketPeer] = []
        self._sources = Sources()
        for source in server_sources(ServersLog(log), bus, TopicsService(RecordedTopics(VirtualClock()), bus)):
            self._sources.add(source)

    async def connect(self) -> SocketPeer:
        peer = await connect(self._path)
        self._peers.append(peer)
        with pytest.raises(MillstreamError, match="does not serve"):
            await peer.request("anything", b"")  # it knows us now
        return peer

    async def worker(self, measuring: Measuring) -> SocketPeer:
        peer = await self.connect()
        measuring.attach(peer, BusTopics())
        return peer

    async def read(self) -> Reading:
        return await self._sources.read()

    async def close(self) -> None:
        for peer in self._peers:
            await peer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    log = await SqliteLog.open(tmp_path / "data", SETTINGS, VirtualClock())
    bus = SocketBus()
    server = Server(log, bus, tmp_path / "bus")
    await bus.listen(tmp_path / "bus")
    yield server
    await server.close()
    await bus.close()
    await log.close()


async def test_every_worker_is_asked(server: Server) -> None:
    for number in (1, 2):
        measuring = Measuring(f"worker {number}")
        measuring.processors.of("g").called(0.5, 1, 1)
        measuring.processors.of("g").errors = number
        await server.worker(measuring)
    reading = await server.read()
    assert reading.of(catalog.WORKERS) == {("answering",): 2, ("silent",): 0}
    assert reading.of(catalog.ERRORS) == {("worker 1", "g"): 1, ("worker 2", "g"): 2}
    assert set(reading.of(catalog.CALL_SECONDS)) == {("worker 1", "g"), ("worker 2", "g")}
    processes = {"server", "supervisor", "worker 1", "worker 2"}
    assert {process for (process,) in reading.of(catalog.PROCESS[0])} == processes


async def test_what_queries_keep_is_told_of_all_workers_together(server: Server) -> None:
    for number, table in ((1, pa.table({"a": [1, 2]})), (2, pa.table({"a": [3]}))):
        measuring = Measuring(f"worker {number}")
        room = measuring.processors.of("medians").room = Room(Scratch(16))
        room.hold(table)
        room.hold(table)
        measuring.processors.of("handler").errors = 1
        await server.worker(measuring)
    page = mmap.ALLOCATIONGRANULARITY
    assert await state_bytes(server.bus) == {"medians": {"memory": 16 + 2 * 8, "disk": page}}


async def test_a_command_that_is_connected_is_no_worker(server: Server) -> None:
    await server.connect()
    assert (await server.read()).of(catalog.WORKERS) == {("answering",): 0, ("silent",): 0}


async def test_a_worker_that_does_not_answer_is_silent_and_the_others_are_told(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "PATIENCE_SECONDS", 3.0)  # long for one that answers
    asked = asyncio.Event()

    async def busy(peer: Peer, body: bytes) -> bytes:
        asked.set()
        never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        return await never

    (await server.connect()).serve(SUBJECT, busy)
    await server.worker(Measuring("worker 2"))
    reading = await server.read()
    assert asked.is_set()
    assert reading.of(catalog.WORKERS) == {("answering",): 1, ("silent",): 1}
    assert ("worker 2",) in reading.of(catalog.PROCESS[0])


async def test_what_does_not_decode_is_told_in_the_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async def other_version(peer: Peer, body: bytes) -> bytes:
        return b"\xc1"

    (await server.connect()).serve(SUBJECT, other_version)
    assert (await server.read()).of(catalog.WORKERS)[("answering",)] == 0
    assert "of another version" in caplog.text


async def test_one_process_that_has_joined_again_has_one_series(server: Server) -> None:
    measuring = Measuring("worker")
    topics = BusTopics()
    topics.dropped = 3
    measuring.attach(await server.connect(), topics)
    measuring.attach(await server.connect(), BusTopics())  # the first connection is not closed yet
    reading = await server.read()
    assert reading.of(catalog.BUS_DROPPED) == {("server",): 0, ("worker",): 3}
