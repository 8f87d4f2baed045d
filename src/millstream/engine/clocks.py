"""The clocks of a stream's keys, in a join of events that wait for each other.

A key's clock is the largest event time seen of it in the stream, and what came up to `grace` before that is *closed*:
an event is late if its time was closed when it came. What waits for an event of a closed time waits in vain.

A key that falls silent must not let others wait for ever. An event waits from its own arrival, or the last one of the
key in the other stream, for the bound of the join and `idle`, as the log's time tells; what comes after such a
*silence* is not for it any more. So of each event it is known when it arrived, and when its key had *begun* to speak
after the last silence: two events belong together only if neither of them waited through one of the other's silences
(`Waits.silence`). After a silence of more than a day a key's clock begins anew, as if it had never been seen; so a key
can be forgotten.

All of this is told by the order of one stream and by the times of arrival. It does not matter how far which of two
streams is read, or when a tick comes: a tick only shows that time has passed where nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from millstream.clock import SECOND, Micros
from millstream.engine.keys import FOREVER, NEVER, Ints, Mask
from millstream.event import Batch

_FRESH: Micros = 86_400 * SECOND
"""A clock that was moved longer ago closes nothing for what arrives now. It begins anew so much later that nothing
that it has closed before can be waited for."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long is waited, in microseconds: `grace` for events out of order, `reach` after an event for what belongs to
    it, and `idle` in addition for a key that has fallen silent."""

    grace: Micros
    reach: Micros
    idle: Micros

    @property
    def silence(self) -> Micros:
        """After so long without an event of the other side, an event waits no longer."""
        return self.reach + self.idle

    @property
    def oblivion(self) -> Micros:
        """After so long without an event, a key's clock begins anew."""
        return _FRESH + self.silence


@dataclass(frozen=True, slots=True)
class Came:
    """Events of a step, ordered by key and row: when each came, its key had `begun` to speak at an instant, and time
    was closed up to a `horizon`. `order` is the place of each among the events in the order of rows."""

    slot: Ints
    row: Ints
    horizon: Ints
    begun: Ints
    order: Ints

    def in_order(self) -> tuple[Ints, Ints]:
        """The horizons and beginnings in the order of rows."""
        horizon, begun = np.empty_like(self.horizon), np.empty_like(self.begun)
        horizon[self.order], begun[self.order] = self.horizon, self.begun
        return horizon, begun

    def first_closed(self, slot: Ints, end: Ints, silent: Ints) -> Ints:
        """For each key the row of its first event that came when time was closed up to `end`, or that began to speak
        at `silent` or later; FOREVER: none of the step did."""
        if not len(slot):
            return slot
        begins = np.append(True, self.slot[1:] != self.slot[:-1])[: len(self.slot)]
        horizon = running_maximum(np.cumsum(begins), self.horizon)
        return np.minimum(self._first(horizon, slot, end), self._first(self.begun, slot, silent))

    def _first(self, mine: Ints, slot: Ints, instant: Ints) -> Ints:
        _, ranks = np.unique(np.concatenate([mine, instant]), return_inverse=True)
        width = len(ranks) + 1
        places = self.slot * width + ranks[: len(self.slot)]
        place = np.searchsorted(places, slot * width + ranks[len(self.slot) :], "left")
        found: Ints = np.where(np.append(self.slot, -1)[place] == slot, np.append(self.row, FOREVER)[place], FOREVER)
        return found


class Clocks:
    """The clocks of one stream, by slot of the keys: `high` is the largest event time seen, `seen` the arrival of the
    last event, `begun` that of the first one after the last silence, `closed` what was closed when it was saved. `now`
    is the log's time by partition, as far as the stream is read."""

    columns = ("high", "seen", "begun", "closed")

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self.now: Ints = np.empty(0, np.int64)
        self._set(np.full((len(self.columns), 0), NEVER, np.int64))

    def _set(self, room: Ints) -> None:
        self._room = room
        self.high, self.seen, self.begun, self.closed = room

    def fit(self, slots: int) -> None:
        """Have room for so many keys."""
        if slots > self._room.shape[1]:
            self._set(_grown(self._room, slots))

    def move(self, slots: Ints) -> None:
        """Give keys the new slots of their old ones; those whose new slot is negative are forgotten."""
        room = np.full_like(self._room, NEVER)
        stays = np.flatnonzero(slots >= 0)
        room[:, slots[stays]] = self._room[:, stays]
        self._set(room)

    def forget(self, partition: int) -> None:
        """Nothing is known of the log's time in a partition."""
        self.pass_to(partition, NEVER)
        self.now[partition] = NEVER

    def pass_to(self, partition: int, time: Micros) -> None:
        """The log's time in a partition has come to an instant."""
        self.now = _grown(self.now, partition + 1)
        self.now[partition] = max(int(self.now[partition]), time)

    def read(self, batches: Iterable[Batch]) -> None:
        """Time passes to the last record of each batch."""
        for batch in batches:
            last = [int(batch.times[-1])] if len(batch) else []
            for time in (*last, *(tick.time for tick in batch.ticks[-1:])):
                self.pass_to(batch.partition, time)

    def now_in(self, partition: int) -> Micros:
        """The log's time in a partition; NEVER: it is not known."""
        return int(self.now[partition]) if partition < len(self.now) else NEVER

    def horizon(self, slot: Ints) -> Ints:
        """Up to where time is closed for keys."""
        found: Ints = np.maximum(self.high[slot] - self._waits.grace - 1, self.closed[slot])
        return found

    def advance(self, slot: Ints, row: Ints, time: Ints, arrival: Ints) -> Came:
        """Move the clocks over events in the order of the stream, which is that of their rows."""
        order = np.argsort(slot, kind="stable")
        slot, row, time, arrival = slot[order], row[order], time[order], arrival[order]
        first = np.append(True, slot[1:] != slot[:-1])[: len(slot)]
        seen = np.maximum(running_maximum(np.cumsum(first), arrival), self.seen[slot])
        pause = arrival - np.where(first, self.seen[slot], _shifted(seen))
        begins, anew = pause >= self._waits.silence, pause >= self._waits.oblivion
        begun = np.where(begins, arrival, self.begun[slot])[_last(first | begins)]
        known = ~anew[_last(first | anew)]
        before = np.where(known, self.high[slot], NEVER)
        high = np.maximum(running_maximum(np.cumsum(first | anew), time), before)
        closed = np.where(known, self.closed[slot], NEVER)
        horizon = np.maximum(np.where(first | anew, before, _shifted(high)) - self._waits.grace - 1, closed)
        last = np.append(first[1:], True)[: len(slot)]
        self._room[:, slot[last]] = [column[last] for column in (high, seen, begun, closed)]
        return Came(slot, row, horizon, begun, order)

    def ends(self, slot: Ints, arrival: Ints) -> Ints:
        """Until when events of these keys, which came then, wait at least."""
        found: Ints = np.maximum(arrival, self.seen[slot]) + self._waits.silence
        return found

    def in_vain(self, slot: Ints, partition: Ints, arrival: Ints, end: Ints) -> Mask:
        """Whether events wait in vain that came at `arrival`, and wait for events of this stream up to `end`."""
        closed = (end <= self.horizon(slot)) & (self.seen[slot] > arrival - _FRESH)
        self.now = _grown(self.now, int(partition.max(initial=-1)) + 1)
        is_silent = (self.now[partition] >= self.ends(slot, arrival)) | (
            self.begun[slot] - arrival >= self._waits.silence
        )
        found: Mask = closed | is_silent
        return found

    def forgotten(self, slot: Ints, partition: int) -> Mask:
        """Which keys of a partition this stream tells nothing of any more."""
        seen = self.seen[slot]
        found: Mask = (seen == NEVER) | (self.now_in(partition) - seen >= self._waits.oblivion)
        return found

    @property
    def newest(self) -> Micros:
        """The watermark that is furthest on, of any key; NEVER: there is none yet."""
        return int(self.high.max(initial=NEVER))


def running_maximum(segment: Ints, values: Ints) -> Ints:
    """The largest value so far, segment by segment."""
    if not len(values):
        return values
    lowest = int(values.min())
    span = int(values.max()) - lowest + 1
    if (int(segment[-1]) + 1) * span < FOREVER:
        ascending = np.maximum.accumulate(segment * span + (values - lowest))
        found: Ints = ascending - segment * span + lowest
        return found
    distinct, ranks = np.unique(values, return_inverse=True)
    running: Ints = distinct[np.maximum.accumulate(segment * len(distinct) + ranks) % len(distinct)]
    return running


def _last(begins: Mask) -> Ints:
    """The place of the last beginning, for each place."""
    found: Ints = np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))
    return found


def _shifted(values: Ints) -> Ints:
    return np.append(values[:1], values[:-1])


def _grown(values: Ints, size: int) -> Ints:
    """The same with room for so many, in the last dimension."""
    there = values.shape[-1]
    if size <= there:
        return values
    room = np.full((*values.shape[:-1], max(size, 2 * there)), NEVER, np.int64)
    room[..., :there] = values
    return room
