"""A disk that fails or is full; bytes that change. What any single call can break is in `tests/faults`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.support.disk import Disk, disk
from tests.support.records import LIMIT, WAIT, append, contents, events, gain, payloads
from tests.support.streams import eventually

from millstream.clock import VirtualClock
from millstream.errors import CorruptChunkError, DiskFaultError, DiskFullError, MillstreamError
from millstream.log import EARLIEST, StreamSpec
from millstream.log.sqlite import ReadOnlyLog, SqliteLog
from millstream.settings import LogSettings

BALLAST = 1 << 20


@pytest.fixture
def faulty() -> Iterator[Disk]:
    with disk() as made:
        yield made


async def open_log(folder: Path, faulty: Disk | None = None, clock: VirtualClock | None = None) -> SqliteLog:
    settings = LogSettings.model_validate({"ballast_bytes": BALLAST})
    log = await SqliteLog.open(
        folder / "data", settings, clock or VirtualClock(), vfs=None if faulty is None else faulty.name
    )
    await log.create(StreamSpec("a", partitions=2))
    return log


async def test_after_a_failed_fsync_nothing_is_acknowledged_any_more(tmp_path: Path, faulty: Disk) -> None:
    log = await open_log(tmp_path, faulty)
    told: list[DiskFaultError] = []
    log.on_fault(told.append)
    await append(log, "a", 0, "good")
    group = await log.join("g", ["a"])
    await gain(group)
    polling = asyncio.ensure_future(group.poll(LIMIT))
    reading = asyncio.ensure_future(log.read("a", 0, 1, wait=None))
    await log.bounds("a", 0)
    faulty.failing_sync = True
    results = await asyncio.gather(*(append(log, "a", 0, str(n)) for n in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [DiskFaultError] * 3
    assert "may or may not be there after a restart" in str(results[0])
    faulty.failing_sync = False
    with pytest.raises(DiskFaultError):
        await append(log, "a", 0, "later")
    for waiting in (polling, reading):
        with pytest.raises(DiskFaultError):
            await asyncio.wait_for(waiting, WAIT)
    assert len(told) == 1
    await log.close()
    log = await open_log(tmp_path)
    assert (await contents(log, "a"))[:1] == ["good"]
    assert "later" not in await contents(log, "a")
    await log.close()


async def test_a_full_disk_is_said_and_survived(tmp_path: Path, faulty: Disk) -> None:
    clock = VirtualClock()
    log = await open_log(tmp_path, faulty, clock)
    ballast = tmp_path / "data" / "ballast"
    await eventually(lambda: ballast.exists() and ballast.stat().st_size == BALLAST)
    await append(log, "a", 0, "before")
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    faulty.room = 50_000
    transaction = group.transaction()
    transaction.append("a", 0, events("during"))
    transaction.append("a", 1, events("x" * 10, random.Random(1).randbytes(100_000).hex()))
    transaction.save(0, "state", b"s")
    for _ in range(2):
        with pytest.raises(DiskFullError, match="nothing was committed"):
            await transaction.commit()
    assert not ballast.exists()
    assert (await contents(log, "a"), await contents(log, "a", 1)) == (["before"], [])
    assert dict(await group.state(0)) == {}
    faulty.room = None
    assert (await transaction.commit()).first_offsets == (1, 0)
    assert await contents(log, "a") == ["before", "during"]
    assert dict(await group.state(0)) == {"state": b"s"}
    await clock.advance(10)
    await append(log, "a", 0, "after")
    await eventually(ballast.exists)
    await log.close()
    log = await open_log(tmp_path)
    assert await contents(log, "a") == ["before", "during", "after"]
    await log.close()


async def test_a_full_disk_fails_the_whole_group_commit_and_nothing_else(tmp_path: Path, faulty: Disk) -> None:
    log = await open_log(tmp_path, faulty)
    faulty.room = 0
    results = await asyncio.gather(*(append(log, "a", 0, str(n)) for n in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [DiskFullError] * 5
    faulty.room = None
    await asyncio.gather(*(append(log, "a", 0, str(n)) for n in range(5)))
    assert await contents(log, "a") == ["0", "1", "2", "3", "4"]
    await log.close()


async def test_a_tick_that_found_no_room_comes_later(tmp_path: Path, faulty: Disk) -> None:
    clock = VirtualClock()
    log = await open_log(tmp_path, faulty, clock)
    group = await log.join("g", ["a"])
    await gain(group)
    transaction = group.transaction()
    transaction.due("a", 0, clock.now())
    faulty.room = 100_000
    await transaction.commit()
    faulty.room = 0
    await log.bounds("a", 0)
    faulty.room = None
    reading = asyncio.ensure_future(log.read("a", 0, 0, wait=None))
    while not reading.done():
        await clock.advance(1)
        await log.bounds("a", 0)
    assert len((await reading).ticks) == 1
    await log.close()


async def test_a_full_database_is_a_full_disk(tmp_path: Path) -> None:
    """SQLite's own bound on pages fails at another place: when a page is asked for, not when it is written."""
    log = await open_log(tmp_path)
    pages = await log.core.writer.call(lambda store: int(str(store.db.pragma("page_count"))))
    await log.core.writer.call(lambda store: store.db.pragma("max_page_count", pages + 20))
    noise = random.Random(1).randbytes(200_000).hex()
    with pytest.raises(DiskFullError):
        await append(log, "a", 0, noise)
    assert (await append(log, "a", 0, "small")).first_offsets == (0,)
    assert await contents(log, "a") == ["small"]
    await log.close()


# --- bytes that change


async def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    await append(log, "a", 1, *"ab")
    await append(log, "a", 1, *"cde")
    await append(log, "a", 1, *"f")

    def damage(db: apsw.Connection) -> None:
        data = bytearray(db.execute("SELECT data FROM chunks WHERE events = 3").get)
        data[99] ^= 1
        db.execute("UPDATE chunks SET data = ? WHERE events = 3", (bytes(data),))

    await log.core.writer.call(lambda store: damage(store.db))
    text = (
        "the chunk at offset 2 of partition 1 of stream 'a' is damaged: its checksum does not match; "
        "read on from offset 5"
    )
    with pytest.raises(CorruptChunkError, match=text):
        await log.read("a", 1, 0)
    with pytest.raises(CorruptChunkError, match=text):
        await log.read("a", 1, 3)
    assert payloads([await log.read("a", 1, 0, limit_bytes=1)]) == ["a"]
    assert payloads([await log.read("a", 1, 5)]) == ["f"]
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    with pytest.raises(CorruptChunkError, match=text):
        await group.poll(LIMIT)
    await log.close()


async def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    group = await log.join("g", ["a"])
    await gain(group)
    transaction = group.transaction()
    transaction.save(1, "window", b"precious")
    await transaction.commit()
    await log.core.writer.call(lambda store: store.db.execute("UPDATE states SET data = x'00'").get)
    with pytest.raises(CorruptChunkError, match="state chunk 'window' of group 'g', partition 1, is damaged"):
        await group.state(1)
    await log.close()


async def test_changed_bytes_are_never_read_as_events(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    chance = random.Random(7)
    texts = [f"{number}: {chance.randbytes(200).hex()}" for number in range(100)]
    for start in range(0, 100, 10):
        await append(log, "a", 0, *texts[start : start + 10])
    await log.close()
    path = tmp_path / "data" / "log.db"
    sound = path.read_bytes()
    noticed = 0
    for _ in range(60):
        damaged = bytearray(sound)
        for place in chance.sample(range(100, len(sound)), 20):
            damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            log_read = await ReadOnlyLog.open(tmp_path / "data")
        except MillstreamError:
            noticed += 1
            continue
        try:
            assert set(await contents(log_read, "a")) <= set(texts)
        except MillstreamError:
            noticed += 1
        finally:
            await log_read.close()
    assert noticed > 30
