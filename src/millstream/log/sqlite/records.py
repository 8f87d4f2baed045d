"""Records of a partition in memory: events as columns, and the ticks between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millstream.event import BATCH_SCHEMA, Tick

Numbers = npt.NDArray[np.int64]

TICK_BYTES = 32  # what a tick counts for where bytes are limited

NO_NUMBERS: Numbers = np.empty(0, np.int64)
NO_EVENTS: pa.RecordBatch = pa.RecordBatch.from_pylist([], schema=BATCH_SCHEMA)


@dataclass(frozen=True, slots=True)
class Records:
    """The records of the offsets from `first` to `next_offset` (exclusive). `events` has the columns of `BATCH_SCHEMA`;
    `events_before` counts all events that ever stood before them in their partition."""

    first: int
    next_offset: int
    events: pa.RecordBatch
    tick_offsets: Numbers
    tick_times: Numbers
    events_before: int

    @property
    def ticks(self) -> tuple[Tick, ...]:
        pairs = zip(self.tick_offsets.tolist(), self.tick_times.tolist(), strict=True)
        return tuple(Tick(offset, time) for offset, time in pairs)

    @property
    def offsets(self) -> Numbers:
        """The offsets of the events."""
        return numbers(self.events.column(0))

    @property
    def empty(self) -> bool:
        return not self.events.num_rows and not len(self.tick_offsets)

    def since(self, offset: int) -> Records:
        """Those at `offset` and after it."""
        if offset <= self.first:
            return self
        rows = int(np.searchsorted(self.offsets, offset))
        ticks = int(np.searchsorted(self.tick_offsets, offset))
        return Records(
            offset,
            max(offset, self.next_offset),
            self.events.slice(rows),
            self.tick_offsets[ticks:],
            self.tick_times[ticks:],
            self.events_before + rows,
        )

    def until(self, offset: int) -> Records:
        """Those before `offset`."""
        if offset >= self.next_offset:
            return self
        rows = int(np.searchsorted(self.offsets, offset))
        ticks = int(np.searchsorted(self.tick_offsets, offset))
        return replace(
            self,
            next_offset=offset,
            events=self.events.slice(0, rows),
            tick_offsets=self.tick_offsets[:ticks],
            tick_times=self.tick_times[:ticks],
        )

    def within(self, limit_bytes: int) -> Records:
        """As many as fit into `limit_bytes`, but at least one event (or, where there is none, one tick)."""
        rows = self.events.num_rows
        if not rows:
            kept = max(1, limit_bytes // TICK_BYTES)
            return self.until(int(self.tick_offsets[kept])) if kept < len(self.tick_offsets) else self
        if self.events.nbytes <= limit_bytes:
            return self
        payload = numbers(pc.binary_length(self.events.column(len(BATCH_SCHEMA) - 1)).cast(pa.int64()))
        beside = max(0.0, (self.events.nbytes - int(payload.sum())) / rows)
        fitting = int(np.searchsorted(np.cumsum(payload + beside), limit_bytes, side="right"))
        return self.until(int(self.offsets[max(1, fitting)])) if max(1, fitting) < rows else self

    def without(self, done: Sequence[int]) -> Records:
        """All but the events at the offsets `done`."""
        keep = ~np.isin(self.offsets, np.asarray(done, np.int64))
        return self if keep.all() else replace(self, events=self.events.filter(pa.array(keep)))


def concatenate(pieces: Sequence[Records]) -> Records:
    """Adjoining records as one; there is at least one piece."""
    if len(pieces) == 1:
        return pieces[0]
    batches = [piece.events for piece in pieces if piece.events.num_rows]
    return Records(
        pieces[0].first,
        pieces[-1].next_offset,
        pa.concat_batches(batches) if batches else NO_EVENTS,
        np.concatenate([piece.tick_offsets for piece in pieces]),
        np.concatenate([piece.tick_times for piece in pieces]),
        pieces[0].events_before,
    )


def numbers(column: pa.Array) -> Numbers:
    """A column of integers or times as numbers."""
    result: Numbers = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return result
