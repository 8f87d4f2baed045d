"""How far a handler is in one partition, when its events are completed out of order."""

from __future__ import annotations

from collections import deque

import numpy as np

from millstream.log import Position
from millstream.worker.segment import Segment


class Progress:
    """The segments under way in a partition, oldest first, and the position that they come to.

    Events that were not selected need no entry in a position: whoever reads them again skips them again. So they are
    counted when the low-water offset passes them, once, however often they were read. So are those that retention took.
    """

    def __init__(self, position: Position) -> None:
        self._low = position.low
        self._earlier = position.done  # completed before this member had the partition
        self._segments: deque[Segment] = deque()
        self._skipped = 0
        self._skipped_in_first = 0  # of the first segment, counted already
        self._expired = 0
        self._gap = 0  # events that are gone before what will be read next

    def add(self, segment: Segment) -> None:
        """The next batch that was read."""
        if self._segments and not len(segment) and not self._gap:
            self._segments[-1].absorb(segment)
        else:
            segment.gap, self._gap = self._gap, 0
            self._segments.append(segment)

    def expire(self, events: int) -> None:
        """Retention has taken so many, before what will be read next."""
        self._gap += events

    def position(self) -> Position:
        """The position now. What is completed is freed."""
        self._pass_completed()
        self._pass_earlier()
        done = [*self._earlier]
        for segment in self._segments:
            done += _completed_above(segment, self._low)
        return Position(self._low, tuple(sorted(done) if self._earlier else done))

    @property
    def size(self) -> int:
        """What the segments cost in memory, in bytes."""
        return sum(segment.size for segment in self._segments)

    @property
    def under_way(self) -> int:
        """How many selected events stand between the low-water offset and what was read last."""
        return sum(len(segment) for segment in self._segments)

    def close(self) -> None:
        """Somebody else waits for the partition: begin no more of what is under way."""
        for segment in self._segments:
            segment.closed = True

    def drop(self) -> None:
        """The partition is somebody else's: throw away what is under way."""
        self.close()
        for segment in self._segments:
            segment.dropped = True
        self._segments.clear()

    def take_skipped(self) -> int:
        """How many events that were not selected `position` has passed since this was last asked."""
        skipped, self._skipped = self._skipped, 0
        return skipped

    def take_expired(self) -> int:
        """How many events that retention took `position` has passed since this was last asked."""
        expired, self._expired = self._expired, 0
        return expired

    def _pass_completed(self) -> None:
        while self._segments:
            first = self._segments[0]
            self._expired += first.gap
            first.gap = 0
            pending = first.pending
            skipped = first.skipped_before(pending)
            self._skipped += skipped - self._skipped_in_first
            self._skipped_in_first = skipped
            if pending < len(first):
                self._low = first.offsets[pending]
                return
            self._low = first.next_offset
            self._segments.popleft()
            self._skipped_in_first = 0

    def _pass_earlier(self) -> None:
        """The low-water offset is not one that was completed before, which would be read and handled again."""
        for offset in self._earlier:
            if offset == self._low:
                self._low += 1
        self._earlier = tuple(offset for offset in self._earlier if offset > self._low)


def _completed_above(segment: Segment, low: int) -> list[int]:
    """Offsets of completed events, without those that the low-water offset covers."""
    if segment.is_complete:
        segment.let_go()
        return segment.offsets  # the first segment is not complete, so these are above
    completed = np.flatnonzero(np.frombuffer(segment.done, np.uint8))
    return [offset for index in completed.tolist() if (offset := segment.offsets[index]) > low]
