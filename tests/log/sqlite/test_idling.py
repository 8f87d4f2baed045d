"""Who waits, waits: nothing looks again and again whether something has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from tests.support.clock import RestingClock
from tests.support.records import LIMIT, SETTINGS, append, gain

from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog
from millstream.log.sqlite.reader import Reader

T = TypeVar("T")


@pytest.mark.parametrize("dropped", [False, True])
async def test_members_and_readers_that_wait_do_nothing(
    tmp_path: Path, dropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = RestingClock()
    log = await SqliteLog.open(tmp_path, SETTINGS, clock)
    clock.attend(log)
    await log.create(StreamSpec("a", partitions=2))
    await log.create(StreamSpec("b", partitions=2))
    groups = [await log.join(name, ["a", "b"]) for name in ("g", "h")]
    for group in groups:
        await gain(group)
    if dropped:
        await append(log, "a", 0, "x")
        await log.drop("a")
    waiting: list[asyncio.Future[object]] = [asyncio.ensure_future(group.poll(LIMIT)) for group in groups]
    waiting.append(asyncio.ensure_future(log.read("b", 0, 0, wait=None)))
    await clock.come_to_rest()

    looks = 0
    run = log.core.reads.run

    async def counted(function: Callable[[Reader], T]) -> T:
        nonlocal looks
        looks += 1
        return await run(function)

    monkeypatch.setattr(log.core.reads, "run", counted)
    for _ in range(20):
        await clock.advance(100)
    assert looks == 0
    assert not any(each.done() for each in waiting)
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    await log.close()
