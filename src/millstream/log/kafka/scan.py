"""Counting the events of a partition, of which Kafka knows no more than offsets: by reading them, once."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable

from confluent_kafka import Message

from millstream.log.kafka.record import is_tick, source_of

Read = Callable[[int, int], tuple[list[Message], int]]
"""Some of the messages from an offset to before an end, and where to read on."""

_MARKS = 1024  # that are kept; when there are more, every other one goes


class Scan:
    """How many events there are from `first` on, and who has appended them. Goes on where it was, so that a look again
    costs what has come since; of what it has seen it keeps marks, offsets with the number of events before them."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.next = first
        self.events = 0
        self.sources: Counter[str] = Counter()
        self._marks: dict[int, int] = {first: 0}

    def extend(self, read: Read, end: int, asked: Iterable[int] = ()) -> None:
        """Read up to before `end`. What will be asked for is best said here."""
        wanted = sorted((offset for offset in asked if self.next <= offset < end), reverse=True)
        while self.next < end:
            messages, next_offset = read(self.next, end)
            for message in messages:
                offset = message.offset() or 0
                while wanted and wanted[-1] <= offset:
                    self._marks[wanted.pop()] = self.events
                if not is_tick(message):
                    self.events += 1
                    self.sources[source_of(message)] += 1
            self.next = max(next_offset, self.next)
            self._mark(self.next, self.events)

    def before(self, read: Read, offset: int) -> int:
        """How many of the events that it has seen come before an offset: by reading from there to the next mark, since
        what lies before may be gone. Where that is gone as well, about so many."""
        if offset <= self.first:
            return 0
        if offset >= self.next:
            return self.events
        known = sorted(self._marks)
        place = bisect_left(known, offset)
        behind = known[place]
        events = self._marks[behind]
        at = offset
        while at < behind:
            messages, at = read(at, behind)
            events -= sum(not is_tick(message) for message in messages)
        least = known[place - 1]
        events = min(events, self._marks[least] + offset - least)
        self._mark(offset, events)
        return events

    def _mark(self, offset: int, events: int) -> None:
        self._marks[offset] = events
        if len(self._marks) > _MARKS:
            kept = sorted(self._marks)
            self._marks = {offset: self._marks[offset] for offset in (*kept[:-1:2], kept[-1])}
