"""The state of a join, by partition: keys, their clocks, what waits on both sides, and how it is saved and restored.

What is saved of a step is what it changed: the keys' clocks, the events that came, which of those that had come before
are not `alone` any more, as a row of its own, and how far the log's time is. Restoring puts these together; events that
nothing can come for any more fall away, and with a snapshot so do keys that nothing is known of any more.

A snapshot has the events of a side that stand in no block (`waiting.py`). A block is saved by itself, with the snapshot
with which it is made, and never written again. Which of its events wait, and which are alone, is saved with every
snapshot, in *marks* of a bit each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.engine import chunks
from millstream.engine.blocks import Blocks
from millstream.engine.chunks import ChunkLog
from millstream.engine.clocks import Clocks
from millstream.engine.keys import Ints, Slots
from millstream.engine.panes import chosen
from millstream.engine.saved import Saved
from millstream.engine.waiting import ALONE, OWN, Waiting

_SIDE = pa.field("side", pa.int8())
_NO_LONGER_ALONE = 2  # in the place of a side
_NOW_SCHEMA = pa.schema([pa.field("now", pa.int64())])


class JoinState:
    """The keys of all partitions that a processor owns, their clocks in each stream, and what waits on both sides.
    `fingerprint` tells states apart that do not fit each other."""

    def __init__(
        self, query: str, sides: tuple[Waiting, Waiting], clocks: Sequence[Clocks], fingerprint: bytes
    ) -> None:
        self.keys = Slots()
        self.sides = sides
        self.clocks = clocks
        self._query = query
        self._fingerprint = fingerprint
        self._logs: defaultdict[int, ChunkLog] = defaultdict(ChunkLog)
        self._blocks = Blocks(query, self.keys, sides, fingerprint)
        values = [_named(field, number) for number, side in enumerate(sides) for field in side.values]
        self.schema = pa.schema([OWN[0], _SIDE, *OWN[1:], *values])
        columns = [pa.field(f"{name}{n}", pa.int64()) for n in range(len(clocks)) for name in Clocks.columns]
        self._key_schema = pa.schema([pa.field("key", pa.string()), *columns])

    def fit(self) -> None:
        """Have room for all keys."""
        for clocks in self.clocks:
            clocks.fit(len(self.keys))

    def restore(self, partition: int, saved: Mapping[str, bytes]) -> None:
        """Take a partition on with the chunks that were saved for it. `QueryError`: they are of another query."""
        self.forget(partition)
        saved, settled = self._blocks.restore(partition, saved)
        tables = [self.schema.empty_table()]
        schemas = (self._key_schema, self.schema, _NOW_SCHEMA)
        for keys, rows, now in chunks.decode(saved, self._fingerprint, schemas, self._query):
            slots = self.keys.slots(partition, keys.column("key").to_pylist())
            self.fit()
            for number, clocks in enumerate(self.clocks):
                for name in Clocks.columns:
                    getattr(clocks, name)[slots] = keys.column(f"{name}{number}").to_numpy()
                clocks.pass_to(partition, now.column("now")[number].as_py())
            of_row = pa.array(slots[rows.column("slot").to_numpy()])
            tables.append(pa.Table.from_batches([rows]).set_column(0, self.schema.field(0), of_row))
        table = pa.concat_tables(tables).combine_chunks()
        side = table.column("side").to_numpy()
        joined = _places(chosen(table, side == _NO_LONGER_ALONE))
        for number, waiting in enumerate(self.sides):
            for saved_as, rows, open_ in settled(number):
                self.fit()
                waiting.hold(_but_for(joined, rows), open_, saved_as)
            waiting.append(_but_for(joined, self._of_side(chosen(table, side == number), number)))
            ended = waiting.in_vain(self.keys.partition)
            waiting.close(ended[~waiting.alone[ended]])  # the others have not come out yet
        self._logs[partition] = ChunkLog.of(saved)

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        self._logs.pop(partition, None)
        self._blocks.forget(partition)
        for clocks in self.clocks:
            clocks.forget(partition)
        if partition in self.keys:
            self._move(self.keys.forget(partition))

    def _move(self, slots: Ints) -> None:
        for clocks in self.clocks:
            clocks.move(slots)
        for waiting in self.sides:
            waiting.move(slots)

    def save(self, slots: Ints, added: tuple[pa.Table, pa.Table], joined: pa.Table, ended: Ints, ticked: Ints) -> Saved:
        """What to save after a step that moved these keys' clocks (ascending slots), added events to both sides, found
        that events of the left side, which had come before, are not alone any more, and that events of the keys `ended`
        wait no longer. In the partitions `ticked` time went on, whether anything else did or not."""
        saved = Saved()
        rows = pa.concat_tables(
            [self._as_rows(added[0], 0), self._as_rows(added[1], 1), self._as_rows(joined, _NO_LONGER_ALONE)]
        )
        is_changed = np.zeros(len(self.keys), np.bool_)
        is_changed[slots] = is_changed[rows.column("slot").to_numpy()] = True
        changed = np.flatnonzero(is_changed)
        of_row = self.keys.partition[rows.column("slot").to_numpy()]
        of_key = self.keys.partition[slots]
        recent = [side.recent_sizes(self.keys.partition) for side in self.sides]
        forgotten = [np.empty(0, np.int64)]
        for number in np.unique(np.concatenate([of_key, self.keys.partition[ended], ticked])).tolist():
            log = self._logs[number]
            crowded = [n for n, side in enumerate(self.sides) if side.is_crowded(recent[n], number, log.snapshot_bytes)]
            if log.wants_snapshot or crowded:
                forgotten.append(self._forgotten(number))
                self._save_snapshot(number, forgotten[-1], crowded, saved)
            else:
                its = changed[self.keys.partition[changed] == number]
                saved.save[number] = log.delta(self._delta(number, its, chosen(rows, of_row == number)))
        self._let_go(np.concatenate(forgotten))
        self._blocks.save_dropped(saved)
        return saved

    def _save_snapshot(self, partition: int, forgotten: Ints, crowded: Sequence[int], saved: Saved) -> None:
        """Save a partition as a whole, but for what is saved in blocks. Those that are recent become one on some
        sides."""
        for side in crowded:
            self._blocks.save(partition, side, saved)
        save, drop = self._logs[partition].snapshot(self._snapshot(partition, forgotten))
        saved.save.setdefault(partition, {}).update(save)
        saved.drop.setdefault(partition, []).extend(drop)
        self._blocks.save_marks(partition, saved)

    def _let_go(self, gone: Ints) -> None:
        if len(gone):
            stays = np.ones(len(self.keys), np.bool_)
            stays[gone] = False
            self._move(self.keys.keep(stays))

    def reset(self, partition: int, key: str) -> Saved:
        """Let a key of a partition go, with its clocks and what waits. Gives what to save."""
        gone: Ints = self.keys.of(partition)
        gone = gone[[self.keys.names[slot] == key for slot in gone.tolist()]]
        saved = Saved()
        if len(gone):
            self._let_go(gone)
            self._save_snapshot(partition, gone[:0], (), saved)
        self._blocks.save_dropped(saved)
        return saved

    def _forgotten(self, partition: int) -> Ints:
        """The keys of a partition of which nothing is left to know."""
        slots = self.keys.of(partition)
        is_busy = np.zeros(len(self.keys), np.bool_)
        for side in self.sides:
            is_busy[side.slot[side.open]] = True
        gone = ~is_busy[slots]
        for clocks in self.clocks:
            gone &= clocks.forgotten(slots, partition)
        return slots[gone]

    def _snapshot(self, partition: int, forgotten: Ints) -> bytes:
        places = [side.of(partition, self.keys.partition, recent=True) for side in self.sides]
        rows = [self._as_rows(self.sides[number].take(its), number) for number, its in enumerate(places)]
        stays = np.ones(len(self.keys), np.bool_)
        stays[forgotten] = False
        slots = self.keys.of(partition)
        slots = slots[stays[slots]]
        return self._delta(partition, slots, pa.concat_tables(rows))

    def _delta(self, partition: int, slots: Ints, rows: pa.Table) -> bytes:
        of_key = pa.array(np.searchsorted(slots, rows.column("slot").to_numpy()))
        names = pa.array([self.keys.names[slot] for slot in slots.tolist()], pa.string())
        clocks = [
            pa.array(column)
            for its in self.clocks
            for column in (its.high[slots], its.seen[slots], its.begun[slots], its.horizon(slots))
        ]
        now = pa.array([its.now_in(partition) for its in self.clocks], pa.int64())
        return chunks.encode(
            self._fingerprint,
            pa.RecordBatch.from_arrays([names, *clocks], schema=self._key_schema),
            chunks.one_batch(rows.set_column(0, OWN[0], of_key)),
            pa.RecordBatch.from_arrays([now], schema=_NOW_SCHEMA),
        )

    def _as_rows(self, events: pa.Table, side: int) -> pa.Table:
        """Events of a side as they are saved."""
        number = 1 if side == 1 else 0
        names = [field.name for field in OWN]
        known = {name: events.column(name) for name in names}
        if side != _NO_LONGER_ALONE:
            values = [field for field in events.schema if field.name not in names]
            known |= {_named(field, number).name: events.column(field.name) for field in values}
        known["side"] = pa.chunked_array([pa.array(np.full(len(events), side, np.int8))])
        arrays = [known.get(field.name, pa.nulls(len(events), field.type)) for field in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _of_side(self, rows: pa.Table, number: int) -> pa.Table:
        schema = self.sides[number].schema
        names = [field.name for field in OWN]
        columns = [rows.column(f.name if f.name in names else _named(f, number).name) for f in schema]
        return pa.Table.from_arrays(columns, schema=schema)


def _places(events: pa.Table) -> npt.NDArray[np.void]:
    """Where events stand, each in one value."""
    places = np.empty(len(events), [("offset", np.int64), ("element", np.int64)])
    for name in ("offset", "element"):
        places[name] = events.column(name).to_numpy()
    return places


def _but_for(joined: npt.NDArray[np.void], events: pa.Table) -> pa.Table:
    """Events as they are now, of which some are known to be alone no longer."""
    alone = events.column("alone").to_numpy()
    if alone.any():
        alone = alone & ~np.isin(_places(events), joined)
    return events.set_column(ALONE, OWN[ALONE], pa.array(alone))


def _named(field: pa.Field, side: int) -> pa.Field:
    """A value of a side among those of both."""
    return pa.field(f"{'lr'[side]}{field.name}", field.type)
