"""The events that wait for others to belong to them: one side of a join, and how both are saved.

What is saved of a step is what it changed: the keys' clocks, the events that came, which of those that had come before
are not `alone` any more, as a row of its own, and how far the log's time is. Restoring puts these together; events that
nothing can come for any more fall away, and with a snapshot so do keys that nothing is known of any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.engine import chunks
from millstream.engine.arena import Arena
from millstream.engine.chunks import ChunkLog
from millstream.engine.clocks import Clocks
from millstream.engine.keys import Ints, Mask, Slots
from millstream.engine.panes import chosen
from millstream.engine.saved import Saved

OWN = [
    pa.field("slot", pa.int64()),
    pa.field("time", pa.int64()),
    pa.field("offset", pa.int64()),
    pa.field("element", pa.int64()),
    pa.field("arrival", pa.int64()),
    pa.field("begun", pa.int64()),
    pa.field("alone", pa.bool_()),
]
"""What is known of a waiting event beside its values: its key, its time, where it stands in its partition, which row of
its event it is (with APPLY an event has several), when it arrived, when its key had begun to speak (`clocks.py`), and
whether it is to come out if nothing belongs to it, and nothing does yet."""

_ALONE = len(OWN) - 1
_SIDE = pa.field("side", pa.int8())
_NO_LONGER_ALONE = 2  # in the place of a side
_DEAD = 4096  # events that nothing waits for any more, before it is worth to take them out
_NOW_SCHEMA = pa.schema([pa.field("now", pa.int64())])


class Waiting:
    """The events of one side, as a table of `OWN` and values; those that wait are `open`. An event waits until its time
    plus `stays` is closed by `clocks`, those of the other side's stream, or for as long as that is silent."""

    def __init__(self, values: Iterable[pa.Field], stays: int, clocks: Clocks) -> None:
        self.values = list(values)
        self.schema = pa.schema([*OWN, *self.values])
        self.clocks = clocks
        self._stays = stays
        self._replace(self.schema.empty_table())

    def _replace(self, table: pa.Table) -> None:
        self._rows = Arena(self.schema)
        self.slot, self.end, self.arrival = (np.empty(0, np.int64) for _ in range(3))
        self.alone: Mask = np.empty(0, np.bool_)
        self.open: Mask = np.empty(0, np.bool_)
        self.append(table)

    def __len__(self) -> int:
        return len(self.slot)

    def take(self, places: Ints) -> pa.Table:
        """Those at these places in the order in which they came, as they are now."""
        return self._rows.take(places).set_column(_ALONE, OWN[_ALONE], pa.array(self.alone[places]))

    def append(self, rows: pa.Table) -> None:
        """More have come."""
        if len(rows):
            self._rows.append(rows)
            slot, time, arrival, alone = (rows.column(n).to_numpy() for n in ("slot", "time", "arrival", "alone"))
            self.slot = np.concatenate([self.slot, slot])
            self.end = np.concatenate([self.end, time + self._stays])
            self.arrival = np.concatenate([self.arrival, arrival])
            self.alone = np.concatenate([self.alone, alone])
            self.open = np.concatenate([self.open, np.ones(len(rows), np.bool_)])

    def meet(self, places: Ints) -> pa.Table:
        """Something belongs to these. Gives those to which nothing did before."""
        first = places[self.alone[places]]
        self.alone[first] = False
        return self.take(first)

    def in_vain(self, partition: Ints) -> Ints:
        """The places of those that wait, and nothing can come for any more. `partition` is that of each slot."""
        places = np.flatnonzero(self.open)
        slot = self.slot[places]
        ended = self.clocks.in_vain(slot, partition[slot], self.arrival[places], self.end[places])
        found: Ints = places[ended]
        return found

    def close(self, places: Ints) -> None:
        """These wait no longer. When they have become many, they are taken out."""
        self.open[places] = False
        self.alone[places] = False
        dead = len(self) - int(self.open.sum())
        if dead > _DEAD + len(self) // 2 or dead == len(self) > 0:
            self._replace(self.take(np.flatnonzero(self.open)))

    def move(self, slots: Ints) -> None:
        """Give them the new slots of their old ones, and drop those whose new slot is negative."""
        moved = slots[self.slot]
        stays = np.flatnonzero((moved >= 0) & self.open)
        self._replace(self.take(stays).set_column(0, OWN[0], pa.array(moved[stays])))


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
        self._chunks: dict[int, ChunkLog] = {}
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
            rows = self._of_side(chosen(table, side == number), number)
            if number == 0:
                alone = rows.column("alone").to_numpy() & ~np.isin(_places(rows), joined)
                rows = rows.set_column(_ALONE, OWN[_ALONE], pa.array(alone))
            waiting.append(rows)
            ended = waiting.in_vain(self.keys.partition)
            waiting.close(ended[~waiting.alone[ended]])  # the others have not come out yet
        self._chunks[partition] = ChunkLog.of(saved)

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        self._chunks.pop(partition, None)
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
        forgotten = [np.empty(0, np.int64)]
        for number in np.unique(np.concatenate([of_key, self.keys.partition[ended], ticked])).tolist():
            log = self._chunks.setdefault(number, ChunkLog())
            if log.wants_snapshot:
                forgotten.append(self._forgotten(number))
                saved.save[number], saved.drop[number] = log.snapshot(self._snapshot(number, forgotten[-1]))
            else:
                its = changed[self.keys.partition[changed] == number]
                saved.save[number] = log.delta(self._delta(number, its, chosen(rows, of_row == number)))
        gone = np.concatenate(forgotten)
        if len(gone):
            stays = np.ones(len(self.keys), np.bool_)
            stays[gone] = False
            self._move(self.keys.keep(stays))
        return saved

    def reset(self, partition: int, key: str) -> Saved:
        """Let a key of a partition go, with its clocks and what waits. Gives what to save."""
        gone: Ints = self.keys.of(partition)
        gone = gone[[self.keys.names[slot] == key for slot in gone.tolist()]]
        saved = Saved()
        if len(gone):
            log = self._chunks.setdefault(partition, ChunkLog())
            stays = np.ones(len(self.keys), np.bool_)
            stays[gone] = False
            self._move(self.keys.keep(stays))
            saved.save[partition], saved.drop[partition] = log.snapshot(self._snapshot(partition, gone[:0]))
        return saved

    def waiting_in(self, partition: int, side: Waiting) -> Ints:
        """The places of a side's events of a partition for which others may still come."""
        found: Ints = np.flatnonzero((self.keys.partition[side.slot] == partition) & side.open)
        return found

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
        rows = [
            self._as_rows(side.take(self.waiting_in(partition, side)), number) for number, side in enumerate(self.sides)
        ]
        stays = np.ones(len(self.keys), np.bool_)
        stays[forgotten] = False
        slots = self.keys.of(partition)
        slots = slots[stays[slots]]
        return self._delta(partition, slots, pa.concat_tables(rows))

    def _delta(self, partition: int, slots: Ints, rows: pa.Table) -> bytes:
        of_key = pa.array(np.searchsorted(slots, rows.column("slot").to_numpy()))
        columns = [of_key, *(column.combine_chunks() for column in rows.columns[1:])]
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
            pa.RecordBatch.from_arrays(columns, schema=self.schema),
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


def _named(field: pa.Field, side: int) -> pa.Field:
    """A value of a side among those of both."""
    return pa.field(f"{'lr'[side]}{field.name}", field.type)
