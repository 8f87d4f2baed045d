"""Records of a partition in memory, in the compact form in which chunks hold them.

Many chunks are small, and a reader puts many of them together. So columns that are null throughout stay left out,
offsets and times stay plain numbers, and a batch with all columns is made once, of everything that was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millstream.event import BATCH_SCHEMA, EVENT_SCHEMA, Tick
from millstream.topic import Filter, filter_matches

Numbers = npt.NDArray[np.int64]

OFFSET, TIME = 0, 1  # columns of BATCH_SCHEMA
TOPIC = BATCH_SCHEMA.get_field_index("topic")
FIRST_EVENT_COLUMN = len(BATCH_SCHEMA) - len(EVENT_SCHEMA)  # and from here on those that an event brings

_FEW = 64  # events, each of whose topics is matched in less time than to find those that are alike

TICK_BYTES = 32  # what a tick counts for where bytes are limited

NO_NUMBERS: Numbers = np.empty(0, np.int64)
NO_HELD: pa.RecordBatch = pa.RecordBatch.from_arrays([], schema=pa.schema([]))
NO_EVENTS: pa.RecordBatch = pa.RecordBatch.from_pylist([], schema=BATCH_SCHEMA)


@lru_cache(maxsize=1 << len(BATCH_SCHEMA))
def schema_of(columns: int) -> pa.Schema:
    """The columns of `BATCH_SCHEMA` whose bits are set."""
    return pa.schema([field for number, field in enumerate(BATCH_SCHEMA) if columns >> number & 1])


def nulls(number: int, rows: int) -> pa.Array:
    """A column of `BATCH_SCHEMA` that is null throughout, as most are. All share the same memory."""
    return _nulls(number, max(0, rows - 1).bit_length()).slice(0, rows)


@lru_cache(maxsize=64 * len(BATCH_SCHEMA))
def _nulls(number: int, bits: int) -> pa.Array:
    return pa.nulls(1 << bits, BATCH_SCHEMA.field(number).type)


def time_array(micros: Numbers) -> pa.Array:
    """Instants as a column."""
    return pa.array(micros).view(BATCH_SCHEMA.field(TIME).type)


@dataclass(frozen=True)
class Records:
    """The records of the offsets from `first` to `next_offset` (exclusive).

    `held` has the columns of the events whose bits are set in `columns`, beside their `offsets` and `times`.
    `events_before` counts all events that ever stood before them in their partition."""

    first: int
    next_offset: int
    columns: int
    held: pa.RecordBatch
    offsets: Numbers
    times: Numbers
    tick_offsets: Numbers
    tick_times: Numbers
    events_before: int

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        pairs = zip(self.tick_offsets.tolist(), self.tick_times.tolist(), strict=True)
        return tuple(Tick(offset, time) for offset, time in pairs)

    @cached_property
    def nbytes(self) -> int:
        """What they take, about. Arrow looks at every buffer for it, so it is told again without a look."""
        return int(self.held.nbytes) + TICK_BYTES * len(self.tick_offsets)

    def weighing(self, nbytes: int) -> Records:
        """These, of which it is known what they take: to look costs more than to unpack a few."""
        self.__dict__["nbytes"] = nbytes
        return self

    @cached_property
    def events(self) -> pa.RecordBatch:
        """The events with all columns of `BATCH_SCHEMA`."""
        if not len(self):
            return NO_EVENTS
        held = iter(self.held.columns)
        columns = [
            next(held) if self.columns >> number & 1 else nulls(number, len(self))
            for number in range(FIRST_EVENT_COLUMN, len(BATCH_SCHEMA))
        ]
        positions = [pa.array(self.offsets), time_array(self.times)]
        return pa.RecordBatch.from_arrays([*positions, *columns], schema=BATCH_SCHEMA)

    @cached_property
    def _topics(self) -> tuple[list[str], Numbers | None]:
        """The topics of the events; of many, each different one once, and which of these every event has."""
        column = self.held.column((self.columns & ((1 << TOPIC) - 1)).bit_count())
        if len(self) <= _FEW:
            return column.to_pylist(), None
        encoded = column.dictionary_encode()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()

    def matching(self, topics: Filter) -> Numbers:
        """The rows of the events whose topics match."""
        if not len(self):
            return NO_NUMBERS
        names, codes = self._topics
        matches = [filter_matches(topics.mqtt, name) for name in names]
        if not any(matches):
            return NO_NUMBERS
        found: Numbers = np.flatnonzero(matches if codes is None else np.array(matches)[codes])
        return found

    def only(self, rows: Numbers) -> Records:
        """Some of the events, without ticks."""
        held = self.held if len(rows) == len(self) else self.held.take(pa.array(rows))
        return replace(
            self,
            held=held,
            offsets=self.offsets[rows],
            times=self.times[rows],
            tick_offsets=NO_NUMBERS,
            tick_times=NO_NUMBERS,
        )

    def since(self, offset: int) -> Records:
        """Those at `offset` and after it."""
        if offset <= self.first:
            return self
        rows = int(np.searchsorted(self.offsets, offset))
        ticks = int(np.searchsorted(self.tick_offsets, offset))
        return Records(
            offset,
            max(offset, self.next_offset),
            self.columns,
            self.held.slice(rows),
            self.offsets[rows:],
            self.times[rows:],
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
            held=self.held.slice(0, rows),
            offsets=self.offsets[:rows],
            times=self.times[:rows],
            tick_offsets=self.tick_offsets[:ticks],
            tick_times=self.tick_times[:ticks],
        )

    def within(self, limit_bytes: int) -> Records:
        """As many as fit into `limit_bytes`, but at least one event (or, where there is none, one tick)."""
        if not len(self):
            kept = max(1, limit_bytes // TICK_BYTES)
            return self.until(int(self.tick_offsets[kept])) if kept < len(self.tick_offsets) else self
        size = self.nbytes
        if size <= limit_bytes:
            return self
        payload = pc.binary_length(self.held.column(self.held.num_columns - 1)).to_numpy().astype(np.int64)
        beside = max(0.0, (size - int(payload.sum())) / len(self))
        kept = max(1, int(np.searchsorted(np.cumsum(payload + beside), limit_bytes, side="right")))
        return self.until(int(self.offsets[kept])) if kept < len(self) else self

    def without(self, done: Sequence[int]) -> Records:
        """All but the events at the offsets `done`."""
        keep = ~np.isin(self.offsets, np.asarray(done, np.int64))
        if keep.all():
            return self
        return replace(self, held=self.held.filter(pa.array(keep)), offsets=self.offsets[keep], times=self.times[keep])


def concatenate(pieces: Sequence[Records]) -> Records:
    """Adjoining records as one; there is at least one piece."""
    if len(pieces) == 1:
        return pieces[0]
    columns = 0
    for piece in pieces:
        columns |= piece.columns
    batches = [_widen(piece, columns) for piece in pieces if len(piece)]
    whole = Records(
        pieces[0].first,
        pieces[-1].next_offset,
        columns,
        pa.concat_batches(batches) if batches else pieces[0].held,
        np.concatenate([piece.offsets for piece in pieces]),
        np.concatenate([piece.times for piece in pieces]),
        np.concatenate([piece.tick_offsets for piece in pieces]),
        np.concatenate([piece.tick_times for piece in pieces]),
        pieces[0].events_before,
    )
    is_known = all("nbytes" in vars(piece) for piece in pieces)
    return whole.weighing(sum(piece.nbytes for piece in pieces)) if is_known else whole


def _widen(piece: Records, columns: int) -> pa.RecordBatch:
    """A piece's events with all of `columns`, which has its own among them."""
    if piece.columns == columns:
        return piece.held
    held = iter(piece.held.columns)
    numbers = [number for number in range(len(BATCH_SCHEMA)) if columns >> number & 1]
    arrays = [next(held) if piece.columns >> number & 1 else nulls(number, len(piece)) for number in numbers]
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(columns))


NO_RECORDS = Records(0, 0, 0, NO_HELD, NO_NUMBERS, NO_NUMBERS, NO_NUMBERS, NO_NUMBERS, 0)
