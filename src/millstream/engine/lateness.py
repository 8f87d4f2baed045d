"""Which events come after their window was closed: exactly, and at no cost where nothing can be late.

An event is late when its window is closed for its key at the moment it stands in the log. Whether it is depends on
every event of its key before it, and on the ticks between them. `walk` says it by definition, event by event. It is
only asked for the keys that `suspects` names: those of which a glance at their windows in the batch (first row, last
row, largest skew) cannot rule out that something is late. `suspects` may err on that side and on no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from millstream.clock import Micros
from millstream.engine.keys import NEVER, Ints, Mask


@dataclass(frozen=True, slots=True)
class Ticks:
    """The ticks of a partition in a step: each stands before a row, and carries the log's time."""

    rows: Ints
    times: Ints

    def latest(self, after: Ints) -> Ints:
        """The latest time of the ticks that stand after each of the given rows (NEVER: there is none)."""
        suffix = np.append(np.maximum.accumulate(self.times[::-1])[::-1], NEVER)
        found: Ints = suffix[np.searchsorted(self.rows, after, "right")]
        return found


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a step's events, a row for each window of a key: where its events stand among the step's rows,
    and the most by which an event time in it is ahead of its arrival (negative: behind)."""

    slot: Ints
    end: Ints
    first_row: Ints
    last_row: Ints
    skew: Ints

    @staticmethod
    def gather(slot: Ints, end: Ints, first_row: Ints, last_row: Ints, skew: Ints) -> Windows:
        """Windows from parts of windows, ordered by slot and end."""
        order = np.lexsort((end, slot))
        slot, end = slot[order], end[order]
        begins = np.flatnonzero(np.append(True, (slot[1:] != slot[:-1]) | (end[1:] != end[:-1])))[: len(slot)]
        return Windows(
            slot[begins],
            end[begins],
            np.minimum.reduceat(first_row[order], begins),
            np.maximum.reduceat(last_row[order], begins),
            np.maximum.reduceat(skew[order], begins),
        )


@dataclass(frozen=True, slots=True)
class Glance:
    """What `suspects` looks at: the windows of a step, and a row for each of them what was known of its key before."""

    windows: Windows
    partition: Ints
    horizon: Ints
    high: Ints
    seen: Ints


def suspects(glance: Glance, ticks: Mapping[int, Ticks], size: Micros, idle: Micros, simple: bool) -> Ints:
    """The slots of which events may be late. `simple` says that a glance at the ticks is enough: there is no grace,
    and no arrival is before an earlier one."""
    windows = glance.windows
    late = windows.end <= glance.horizon
    late[1:] |= (windows.slot[1:] == windows.slot[:-1]) & (windows.last_row[:-1] > windows.first_row[1:])
    for partition, its_ticks in ticks.items():
        mine = glance.partition == partition
        late |= mine & _tick_may_close(glance, its_ticks, size, idle) if simple else mine
    found: Ints = np.unique(windows.slot[late])
    return found


def _tick_may_close(glance: Glance, ticks: Ticks, size: Micros, idle: Micros) -> Mask:
    """Whether a tick may close a window between two of its events (the first may be in an earlier step).

    A tick at T closes up to `high - seen + T - idle`. In a window whose events stand behind those of earlier windows,
    `high` is the event time of one of its own, and its arrival is at most `seen`: so `high - seen` is at most the
    largest skew in the window."""
    windows = glance.windows
    was_open = windows.end - size < glance.high
    skew = np.where(was_open, np.maximum(windows.skew, glance.high - glance.seen), windows.skew)
    first = np.searchsorted(ticks.rows, np.where(was_open, -1, windows.first_row), "right")
    last = np.searchsorted(ticks.rows, windows.last_row, "right")
    time = np.append(ticks.times, NEVER)[last - 1]  # times do not go back: the last tick is the latest
    closes: Mask = (last > first) & (skew + time - idle >= windows.end)
    return closes


def walk(
    events: Iterable[tuple[int, Micros, Micros, Micros, bool]],
    ticks: Ticks | None,
    before: tuple[Micros, Micros, Micros],
    open_ends: set[Micros],
    grace: Micros,
    idle: Micros,
) -> tuple[list[tuple[int, Micros]], Micros]:
    """Walk the events of one key in the order of the log: row, event time, arrival, window end, and what `WHERE` says.

    `before` is `high`, `seen` and `closed` of the key before them, `open_ends` the ends of its open windows. Gives the
    rows that are late with the ends of their windows, and `closed` after the last event."""
    high, seen, closed = before
    late = []
    waiting = list(zip(ticks.rows.tolist(), ticks.times.tolist(), strict=True))[::-1] if ticks else []
    for row, time, arrival, end, kept in events:
        while waiting and waiting[-1][0] <= row:
            idle_since = high - seen + waiting.pop()[1] - idle
            closed = max((closed, *(e for e in open_ends if e <= idle_since)))
        if kept:
            horizon = max(high - grace - 1, closed)
            if end <= horizon:
                late.append((row, end))
            elif end not in open_ends:
                open_ends = {e for e in open_ends if e > horizon} | {end}
        high = max(high, time)
        seen = arrival
    return late, closed
