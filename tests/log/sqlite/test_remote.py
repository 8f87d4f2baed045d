"""The log in other processes: what ends a membership, and that nobody asks without need."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.support.records import LIMIT, SETTINGS, WAIT, append, events, gain, payloads, poll_events
from tests.support.streams import eventually

from millstream.bus import Peer
from millstream.clock import VirtualClock
from millstream.errors import FencedError, LogClosedError, LogUnavailableError
from millstream.log import EARLIEST, Group, Position, StreamSpec
from millstream.log.sqlite import RemoteLog, SqliteLog, serve_log
from millstream.log.sqlite.reader import Reader
from millstream.log.sqlite.reads import FileReads
from millstream.log.sqlite.scan import Piece
from millstream.log.sqlite.schema import FILE_NAME
from millstream.runtime.bus import SocketBus, connect
from millstream.runtime.peer import SocketPeer


class Counting:
    """A peer that counts what is asked of it."""

    def __init__(self, peer: SocketPeer) -> None:
        self._peer = peer
        self.asked: Counter[str] = Counter()

    async def request(self, subject: str, body: bytes) -> bytes:
        self.asked[subject] += 1
        return await self._peer.request(subject, body)

    def notify(self, subject: str, body: bytes) -> bool:
        self.asked[subject] += 1
        return self._peer.notify(subject, body)

    def on_close(self, callback: Callable[[], None]) -> None:
        self._peer.on_close(callback)


class Site:
    """A server, and workers whose clocks can stand still, as when their processes are frozen."""

    def __init__(self, server: SqliteLog, bus: SocketBus, folder: Path, clock: VirtualClock) -> None:
        self.server = server
        self.bus = bus
        self.clock = clock
        self._folder = folder
        self._logs: list[RemoteLog] = []
        self._peers: list[SocketPeer] = []

    async def connect(self) -> SocketPeer:
        peer = await connect(self._folder / "bus")
        self._peers.append(peer)
        return peer

    def worker(self, peer: Peer, clock: VirtualClock | None = None) -> RemoteLog:
        log = RemoteLog(peer, self._folder, clock or self.clock)
        self._logs.append(log)
        return log

    async def close(self) -> None:
        for log in self._logs:
            await log.close()
        for peer in self._peers:
            await peer.close()
        await self.bus.close()
        await self.server.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock = VirtualClock()
    server = await SqliteLog.open(tmp_path, SETTINGS, clock)
    await server.create(StreamSpec("a", partitions=4))
    bus = SocketBus()
    serve_log(server, bus)
    await bus.listen(tmp_path / "bus")
    site = Site(server, bus, tmp_path, clock)
    yield site
    await site.close()


async def gained_after(group: Group, numbers: int) -> None:
    """Wait until a member has gained so many partitions."""
    seen = 0
    while seen < numbers:
        seen += len((await asyncio.wait_for(group.poll(LIMIT, pause=True), WAIT)).gained)


async def test_a_process_that_ends_is_replaced_at_once(site: Site) -> None:
    peer = await site.connect()
    dying = await site.worker(peer).join("g", ["a"])
    await gain(dying)
    heir = await site.server.join("g", ["a"])
    await peer.close()
    await gained_after(heir, 4)
    with pytest.raises(LogUnavailableError):
        await dying.poll(LIMIT)


async def test_what_nobody_hears_is_committed_and_not_shown(site: Site) -> None:
    shown: list[pa.RecordBatch] = []
    site.server.on_show(shown.append, lambda topics: "t/heard" in topics)
    transaction = site.worker(await site.connect()).transaction()
    mixed = pa.concat_batches([events("x", key="unheard"), events(*["y"] * 99, key="heard")])
    batches = [
        events("one", key="unheard"),
        events("two", key="heard"),
        events(*["three"] * 100, key="unheard"),
        events(*["four"] * 100, key="heard"),
        mixed,  # its topics are not told, so it is shown
    ]
    for number, batch in enumerate(batches):
        transaction.append("a", number % 4, batch)
        transaction.show(batch)
    await transaction.commit()
    assert pa.concat_batches(shown) == pa.concat_batches([batches[1], batches[3], mixed])
    stored = [len(await site.server.read("a", number, 0)) for number in range(4)]
    assert stored == [101, 1, 100, 100]


async def test_a_silent_process_is_expelled_after_ten_seconds(site: Site) -> None:
    stopped = VirtualClock()
    frozen = await site.worker(await site.connect(), stopped).join("g", ["a"], start=EARLIEST)
    await gain(frozen)
    transaction = frozen.transaction()
    transaction.position("a", 0, Position(0))
    await site.clock.advance(9.9)
    assert (await site.server.groups())[0].members == 1
    await site.clock.advance(0.1)
    assert (await site.server.groups())[0].members == 0
    with pytest.raises(FencedError, match="membership is over"):
        await transaction.commit()
    with pytest.raises(LogUnavailableError, match="join the group again"):
        await stopped.advance(2)
        await frozen.poll(LIMIT)


async def test_signs_of_life_keep_a_process_in(site: Site) -> None:
    worker = site.worker(await site.connect())
    group = await worker.join("g", ["a"])
    await gain(group)
    polling = asyncio.ensure_future(group.poll(LIMIT))
    for _ in range(20):
        await site.clock.advance(3)
        await worker.groups()  # what was sent before it has arrived
    assert (await site.server.groups())[0].members == 1
    await append(site.server, "a", 0, "x")
    assert payloads((await asyncio.wait_for(polling, WAIT)).batches) == ["x"]


async def test_who_was_expelled_can_join_again(site: Site) -> None:
    stopped = VirtualClock()
    worker = site.worker(await site.connect(), stopped)
    await gain(await worker.join("g", ["a"]))
    await site.clock.advance(10)
    again = await worker.join("g", ["a"])
    assert len(await gain(again)) == 4
    await site.clock.advance(9)
    assert (await site.server.groups())[0].members == 1
    await site.clock.advance(1)
    assert (await site.server.groups())[0].members == 0


async def test_an_idle_worker_only_shows_that_it_is_alive(site: Site) -> None:
    peer = Counting(await site.connect())
    worker = site.worker(peer)
    groups = [await worker.join(name, ["a"]) for name in ("g", "h", "i")]
    for group in groups:
        await gain(group)
    polls = [asyncio.ensure_future(group.poll(LIMIT)) for group in groups]
    await eventually(lambda: peer.asked["log.watch"] >= 6)
    peer.asked.clear()
    for _ in range(60):
        await site.clock.advance(1)
        await append(site.server, "a", 0)  # gives both ends time
    assert set(peer.asked) == {"log.alive"}
    assert 15 <= peer.asked["log.alive"] <= 21
    for poll in polls:
        poll.cancel()


async def test_a_busy_worker_asks_for_little_but_commits(site: Site) -> None:
    peer = Counting(await site.connect())
    group = await site.worker(peer).join("g", ["a"], start=EARLIEST)
    await gain(group)
    for number in range(20):
        await append(site.server, "a", 0, str(number))
    peer.asked.clear()
    for number in range(20):
        found = await group.poll(1)
        assert payloads(found.batches) == [str(number)]
        transaction = group.transaction()
        transaction.position("a", 0, Position(found.batches[0].next_offset))
        await transaction.commit()
    assert peer.asked["log.commit"] == 20
    assert sum(peer.asked.values()) <= 22


async def test_a_change_of_ownership_is_heard_with_the_next_commit(site: Site) -> None:
    group = await site.worker(await site.connect()).join("g", ["a"], start=EARLIEST)
    await gain(group)
    await append(site.server, "a", 0, "x", "y")
    await poll_events(group)
    await site.server.join("g", ["a"])
    transaction = group.transaction()
    transaction.position("a", 0, Position(2))
    await transaction.commit()
    assert len((await group.poll(LIMIT)).lost) == 2


async def test_a_server_that_closes_is_unavailable(site: Site) -> None:
    worker = site.worker(await site.connect())
    group = await worker.join("g", ["a"])
    await gain(group)
    polling = asyncio.ensure_future(group.poll(LIMIT))
    reading = asyncio.ensure_future(worker.read("a", 0, 0, wait=None))
    await worker.groups()
    await site.server.close()
    for waiting in (polling, reading):
        with pytest.raises(LogUnavailableError):
            await asyncio.wait_for(waiting, WAIT)
    with pytest.raises(LogUnavailableError):
        await append(worker, "a", 0, "x")


async def test_positions_of_an_earlier_server_are_gone_on_from(tmp_path: Path) -> None:
    clock = VirtualClock()
    stale = None
    for run in range(3):
        server = await SqliteLog.open(tmp_path, SETTINGS, clock)
        await server.create(StreamSpec("a", partitions=1))
        group = await server.join("g", ["a"], start=EARLIEST)
        assert (await gain(group))[0] == {"a": Position(run)}
        if stale is not None:
            with pytest.raises(FencedError):
                await server.core.commit(stale)
        await append(server, "a", 0, str(run))
        assert payloads((await poll_events(group)).batches) == [str(run)]
        stale = group.transaction()
        stale.position("a", 0, Position(run + 1))
        await stale.commit()
        await server.close()


async def test_who_keeps_up_reads_in_the_event_loop_and_who_is_behind_in_a_thread(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: list[bool] = []
    read = Reader.poll

    def noting(*given: Any) -> list[Piece]:
        here.append(threading.current_thread() is threading.main_thread())
        return read(*given)

    monkeypatch.setattr(Reader, "poll", noting)
    group = await site.worker(await site.connect()).join("g", ["a"])
    await gain(group)
    large = ["x" * 20_000] * 4
    seen = []
    for texts in (["one"], ["two"], large, ["three"]):
        for text in texts:
            await append(site.server, "a", 1, text)
        here.clear()
        found: list[str] = []
        while len(found) < len(texts):
            found += payloads((await asyncio.wait_for(poll_events(group), WAIT)).batches)
        assert found == texts
        seen.append(list(here))
    assert seen == [[False], [True], [True, False], [True]]


async def test_nobody_waits_in_the_event_loop_for_what_a_thread_reads(site: Site, tmp_path: Path) -> None:
    reads = FileReads(tmp_path / FILE_NAME)
    catalog = await site.server.streams()
    try:
        assert reads.here(Reader.catalog) is None  # the file is not open yet
        begun, done = threading.Event(), threading.Event()

        def slow(reader: Reader) -> bool:
            begun.set()
            return done.wait(WAIT)

        await reads.run(Reader.catalog)
        reading = asyncio.ensure_future(reads.run(slow))
        await asyncio.to_thread(begun.wait)
        reading.cancel()  # which the thread does not hear
        assert reads.here(Reader.catalog) is None
        done.set()
        await eventually(lambda: reads.here(Reader.catalog) is not None)
        found = reads.here(Reader.catalog)
        assert found is not None
        assert found.specs == catalog
    finally:
        await reads.close()
    with pytest.raises(LogClosedError):
        reads.here(Reader.catalog)
