"""The clock of a partition of the source, for a query whose groups do not lie within the stream's key.

Such a window gets events from every partition, so it closes when all of them have passed its end. Up to where a
partition has passed, its *horizon*, follows from its own records: it is `high - grace - 1` of the events' times, and
goes on in silence, with the time since the last arrival, `idle` behind. So whether an event is late does not depend on
other partitions, nor on how steps are cut, or on when they run: nothing is late where groups are put together.

A tick lets the silence be seen, as far as anything is waited for. At it a partition also follows the others: what they
had passed some time ago (`idle`, before it has had any event; `_PATIENCE` times as much, if it has). Otherwise one that
has never had an event, or whose events were told at another pace than they happened, as in a replay, would hold up all
others.
"""

from __future__ import annotations

import msgspec
import numpy as np

from millstream.clock import SECOND, Micros
from millstream.engine.keys import NEVER, Ints
from millstream.engine.lateness import Ticks
from millstream.engine.plan import WindowPlan
from millstream.engine.window import Window

_PATIENCE = 6
_INSTANTS = 60
_MOST_READINGS = 2_000  # of other clocks that are kept for later


class Reading(msgspec.Struct, array_like=True, frozen=True, order=True):
    """What a partition tells of itself: up to where it had passed at a time of the log."""

    as_of: Micros
    horizon: Micros

    def says(self, other: Reading) -> bool:
        """Whether it leaves nothing to another one."""
        return self.as_of <= other.as_of and self.horizon >= other.horizon


class Passing(msgspec.Struct, array_like=True, frozen=True):
    """What a partition of the source tells of the log's time, where there are early results (`marked.py`): it is in the
    interval that began at the mark `since`, and all others are to pass the mark `until`. Behind them the `seen`, `high`
    and horizon of its clock, as they were when it came there."""

    source: int
    since: Micros
    until: Micros
    seen: Micros
    high: Micros
    horizon: Micros

    def passed(self, mark: Micros, plan: WindowPlan) -> Micros:
        """Its horizon at a mark up to `since`, by what had come before and the silence since."""
        silent = self.high + mark - self.seen - plan.idle if self.seen > NEVER else NEVER
        return max(self.horizon, silent)

    def counts(self, mark: Micros, plan: WindowPlan) -> bool:
        """Whether it goes its own way at a mark. If not it may follow the others, whenever a tick lets it."""
        return self.seen > NEVER and mark - self.seen < _PATIENCE * plan.idle


class PartitionClock(msgspec.Struct, array_like=True):
    """`high` is the largest event time seen, `seen` the arrival of the last event, `closed` what silence or a tick has
    closed, `now` the time of the last record; `told` the horizon that the others know, and `others` readings of theirs
    that are further on, ascending in both, of which the last is known to all. With early results, `since` is the mark
    at which the interval of its last record began, and `until` the one that all partitions are to pass."""

    high: Micros = NEVER
    seen: Micros = NEVER
    closed: Micros = NEVER
    now: Micros = NEVER
    told: Micros = NEVER
    others: list[Reading] = []
    since: Micros = NEVER
    until: Micros = NEVER

    def horizon(self, grace: Micros) -> Micros:
        """Everything up to it has passed."""
        return max(self.high - grace - 1, self.closed)

    def reading(self, plan: WindowPlan) -> Reading:
        """What the others may know. What silence has closed holds as of `idle` ago."""
        by_events = self.high - plan.grace - 1
        return Reading(self.seen if by_events >= self.closed else self.now - plan.idle, self.horizon(plan.grace))

    def passing(self, source: int, since: Micros, plan: WindowPlan) -> Passing:
        """What it tells when its next records are of the interval that began at `since`."""
        return Passing(source, since, self.until, self.seen, self.high, self.horizon(plan.grace))

    def enter(self, passing: Passing, until: Micros) -> Passing | None:
        """Its records of an interval, to which it came as `passing` says, have brought something for which all are to
        pass the mark `until`. Gives what to tell; None: all of it is known."""
        is_known = passing.since <= self.since and until <= self.until
        self.since, self.until = max(self.since, passing.since), max(self.until, until)
        return None if is_known else msgspec.structs.replace(passing, until=self.until)

    def pass_(self, time: Ints, arrival: Ints, row: Ints, ticks: Ticks | None, plan: WindowPlan) -> Ints:
        """Move the clock over events, in the order of the log, and the ticks among and behind them. Gives the horizon
        that each event came upon."""
        count = len(time)
        high = np.maximum.accumulate(np.append(self.high, time))  # before each event, and behind the last
        seen = np.append(self.seen, arrival)
        silent = np.full(count + 1, NEVER, np.int64)
        known = high > NEVER
        gone = np.where(known, high + np.append(arrival, self.seen) - seen - plan.idle, NEVER)
        silent[:count] = gone[:count]
        if ticks is not None:
            place = np.searchsorted(row, ticks.rows)  # the event that each stands before
            passed = high[place] + ticks.times - seen[place] - plan.idle
            wanted = np.maximum(high[place] + plan.reach, self.others[-1].horizon if self.others else NEVER)
            by_tick = np.where(known[place], np.minimum(passed, wanted), NEVER)
            followed = [self._followed(int(t), int(seen[p]), plan) for t, p in zip(ticks.times, place, strict=True)]
            np.maximum.at(silent, place, np.maximum(by_tick, np.array(followed, np.int64)))
            self.now = max(self.now, int(ticks.times.max()))
        closed = np.maximum.accumulate(np.maximum(silent, self.closed))
        horizon: Ints = np.maximum(high - plan.grace - 1, closed)
        self.high, self.closed = int(high[-1]), int(closed[-1])
        if count:
            self.seen = int(arrival[-1])
            self.now = max(self.now, self.seen)
        return horizon[:count]

    def _followed(self, now: Micros, seen: Micros, plan: WindowPlan) -> Micros:
        """What the others had passed, at a tick: long enough ago, and this partition silent for as long."""
        wait = self._wait(plan)
        if seen > NEVER and now - seen < wait:
            return NEVER
        return max((reading.horizon for reading in self.others if reading.as_of <= now - wait), default=NEVER)

    def hear(self, reading: Reading) -> None:
        """Another partition has passed so far."""
        if not any(one.says(reading) for one in self.others):
            self.others = sorted([*(one for one in self.others if not reading.says(one)), reading])
            if len(self.others) > _MOST_READINGS:
                del self.others[1:-1:2]

    def forget(self, grace: Micros) -> None:
        """Let go the readings that this partition has passed itself."""
        horizon = self.horizon(grace)
        self.others = [reading for reading in self.others if reading.horizon > horizon]

    def news(self, plan: WindowPlan) -> Reading | None:
        """What the others should know by now, if there is something: it has passed where a window may end. Windows that
        move end anywhere: then it is one of a few instants, and in silence whatever a tick was asked for."""
        horizon = self.horizon(plan.grace)
        is_silent = plan.moves and self.closed > self.high - plan.grace - 1
        if horizon == self.told or (_next(plan, horizon) == _next(plan, self.told) and not is_silent):
            return None
        self.told = horizon
        return self.reading(plan)

    def due(self, plan: WindowPlan) -> Micros | None:
        """The first whole second at which a tick would let it pass the end of a window, or a mark; None: nobody waits
        for it."""
        end = self._due_end(plan)
        if not plan.early or self.until <= self.since:
            return end
        return self.until if end is None else min(end, self.until)

    def _due_end(self, plan: WindowPlan) -> Micros | None:
        horizon = self.horizon(plan.grace)
        wanted = self.high + plan.reach - (0 if plan.moves else 1) if self.high > NEVER else NEVER
        wanted = max(wanted, self.others[-1].horizon if self.others else NEVER)
        end = min(_next(plan, horizon), wanted) if plan.moves else _next(plan, horizon)
        if end <= horizon or end > wanted:
            return None
        instants = [self.seen + end + plan.idle - self.high] if self.high > NEVER else []
        told = next((reading.as_of for reading in self.others if reading.horizon >= end), None)
        if told is not None:
            instants.append(max(told, self.seen) + self._wait(plan))
        return -(-min(instants) // SECOND) * SECOND

    def _wait(self, plan: WindowPlan) -> Micros:
        """How much later it follows the others."""
        return plan.idle if self.seen == NEVER else _PATIENCE * plan.idle


def _next(plan: WindowPlan, horizon: Micros) -> Micros:
    """The next end of a window behind a horizon; of windows that move, the next of some instants on the way over the
    longest that may be waited for."""
    fixed = [window for window in plan.windows if isinstance(window, Window)]
    steps = [(w.hop, w.offset) for w in fixed] or [(max(SECOND, plan.reach // _INSTANTS), 0)]
    return min(offset + ((horizon - offset) // step + 1) * step for step, offset in steps)
