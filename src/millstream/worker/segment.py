"""What a handler has to do of one batch: the events that it selects, and which of them are completed."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.clock import to_datetime
from millstream.event import Batch, Event
from millstream.topic import Filter, filter_matches
from millstream.tracing import carry, traces_of
from millstream.tracing.context import Trace
from millstream.worker.addressed import Addressed

_NO_HEADERS: dict[str, str] = {}
_EVENT_BYTES = 200  # the objects of Python's around one event's columns
_FEW = 64  # events, each of whose topics is matched in less time than to find those that are alike
_SPARSE = 4  # where not even one event in so many is selected, the others are not kept


class Segment:
    """The selected events of a batch as columns, turned into lists of Python's only where somebody asks.

    `done` has a byte for each event: 1 when it is completed. `closed` says that no more of them are begun, because
    another member waits for the partition; `dropped` that it has it, and what comes of these events is thrown away.
    `size` is what the segment costs in memory, in bytes; `gap` is how many events retention took before it.
    """

    def __init__(
        self,
        batch: Batch,
        topics: Filter | None = None,
        to: Addressed | None = None,
        *,
        is_wake: bool = False,
    ) -> None:
        """`topics` selects among the events (unless the log has), without those that are addressed `to` others.
        `is_wake`: they are no events but keys that are woken (`wakes.py`)."""
        selected, count = batch.selection, len(batch)
        rows = places = None
        if selected is not None:
            rows, count = selected.rows, selected.count
        elif topics is not None:
            rows = places = _matching(batch.events.column("topic"), topics)
        self.resets: frozenset[int] = frozenset()
        """The offsets of those by which a key begins anew."""
        if to is not None:
            places = np.flatnonzero(~to.others) if places is None else places[~to.others[places]]
            rows = places if selected is None else selected.rows[places]
            self.resets = frozenset(batch.events.column("offset").take(pa.array(to.resets, pa.int64())).to_pylist())
        self.stream = batch.stream
        self.partition = batch.partition
        self.is_wake = is_wake
        self.next_offset = batch.next_offset
        self.closed = False
        self.dropped = False
        self.gap = 0
        self.done = bytearray(count if rows is None else len(rows))
        self._rows = rows  # of the selected events among all that were read; None for all
        self._events: pa.RecordBatch = batch.events
        self._places = places  # of the selected events in these; None for all
        if places is not None and len(batch) > _SPARSE * len(places):
            self._events = batch.events.take(pa.array(places)) if len(places) else batch.events.slice(0, 0)
            self._places = None
        # The columns, and about the same again as Python's objects.
        self.size = 2 * int(self._events.get_total_buffer_size()) + _EVENT_BYTES * len(self)
        self._skipped = count - len(self)
        self._pending = 0  # every event before this one is completed

    def __len__(self) -> int:
        return len(self.done)

    @cached_property
    def offsets(self) -> list[int]:
        return self._list("offset")

    @cached_property
    def topics(self) -> list[str]:
        return self._list("topic")

    @cached_property
    def payloads(self) -> list[bytes]:
        return self._list("data")

    @cached_property
    def keys(self) -> list[str]:
        """Every event has a key: the log fills it in."""
        return self._list("key")

    @cached_property
    def _times(self) -> list[int]:
        return self._selected(self._events.column("time").view(pa.int64()))

    @cached_property
    def _others(self) -> list[tuple[str | None, str | None, str | None, list[tuple[str, str]] | None]]:
        return list(zip(*(self._list(name) for name in ("id", "type", "content_type", "headers")), strict=True))

    @cached_property
    def traces(self) -> dict[int, Trace]:
        """The trace contexts of the events that have one."""
        found = traces_of(self._events.column("headers"))
        if self._places is None or not found:
            return found
        return {index: found[row] for index, row in enumerate(self._places.tolist()) if row in found}

    def event(self, index: int) -> Event:
        """An event as the user sees it."""
        id_, type_, content_type, headers = self._others[index]
        return Event(
            topic=self.topics[index],
            payload=self.payloads[index],
            key=self.keys[index],
            id=id_,
            type=type_,
            content_type=content_type,
            headers=dict(headers) if headers else _NO_HEADERS,
            time=to_datetime(self._times[index]),
            stream=self.stream or None,
            partition=self.partition,
            offset=self.offsets[index],
        )

    def columns(self, indices: list[int]) -> pa.RecordBatch:
        """Some of the events, in order, as columns of `BATCH_SCHEMA`."""
        places = indices if self._places is None else self._places[indices].tolist()
        first, last = places[0], places[-1]
        if last - first + 1 == len(places):
            return self._events.slice(first, len(places))
        return self._events.take(pa.array(places, pa.int64()))

    def resets_key(self, index: int) -> bool:
        """Whether an event is no event but says that its key begins anew."""
        return bool(self.resets) and self.offsets[index] in self.resets

    def complete(self, index: int) -> None:
        self.done[index] = 1

    @property
    def pending(self) -> int:
        """The first event that is not completed; the number of events if there is none."""
        found = self.done.find(0, self._pending)
        self._pending = len(self) if found < 0 else found
        return self._pending

    @property
    def is_complete(self) -> bool:
        return self.pending == len(self)

    def skipped_before(self, index: int) -> int:
        """How many events that were not selected stand before an event (before the end, for the segment's length)."""
        if index == len(self):
            return self._skipped
        return 0 if self._rows is None else int(self._rows[index]) - index

    def absorb(self, following: Segment) -> None:
        """Take on the next batch of the partition, from which nothing was selected."""
        self.next_offset = following.next_offset
        self._skipped += following._skipped

    def let_go(self) -> None:
        """Free the columns once every event is completed; the offsets stay for the position."""
        self.offsets  # noqa: B018 (made from the columns)
        self._events, self._places = self._events.slice(0, 0), None
        self.size = 8 * len(self)
        for name in ("topics", "payloads", "keys", "_times", "_others", "traces"):
            self.__dict__.pop(name, None)

    def _list(self, column: str) -> list[Any]:
        return self._selected(self._events.column(column))

    def _selected(self, column: pa.Array) -> list[Any]:
        values: list[Any] = column.to_pylist()
        return values if self._places is None else [values[place] for place in self._places.tolist()]


def _matching(topics: pa.Array, wanted: Filter) -> npt.NDArray[np.int64] | None:
    """The rows whose topic matches (None: all of them). Of many, each topic is matched once, however often it comes."""
    encoded = topics.dictionary_encode() if len(topics) > _FEW else None
    names = (topics if encoded is None else encoded.dictionary).to_pylist()
    matches = [filter_matches(wanted.mqtt, name) for name in names]
    if all(matches):
        return None
    return np.flatnonzero(matches if encoded is None else np.array(matches)[encoded.indices.to_numpy()])


Item = tuple[Segment, int]
"""One event of a segment, by its place in it."""


def key_of(item: Item) -> str:
    """Events of one key are handled in order, one at a time."""
    segment, index = item
    return segment.keys[index]


def caused_by(item: Item, events: list[Event]) -> list[Event]:
    """What a handler published for an event, in the trace context of the event."""
    segment, index = item
    return carry(trace, events) if (trace := segment.traces.get(index)) else events
