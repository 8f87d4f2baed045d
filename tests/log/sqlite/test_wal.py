"""The write-ahead log stays bounded, whoever reads meanwhile."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from tests.support.records import LIMIT, SETTINGS, append, gain

from millstream.clock import VirtualClock
from millstream.log import EARLIEST, StreamSpec
from millstream.log.sqlite import SqliteLog, checkpoint
from millstream.log.sqlite.schema import FILE_NAME, PAGE_BYTES, open_reader

STEP, LIMIT_PAGES = 20, 100


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "STEP_PAGES", STEP)
    monkeypatch.setattr(checkpoint, "LIMIT_PAGES", LIMIT_PAGES)
    monkeypatch.setattr(checkpoint, "PATIENCE_MILLISECONDS", 20)


def wal_pages(folder: Path) -> int:
    return (folder / f"{FILE_NAME}-wal").stat().st_size // PAGE_BYTES


async def test_it_is_used_again_while_others_read_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PATIENCE_MILLISECONDS", 60_000)  # a busy machine may stop the reader for long
    log = await SqliteLog.open(tmp_path, SETTINGS, VirtualClock())
    await log.create(StreamSpec("a", partitions=2))
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)

    async def read() -> None:
        while True:
            await group.poll(LIMIT)

    reading = asyncio.ensure_future(read())
    for number in range(300):
        await append(log, "a", number % 2, "x" * 3000)
    assert wal_pages(tmp_path) < LIMIT_PAGES + 2 * STEP
    reading.cancel()
    await asyncio.wait([reading])
    await log.close()


async def test_a_reader_that_is_stopped_is_complained_of_and_does_not_stop_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = await SqliteLog.open(tmp_path, SETTINGS, VirtualClock())
    await log.create(StreamSpec("a", partitions=1))
    await append(log, "a", 0, "x")
    stopped = open_reader(tmp_path / FILE_NAME)
    stopped.execute("BEGIN")
    assert stopped.execute("SELECT count(*) FROM chunks").get == 1
    for number in range(30):
        await append(log, "a", 0, random.Random(number).randbytes(10_000).hex())
    assert "is a process stopped?" in caplog.text
    assert wal_pages(tmp_path) > LIMIT_PAGES
    assert stopped.execute("SELECT count(*) FROM chunks").get == 1
    stopped.close()
    before = wal_pages(tmp_path)
    for number in range(60):
        await append(log, "a", 0, random.Random(number).randbytes(10_000).hex())
    assert wal_pages(tmp_path) == before  # it is used again from its beginning
    await log.close()
    assert not (tmp_path / f"{FILE_NAME}-wal").exists()
