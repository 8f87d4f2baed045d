"""Which events come after their window was closed: exactly, and at no cost where nothing can be late.

An event is late when its windows are closed for its key at the moment it stands in the log. Whether they are depends
on every event of its key before it, and on the ticks between them. Where windows overlap some of them may be closed and
others open: then it takes part in those that are open, and is not late. `walk` says it by definition, event by event.
It is only asked for the keys that `suspects` names: those of which a glance at their panes in the batch (first row,
last row, largest skew) cannot rule out that something meets a closed window. `suspects` may err on that side and on no
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from millstream.clock import Micros
from millstream.engine.keys import NEVER, Ints, Mask
from millstream.engine.spans import Spans


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
    """The windows of a step's events, a row for each window of a lane: where its events stand among the step's rows,
    and the most by which an event time in it is ahead of its arrival (negative: behind).

    A *lane* is one kind of window of one key, numbered key by key: its slot, where there is one kind only. Where
    windows overlap, a row is what lies between two ends that follow each other, and `end` the first window that it is
    in."""

    lane: Ints
    end: Ints
    first_row: Ints
    last_row: Ints
    skew: Ints

    @staticmethod
    def gather(lane: Ints, end: Ints, first_row: Ints, last_row: Ints, skew: Ints) -> Windows:
        """Windows from parts of windows, ordered by lane and end."""
        order = np.lexsort((end, lane))
        lane, end = lane[order], end[order]
        begins = np.flatnonzero(np.append(True, (lane[1:] != lane[:-1]) | (end[1:] != end[:-1])))[: len(lane)]
        return Windows(
            lane[begins],
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


def suspects(glance: Glance, ticks: Mapping[int, Ticks], size: Micros | None, idle: Micros, simple: bool) -> Ints:
    """The lanes of which events may meet a closed window. `size` is that of windows that tumble (None: they overlap).
    `simple` says that a glance at the ticks is enough: there is no grace, and no arrival is before an earlier one."""
    windows = glance.windows
    late = windows.end <= glance.horizon
    late[1:] |= (windows.lane[1:] == windows.lane[:-1]) & (windows.last_row[:-1] > windows.first_row[1:])
    for partition, its_ticks in ticks.items():
        mine = glance.partition == partition
        if not simple:
            late |= mine
        elif size is None:
            late |= mine & _tick_may_reach(glance, its_ticks, idle)
        else:
            late |= mine & _tick_may_close(glance, its_ticks, size, idle)
    found: Ints = np.unique(windows.lane[late])
    return found


def _tick_may_reach(glance: Glance, ticks: Ticks, idle: Micros) -> Mask:
    """Whether a tick before the last event of a window may close it, as overlapping windows that are open already.

    A tick at T closes up to `high - seen + T - idle`, and `high - seen` is never more than the key's largest skew."""
    windows = glance.windows
    begins = np.flatnonzero(np.append(True, windows.lane[1:] != windows.lane[:-1]))
    skew = np.repeat(np.maximum.reduceat(windows.skew, begins), np.diff(np.append(begins, len(windows.lane))))
    skew = np.where(glance.high > NEVER, np.maximum(skew, glance.high - glance.seen), skew)
    passed = np.searchsorted(ticks.rows, windows.last_row, "right")
    time = np.append(ticks.times, NEVER)[passed - 1]  # times do not go back: the last tick is the latest
    reaches: Mask = skew + time - idle >= windows.end
    return reaches


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


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk found: `late` events by row, with the end of the last window that they missed; `short` ones, which
    met closed windows and open ones, with the horizon that they came upon; and `closed` after the last event."""

    late: list[tuple[int, Micros]]
    short: list[tuple[int, Micros]]
    closed: Micros


def walk(
    events: Iterable[Sequence[Any]],
    ticks: Ticks | None,
    before: tuple[Micros, Micros, Micros],
    open_spans: set[tuple[int, Micros, Micros]],
    spans: Spans,
    grace: Micros,
    idle: Micros,
) -> Walked:
    """Walk the events of one key in the order of the log: row, event time, arrival, what `WHERE` says, the first end of
    its windows of each kind, and the last ones (unless windows tumble).

    `before` is `high`, `seen` and `closed` of the key before them, `open_spans` its open windows: kind, first and last
    end."""
    high, seen, closed = before
    late, short = [], []
    kinds = spans.kinds
    waiting = list(zip(ticks.rows.tolist(), ticks.times.tolist(), strict=True))[::-1] if ticks else []
    for row, time, arrival, kept, *ends in events:
        while waiting and waiting[-1][0] <= row:
            idle_since = high - seen + waiting.pop()[1] - idle
            closed = spans.latest_of(open_spans, idle_since, closed)
            open_spans = spans.still_open(open_spans, max(high - grace - 1, closed))
        if kept:
            horizon = max(high - grace - 1, closed)
            last = max(ends[-kinds:])
            if last <= horizon:
                late.append((row, last))
            else:
                if min(ends[:kinds]) <= horizon:
                    short.append((row, horizon))
                if waiting:
                    open_spans.update(spans.open(ends, horizon))
        high = max(high, time)
        seen = arrival
    return Walked(late, short, closed)
