"""Which events may be handled next: in the order of their arrival, and never two of a key at a time.

No I/O and no clock. Whoever handles events *takes* some; their keys are then *busy*, and later events of a key wait
in its *lane*. When the take is *finished* its keys are free again, except those whose event has to be tried again
later: they stay busy until then, and block no other.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from millstream.worker.segment import Item, Segment, key_of


@dataclass(slots=True)
class Take:
    """Events that are handled together, in order, by one caller. They own their keys."""

    items: list[Item]
    keys: list[str]

    def concerns(self, partitions: frozenset[int]) -> bool:
        """Whether any of the events is of these partitions."""
        return any(segment.partition in partitions for segment, _ in self.items)

    def concerns_only(self, partitions: frozenset[int]) -> bool:
        """Whether all of the events are of these partitions."""
        return all(segment.partition in partitions for segment, _ in self.items)


class Lanes:
    """The events that wait, of all of a handler's partitions.

    A key is busy while an event of it is taken, is ready to be taken next, or has to be tried again later.
    """

    def __init__(self) -> None:
        self._queue: deque[Item] = deque()  # not looked at yet, in order of arrival
        self._lanes: dict[str, deque[Item] | None] = {}  # busy keys, and the events that wait behind
        self._ready: deque[Item] = deque()  # the next events of busy keys
        self._later: dict[str, Item] = {}  # busy keys, and the event that has to be tried again

    def add(self, segment: Segment) -> None:
        """All events of a segment."""
        self._queue.extend(zip(itertools.repeat(segment), range(len(segment)), strict=False))

    def take(self, limit: int) -> Take | None:
        """Up to `limit` events of keys that are not busy; None if there are none."""
        items: list[Item] = []
        keys: dict[str, None] = {}
        while self._ready and len(items) < limit:
            item = self._ready.popleft()
            items.append(item)
            keys[key_of(item)] = None
            self._take_waiting(key_of(item), items, limit)
        lanes, queue = self._lanes, self._queue
        while queue and len(items) < limit:
            item = queue.popleft()
            key = item[0].keys[item[1]]
            if key in keys:
                items.append(item)
            elif key in lanes:
                self._lane(key).append(item)
            else:
                keys[key] = lanes[key] = None
                items.append(item)
        return Take(items, list(keys)) if items else None

    def finish(self, take: Take, *, again: Sequence[Item] = (), left: Sequence[Item] = ()) -> None:
        """The take is over. `again` are its events that have to be tried later: their keys stay busy until `retry`.
        `left` are those that were not begun: they are next in their keys."""
        for item in reversed(left):
            if not item[0].closed:
                self._lane(key_of(item)).appendleft(item)
        for item in again:
            if not item[0].closed:
                self._later[key_of(item)] = item
        for key in take.keys:
            if key not in self._later:
                self._free(key)

    def retry(self, item: Item) -> None:
        """The time has come to try an event again."""
        if self._later.get(key_of(item)) is item:
            del self._later[key_of(item)]
            self._ready.append(item)

    def drop(self) -> None:
        """Forget the events of closed segments. Their keys are free, except those that are taken now."""
        self._queue = _kept(self._queue)
        self._lanes = {key: _kept(lane) if lane else None for key, lane in self._lanes.items()}
        gone = [item for item in (*self._ready, *self._later.values()) if item[0].closed]
        self._ready = _kept(self._ready)
        self._later = {key: item for key, item in self._later.items() if not item[0].closed}
        for item in gone:
            self._free(key_of(item))

    def _take_waiting(self, key: str, items: list[Item], limit: int) -> None:
        lane = self._lanes[key]
        while lane and len(items) < limit:
            items.append(lane.popleft())

    def _lane(self, key: str) -> deque[Item]:
        lane = self._lanes[key]
        if lane is None:
            lane = self._lanes[key] = deque()
        return lane

    def _free(self, key: str) -> None:
        lane = self._lanes[key]
        if lane:
            self._ready.append(lane.popleft())
        else:
            del self._lanes[key]


def _kept(items: deque[Item]) -> deque[Item]:
    return deque(item for item in items if not item[0].closed)
