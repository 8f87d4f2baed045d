"""What a step brings to a join: the events of each stream as its sides have them, and what the stream's clocks say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from millstream.engine.clocks import Came, Clocks, Waits
from millstream.engine.duck import Duck
from millstream.engine.join_state import JoinState
from millstream.engine.keys import FOREVER, NEVER, Ints, Mask
from millstream.engine.lookup import Version
from millstream.engine.panes import chosen
from millstream.engine.plan import Join, WindowPlan
from millstream.engine.rows import RowDecoder
from millstream.engine.saved import Saved
from millstream.engine.waiting import Waiting
from millstream.event import Batch

NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Brought:
    """What a stream brought to a step: a row for each of its events, in their order. `rows` are the events as each side
    has them that reads the stream, by its number; `row` are their places among all of the step, and `offset` those in
    the log; `came` is what the stream's clocks said of the valid ones; `looked` what to save of those that are looked
    back to."""

    rows: Mapping[int, pa.Table]
    row: Ints
    offset: Ints
    valid: Mask
    wanted: Mask
    late: Mask
    clamped: int
    horizon: Ints
    begun: Ints
    came: Came
    looked: Saved


@dataclass(frozen=True, slots=True)
class New:
    """The events that are new on a side, as they wait, and their places in the step. With APPLY each is one row of an
    event."""

    events: pa.Table
    rows: Ints


class Streams:
    """The streams that a join reads: its sides' decoders, and the clocks of each stream."""

    def __init__(self, duck: Duck, plan: WindowPlan, join: Join, waits: Waits, threads: int | None = None) -> None:
        self._plan = plan
        self._join = join
        self.clocks = tuple(Clocks(waits) for _ in plan.streams)
        left, right = (RowDecoder(duck, side, mark, threads) for side, mark in zip(join.sides, "lr", strict=True))
        self._decoders = (left, right)
        self.values = (left.values, right.values)

    def refer(self, versions: Mapping[str, Sequence[Version]]) -> None:
        """See `Processor.refer`."""
        for decoder in self._decoders:
            decoder.inputs.references.refer(versions)

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Take a partition on. Gives the chunks that are not of what events look back to. `QueryError`."""
        for decoder in self._decoders:
            chunks = decoder.lookbacks.restore(partition, chunks)
        return chunks

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        for decoder in self._decoders:
            decoder.lookbacks.forget(partition)

    def reset(self, partition: int, key: str) -> Saved:
        """Let go what is kept of a key for others to look back to. Gives what to save."""
        left, right = (decoder.lookbacks.reset(partition, key) for decoder in self._decoders)
        return left + right

    def kept(self, partition: int) -> int:
        """How many events are kept of a partition for others to look back to."""
        return sum(decoder.lookbacks.kept(partition) for decoder in self._decoders)

    def read(self, number: int, batches: Sequence[Batch], state: JoinState) -> Brought:
        """Decode the events of a stream, and move its clocks."""
        stream, clocks = self._plan.streams[number], self.clocks[number]
        own = [batch for batch in batches if batch.stream == stream]
        starts = np.cumsum([0, *map(len, batches)])
        places = [s + np.arange(len(b)) for b, s in zip(batches, starts, strict=False) if b.stream == stream]
        row = np.concatenate([NONE, *places])
        slots = self._decoders[0].slots(own, state.keys)
        rows, looked = dict[int, pa.Table](), Saved()
        for side, decoder in enumerate(self._decoders):
            if self._join.sides[side].stream == stream:
                rows[side], its = decoder.rows(own, state.keys, slots)
                looked = looked + its
        state.fit()
        some = next(iter(rows.values()))
        events = chosen(some, some.column("first").to_numpy())
        valid = events.column("valid").to_numpy()
        slot, time, arrival = (events.column(name).to_numpy() for name in ("slot", "time", "arrival"))
        came = clocks.advance(slot[valid], row[valid], time[valid], arrival[valid])
        clocks.read(own)
        horizon, begun = np.full(len(row), FOREVER, np.int64), np.full(len(row), NEVER, np.int64)
        horizon[valid], begun[valid] = came.in_order()
        wanted = np.zeros(len(row), np.bool_)
        for its_rows in rows.values():
            wanted[its_rows.column("row").to_numpy()[its_rows.column("kept").to_numpy()]] = True
        wanted &= valid
        clamped = int((valid & events.column("clamped").to_numpy()).sum())
        offset = np.concatenate([NONE, *(batch.events.column("offset").to_numpy() for batch in own)])
        late = wanted & (time <= horizon)
        return Brought(rows, row, offset, valid, wanted, late, clamped, horizon, begun, came, looked)

    def new(self, side: int, brought: Brought, waiting: Waiting) -> New:
        """The events that a side takes of what came."""
        rows = brought.rows[side]
        event = rows.column("row").to_numpy()  # among those of the stream
        taken = (brought.wanted & ~brought.late)[event] & rows.column("kept").to_numpy()
        new, its = chosen(rows, taken), event[taken]
        element = np.zeros(len(its), np.int64)
        if self._join.sides[side].applies:
            element = (np.arange(len(event)) - np.searchsorted(event, event))[taken]
        alone = np.full(len(new), side == 0 and self._join.optional)
        place = (pa.array(brought.offset[its]), pa.array(element))
        of_log = (new.column("arrival"), *map(pa.array, (brought.begun[its], alone)))
        values = new.columns[len(new.columns) - len(waiting.values) :]
        columns = [new.column("slot"), new.column("time"), *place, *of_log, *values]
        return New(pa.Table.from_arrays(columns, schema=waiting.schema), brought.row[its])
