"""What the log measures: what is in its streams, its commits, its groups."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

from tests.support.records import SETTINGS, append, gain
from tests.support.streams import eventually

from millstream.clock import VirtualClock
from millstream.log import EARLIEST, Log, Position, StreamSpec, groups_source
from millstream.log.sqlite import SqliteLog
from millstream.metrics import Distribution, Metric, Reading, catalog


async def measure(log: SqliteLog) -> Reading:
    reading = Reading()
    await log.measure(reading)
    return reading


async def groups(log: Log) -> Reading:
    reading = Reading()
    await groups_source(log)(reading)
    return reading


def distribution(reading: Reading, metric: Metric) -> Distribution:
    found = reading.of(metric)[()]
    assert isinstance(found, Distribution)
    return found


async def test_what_is_in_a_stream_and_what_ever_was(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = await SqliteLog.open(tmp_path, SETTINGS, clock)
    await log.create(StreamSpec("a", partitions=2, retention_age=timedelta(seconds=10)))
    await append(log, "a", 0, "x", "y", "z")
    await append(log, "a", 1, "1")
    reading = await measure(log)
    assert reading.of(catalog.STREAM_EVENTS) == reading.of(catalog.APPENDED_EVENTS) == {("a",): 4}
    assert reading.of(catalog.STREAM_BYTES) == reading.of(catalog.APPENDED_BYTES)
    assert reading.of(catalog.FIRST_OFFSET) == {("a", "0"): 0, ("a", "1"): 0}
    assert reading.of(catalog.NEXT_OFFSET) == {("a", "0"): 3, ("a", "1"): 1}
    await clock.advance(12)

    async def expired() -> bool:
        await clock.advance(0.05)
        return (await measure(log)).of(catalog.STREAM_EVENTS) == {("a",): 0}

    await eventually(expired)
    later = await measure(log)
    assert later.of(catalog.STREAM_BYTES) == {("a",): 0}
    assert later.of(catalog.APPENDED_EVENTS) == {("a",): 4}
    assert later.of(catalog.APPENDED_BYTES) == reading.of(catalog.APPENDED_BYTES)
    assert later.of(catalog.FIRST_OFFSET) == {("a", "0"): 3, ("a", "1"): 1}
    await log.close()
    log = await SqliteLog.open(tmp_path, SETTINGS, clock)
    assert (await measure(log)).of(catalog.APPENDED_EVENTS) == {("a",): 4}  # it is in the file
    await log.drop("a")
    assert (await measure(log)).of(catalog.STREAM_EVENTS) == {}
    await log.close()


async def test_commits_and_checkpoints_and_the_write_ahead_log(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path, SETTINGS, VirtualClock())
    await log.create(StreamSpec("a", partitions=1))
    before = distribution(await measure(log), catalog.SYNC_SECONDS).count
    await append(log, "a", 0, "x")
    reading = await measure(log)
    assert distribution(reading, catalog.SYNC_SECONDS).count == before + 1
    (small,) = reading.of(catalog.WAL_BYTES).values()
    noise = Random(1)
    for _ in range(18):
        await append(log, "a", 0, noise.randbytes(1 << 20).hex())  # which does not compress well
    reading = await measure(log)
    (large,) = reading.of(catalog.WAL_BYTES).values()
    assert isinstance(small, int)
    assert isinstance(large, int)
    assert 0 < small < 1 << 20 < large
    assert distribution(reading, catalog.CHECKPOINT_SECONDS).count >= 1  # at 16 MB
    await log.close()


async def test_lag_members_and_counts_of_groups() -> None:
    log = await SqliteLog.memory(VirtualClock())
    await log.create(StreamSpec("a", partitions=2))
    await log.create(StreamSpec("b", partitions=2))
    for stream in ("a", "b"):
        await append(log, stream, 0, "x", "y")
        await append(log, stream, 1, "z")
    member = await log.join("g", ["a", "b"], start=EARLIEST)
    await log.join("$ours", ["a"])
    await gain(member)
    transaction = member.transaction()
    transaction.position("a", 0, Position(1))
    transaction.count("processed", 1)
    await transaction.commit()
    reading = await groups(log)
    assert reading.of(catalog.LAG) == {("g", "a"): 2, ("g", "b"): 3}
    assert reading.of(catalog.MEMBERS) == {("g",): 1}
    assert reading.of(catalog.COUNTS) == {("g", "processed"): 1}
    await log.close()
