"""A program that appends to a log and says what was acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.support.records import LIMIT, events

from millstream.clock import SystemClock
from millstream.log import EARLIEST, Position, StreamSpec
from millstream.log.sqlite import SqliteLog
from millstream.settings import LogSettings


async def main(folder: Path, first: int) -> None:
    """Append the numbers from `first` on, some in flight at a time, each in a transaction that also moves a group."""
    log = await SqliteLog.open(folder, LogSettings(), SystemClock())
    await log.create(StreamSpec("a", partitions=2))
    group = await log.join("g", ["a"], start=EARLIEST)
    await group.poll(LIMIT, pause=True)

    async def commit(number: int) -> None:
        transaction = group.transaction()
        for partition in (0, 1):
            transaction.append("a", partition, events(*[str(number)] * (1 + number % 3)))
        transaction.save(0, "last", b"%d" % number)
        transaction.count("appended", 1)
        transaction.position("a", 0, Position(0))
        await transaction.commit()
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()

    number = first
    while True:
        await asyncio.gather(*(commit(number + ahead) for ahead in range(4)))
        number += 4


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
