"""What the state of a query takes: rows of a day's window with and without the disk, and a million open keys.

The engine alone, each time in a process of its own, whose resident memory is looked at after every step: batches as a
worker hands them to it, already read, and results and state that nobody commits.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from os import getpid

from benchmarks.curves import STREAMS, batches
from benchmarks.process import resident_bytes
from benchmarks.report import Section
from millstream.engine import processor_of
from millstream.engine.scratch import Room, Scratch
from millstream.sql import plan_query

EVENTS = 10_000_000
KEYS = 10_000
OPEN_KEYS = 1_000_000
SMALL = 64  # MiB of rows in memory

_ROWS = "median(v) AS middle"
_VALUES = "count(*) AS n, avg(v) AS mean, max(v) AS peak"
_UNBOUNDED = 1 << 20  # MiB
_SECONDS = 90_000  # of the log: a day and an hour


@dataclass(frozen=True, slots=True)
class Taken:
    """What it took: seconds of processor time and the slowest step, and bytes of resident memory, at first and at most,
    and of rows at most in memory and on disk."""

    seconds: float
    slowest: float
    first: int
    most: int
    memory: int
    disk: int
    results: int


def run(quick: bool) -> Section:
    """Measure all of it."""
    events = EVENTS // 10 if quick else EVENTS
    rows = []
    for title, select, keys, count, memory in (
        (f"median of {KEYS:,} keys, in memory", _ROWS, KEYS, events, _UNBOUNDED),
        (f"the same with {SMALL} MiB of memory for rows", _ROWS, KEYS, events, SMALL),
        (f"count, average and maximum of {OPEN_KEYS:,} keys", _VALUES, OPEN_KEYS, 2 * OPEN_KEYS, SMALL),
    ):
        taken = _apart(select, keys, count, memory)
        print(f"state: {title}: {taken}", file=sys.stderr)
        rows.append(_row(title, taken, count))
    note = (
        f"A window of a day, over {events:,} events of 25 hours (two of each key, where there are a million). "
        "Resident memory of a process with the engine alone, beyond what it has after its first step."
    )
    header = ("query", "memory", "of it rows", "rows on disk", "an event", "slowest step")
    return Section("state", header, rows, notes=[note])


def measure(select: str, keys: int, count: int, memory: int) -> Taken:
    """Run a query over so many events; its rows may have so many MiB of memory."""
    text = f"SELECT device, {select} FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(day, 1)"
    room = Room(Scratch(memory << 20))
    processor = processor_of(plan_query("q", text, STREAMS, into="out"), room=room)
    seconds, steps, resident, rows, disk, results = 0.0, [0.0], [0], [0], [0], 0
    for batch in batches(keys, count, max(count // _SECONDS, 1)):
        began, wall = time.process_time(), time.perf_counter()
        step = processor.step([batch])
        seconds += time.process_time() - began
        steps.append(time.perf_counter() - wall)
        resident.append(resident_bytes([getpid()]))
        rows.append(room.memory)
        disk.append(room.disk)
        results += step.outputs.num_rows if step.outputs is not None else 0
    return Taken(seconds, max(steps), resident[1], max(resident), max(rows), max(disk), results)


def _apart(select: str, keys: int, count: int, memory: int) -> Taken:
    command = [sys.executable, "-m", "benchmarks.state", select, *map(str, (keys, count, memory))]
    return Taken(**json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def _row(title: str, taken: Taken, count: int) -> tuple[str, ...]:
    sizes = (f"{size >> 20:,} MiB" for size in (taken.most - taken.first, taken.memory, taken.disk))
    return title, *sizes, f"{1e6 * taken.seconds / count:.2f} µs", f"{taken.slowest:.1f} s"


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], *map(int, sys.argv[2:])))))
