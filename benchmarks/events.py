"""The events of the windows benchmark: made once, the same for every engine, with what must come of them.

A thousand devices report so many times a second, each a little before or after the others and always in order of its
own; one line in ten thousand is no JSON. No time stamp is on the boundary of two windows, which belongs to the earlier
one here and to the later one in other engines.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.lines import Lines, write
from benchmarks.peers import CACHE

DEVICES = 1_000
WINDOW_SECONDS = 10

_EPOCH = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
_MALFORMED_EVERY = 10_000
_MALFORMED = ('{"device":"device-0001","ts":"2025-01-01T00:', "sensor fault", '{"device":')

Results = dict[tuple[str, int], tuple[int, float, float]]
"""By device and window end (seconds since the epoch): count, average, maximum."""


@dataclass(frozen=True, slots=True)
class Events(Lines):
    """Where they are. `rate`: events of a device a second."""

    rate: int

    @property
    def last_closed(self) -> int:
        """The end of the last window that a later event closes for every device; results up to here are compared."""
        seconds = self.count // DEVICES // self.rate
        return _EPOCH + (seconds - 1) // WINDOW_SECONDS * WINDOW_SECONDS


def make(count: int, rate: int) -> Events:
    """The events, from the cache or made now. `count` is a multiple of `DEVICES`, and `rate` divides 100."""
    events = Events(count, CACHE.absolute() / "events" / f"{count}-{rate}", rate)
    write(events, lambda: _lines(count, rate))
    return events


def _lines(count: int, rate: int) -> Iterator[tuple[int, str]]:
    chance = random.Random(count)
    level = [chance.uniform(20, 70) for _ in range(DEVICES)]
    step = 1000 // rate  # milliseconds
    for turn in range(count // DEVICES):
        second = f"{datetime.fromtimestamp(_EPOCH + turn // rate, UTC):%Y-%m-%dT%H:%M:%S}"
        for device in range(DEVICES):
            if (turn * DEVICES + device) % _MALFORMED_EVERY == _MALFORMED_EVERY // 2 - 1:
                yield device, f"{chance.choice(_MALFORMED)}\n"
                continue
            level[device] += chance.uniform(-0.5, 0.5)
            millisecond = turn % rate * step + chance.randrange(1, step)
            yield (
                device,
                f'{{"device":"device-{device:04}","ts":"{second}.{millisecond:03}Z",'
                f'"celsius":{level[device]:.2f},"state":"running"}}\n',
            )


def device_of(number: int) -> str:
    """Which device sent a line, by its place in `whole`: known from the connection, whatever the payload says."""
    return f"device-{number % DEVICES:04}"


def expected(events: Events) -> Results:
    """What every engine must find, computed in the plainest way."""
    sums: dict[tuple[str, int], tuple[int, float, float]] = {}
    with events.whole.open() as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            moment = int(datetime.fromisoformat(event["ts"]).timestamp())
            key = event["device"], moment - moment % WINDOW_SECONDS + WINDOW_SECONDS
            n, total, peak = sums.get(key, (0, 0.0, float("-inf")))
            sums[key] = n + 1, total + event["celsius"], max(peak, event["celsius"])
    return {key: (n, total / n, peak) for key, (n, total, peak) in sums.items() if key[1] <= events.last_closed}


def differences(found: Iterable[tuple[str, int, int, float, float]], wanted: Results, last: int) -> list[str]:
    """Where the results of an engine (device, window end, count, average, maximum) differ from what is wanted."""
    rest = dict(wanted)
    problems = []
    for device, end, *values in found:
        if end > last:
            continue
        truth = rest.pop((device, end), None)
        if truth is None:
            problems.append(f"{device} at {end}: not wanted, or twice")
        elif not _same(values, truth):
            problems.append(f"{device} at {end}: {values} instead of {truth}")
    return problems + [f"{device} at {end}: missing" for device, end in rest]


def _same(found: list[float], wanted: tuple[int, float, float]) -> bool:
    return found[0] == wanted[0] and found[2] == wanted[2] and abs(found[1] - wanted[1]) < 1e-6


def read_results(path: Path, names: Mapping[str, str]) -> Iterator[tuple[str, int, int, float, float]]:
    """Results that an engine wrote as JSON lines, in one file or a folder of them; `names` are its columns' names for
    device, end, n, mean and peak. The end is ISO 8601 or in seconds since the epoch."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        with file.open() as lines:
            for line in lines:
                row = json.loads(line)
                end = row[names["end"]]
                seconds = end if isinstance(end, int) else int(datetime.fromisoformat(end).timestamp())
                yield row[names["device"]], seconds, row[names["n"]], row[names["mean"]], row[names["peak"]]
