"""What was acknowledged is there after `kill -9`, whole and in order."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.records import SETTINGS, contents

from millstream.clock import SystemClock
from millstream.log.sqlite import ReadOnlyLog, SqliteLog

ROOT = Path(__file__).parents[3]


def append_until_killed(folder: Path, first: int, acknowledgements: int) -> list[int]:
    """The numbers that were acknowledged."""
    command = [sys.executable, "-m", "tests.support.appender", str(folder), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(acknowledgements)]
        process.kill()
        return seen + [int(line) for line in process.stdout.read().splitlines()]


@pytest.mark.parametrize("reader", ["recovered", "read only"])
async def test_what_was_acknowledged_survives(tmp_path: Path, reader: str) -> None:
    chance = random.Random(reader)
    acknowledged: list[int] = []
    for _ in range(3):
        first = acknowledged[-1] + 1000 if acknowledged else 0
        acknowledged += append_until_killed(tmp_path, first, chance.randrange(1, 200))
        log: SqliteLog | ReadOnlyLog
        if reader == "recovered":
            log = await SqliteLog.open(tmp_path, SETTINGS, SystemClock())
        else:
            log = await ReadOnlyLog.open(tmp_path)
        found = await contents(log, "a", 0)
        assert await contents(log, "a", 1) == found
        numbers = list(dict.fromkeys(int(text) for text in found))
        assert numbers == sorted(numbers)
        assert set(acknowledged) <= set(numbers)
        assert found == [str(number) for number in numbers for _ in range(1 + number % 3)]
        (status,) = await log.groups()
        assert status.counts == {"appended": len(numbers)}
        await log.close()
