"""Places in partitions: where they begin and end, where groups are, where readers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from millstream.clock import Micros

Place = tuple[str, int]
"""A stream and a partition number."""


class Mark(NamedTuple):
    """A place between records: the next one's offset, the events and their size before it, and the time of the record
    before it."""

    offset: int = 0
    events: int = 0
    size: int = 0
    time: Micros = 0


class GroupPosition(NamedTuple):
    """A group's position in a partition. `expired`: events at `low` and after it, and not in `done`, that retention
    has dropped."""

    low: int
    done: tuple[int, ...] = ()
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where to read on in a partition. `done` are offsets to leave out; `events_before`, where it is known, counts the
    events before `offset`, so that those which retention drops can be told from ticks. `stream_id`, where it is known,
    tells whether the stream is still the same, or another one of that name."""

    stream: str
    partition: int
    offset: int
    done: tuple[int, ...] = ()
    events_before: int | None = None
    stream_id: int | None = None


class Resume(NamedTuple):
    """Where a new owner goes on: at the group's position, after which `expired` events are gone, in a partition that
    begins at `first`."""

    low: int
    done: tuple[int, ...]
    expired: int
    first: Mark

    def cursor(self, stream: str, partition: int) -> Cursor:
        """A cursor at the first record that is still there."""
        if self.low > self.first.offset:
            return Cursor(stream, partition, self.low, self.done)
        return Cursor(stream, partition, self.first.offset, self.done, self.first.events)
