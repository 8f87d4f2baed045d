"""The rows of windows, where an aggregate needs all of them: held apart from the panes, and not all in memory.

A pane goes into the state without its rows: what is left of it tells which windows are open, and of those that are, a
few values are kept however many rows they have. The rows of the steps since a partition's last snapshot are its *tail*.
They are saved with the deltas of these steps. With the snapshot they become a *block*, in the order of their keys,
which is saved by itself and never written again; it is held in memory or in a file (`scratch.py`). Where a window
closes, the rows of its key are looked up in all blocks. A block goes when the windows of all its rows are closed: what
is held has rows of closed windows in it that stand in a block with others, for as long as one of these is open.

A key is named by its number, which no other one ever had whose rows may still be in a block: so those of a key that was
let go belong to nobody. What is closed is told by the keys' clocks, in memory as after a restart.

Where all groups of a partition share a key (`gathering.py`), their rows are told apart by *lanes*: the number of a row
is then that of the key and of its group's lane. So where windows close, rows of some groups at a time are looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import Micros
from millstream.engine import chunks
from millstream.engine.keys import NEVER, Ints, Keys, Mask
from millstream.engine.panes import chosen
from millstream.engine.saved import Saved
from millstream.engine.scratch import Held, Room
from millstream.engine.spans import Spans
from millstream.engine.wanted import Wanted, lanes, ranges

PREFIX = "rows:"
"""The names of blocks' chunks begin with it."""

DELTA_BYTES = 512 * 1024
"""How large deltas become, of which rows are a part, before they become a block."""

_TAIL_BYTES = 16 << 20  # of rows in memory, before they become a block
_LEAST_BYTES = 1 << 20  # the same where there is no more room in memory
_PIECE_BYTES = 16 << 20  # of rows of closed windows that are looked at together; more only where one key has them
_LOOSE = 64  # tables that are kept apart before they are joined into one
_LANES = 256  # of the groups that share a key


@dataclass(slots=True)
class _Block:
    """Rows in the order of their keys' numbers. `live`: in how many of them some window is open; `first`: the end of
    the first one of any of them that was open when it was made. `names` are those of its chunks."""

    held: Held
    rows: int
    live: int
    first: Micros
    names: list[str]


@dataclass(slots=True)
class _Partition:
    tail: list[pa.Table] = field(default_factory=list)
    size: int = 0  # of the tail, in bytes
    blocks: list[_Block] = field(default_factory=list)
    next: int = 0  # number of a block
    dropped: list[str] = field(default_factory=list)  # chunks that are still saved


class KeptRows:
    """The rows in the column `column` of panes of a schema. `shares`: groups share a key."""

    def __init__(
        self,
        schema: pa.Schema,
        column: str,
        spans: Spans,
        keys: Keys,
        room: Room,
        fingerprint: bytes,
        query: str,
        *,
        shares: bool = False,
    ) -> None:
        self._panes = schema
        self._column = column
        self._spans = spans
        self._keys = keys
        self._room = room
        self._fingerprint = fingerprint
        self._query = query
        self._groups = [name for name in schema.names if name[0] == "g"]
        self._lanes = _LANES if shares and self._groups else 1
        names = ["slot", *(each.name for each in spans.fields), *self._groups, column]
        self._schema = pa.schema([schema.field(name) for name in names])  # a number in the place of a slot
        self._last = "last" if "last" in names else "end"
        self._partitions: defaultdict[int, _Partition] = defaultdict(_Partition)

    def numbers(self, panes: pa.Table) -> Ints:
        """The numbers by which rows of panes are looked for."""
        number: Ints = self._keys.number[panes.column("slot").to_numpy()]
        return number if self._lanes == 1 else number * self._lanes + lanes(panes.select(self._groups), self._lanes)

    def without(self, panes: pa.Table) -> pa.Table:
        """Panes without their rows."""
        place = panes.schema.get_field_index(self._column)
        return panes.set_column(place, panes.schema.field(place), pa.nulls(len(panes), panes.schema.field(place).type))

    def add(self, panes: pa.Table) -> None:
        """Keep the rows of panes of open windows."""
        counts = pc.list_value_length(panes.column(self._column)).fill_null(0).to_numpy()
        some = chosen(panes, counts > 0)
        if not len(some):
            return
        rows = some.select(self._schema.names).set_column(0, self._schema.field(0), pa.array(self.numbers(some)))
        of_row = self._keys.partition[some.column("slot").to_numpy()]
        order = np.argsort(of_row, kind="stable")
        numbers, starts = np.unique(of_row[order], return_index=True)
        for number, places in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            its = self._partitions[number]
            its.tail.append(rows.take(pa.array(places)))  # by itself, so that no partition holds what others have
            self._resize(its, its.size + its.tail[-1].nbytes)
            if len(its.tail) > _LOOSE:
                self._replace(its, pa.concat_tables(its.tail).combine_chunks())

    def _replace(self, its: _Partition, tail: pa.Table) -> None:
        its.tail = [tail] if len(tail) else []
        self._resize(its, tail.nbytes if len(tail) else 0)

    def _resize(self, its: _Partition, size: int) -> None:
        self._room.charge(size - its.size)
        its.size = size

    def of(self, panes: pa.Table, done: Ints, horizon: Ints, *, ends: bool) -> Iterator[tuple[Mask, pa.Table, Ints]]:
        """The rows of panes of windows that closed up to a `horizon` and after `done`, as panes that have nothing else;
        in pieces: which of the panes have rows there, if they have any, the rows, and for each the place of a pane of
        its key. `ends`: these windows are open no more."""
        slot, number = panes.column("slot").to_numpy(), self.numbers(panes)
        lane = self._lane(slot, number)
        slots, first = np.unique(lane, return_index=True)
        place = first[np.argsort(number[first])]
        if self._lanes > 1:
            slots, first = np.unique(slot, return_index=True)
        wanted = Wanted(number[place], slot[place], done[place], horizon[place])
        for some, rows in self._in_pieces(self._by_partition(wanted, ends=ends)):
            yield np.isin(lane, some), rows, first[np.searchsorted(slots, rows.column("slot").to_numpy())]

    def _lane(self, slots: Ints, numbers: Ints) -> Ints:
        """What stands for a lane of a slot here; numbers of keys of several partitions may be equal."""
        return slots * self._lanes + numbers % self._lanes

    def _in_pieces(self, found: Iterable[tuple[Ints, pa.Table]]) -> Iterator[tuple[Ints, pa.Table]]:
        lanes_, rows, size = [np.empty(0, np.int64)], [self._panes.empty_table()], 0
        for some, its in found:
            lanes_, rows, size = [*lanes_, some], [*rows, its], size + its.nbytes
            if size > _PIECE_BYTES:
                yield np.concatenate(lanes_), pa.concat_tables(rows)
                lanes_, rows, size = lanes_[:1], rows[:1], 0
        yield np.concatenate(lanes_), pa.concat_tables(rows)

    def _by_partition(self, wanted: Wanted, *, ends: bool) -> Iterator[tuple[Ints, pa.Table]]:
        partition = self._keys.partition[wanted.slots]
        for number in np.unique(partition).tolist():
            mine = wanted.some(partition == number)
            its = self._partitions.get(number)
            if its is None:
                yield self._lane(mine.slots, mine.numbers), self._panes.empty_table()
                continue
            latest = int(mine.horizon.max())
            blocks = [block for block in its.blocks if block.first <= latest]
            tail = pa.concat_tables([self._schema.empty_table(), *its.tail])
            for piece in self._pieces(mine, blocks, tail):
                yield self._lane(piece.slots, piece.numbers), self._take(piece, its, blocks, tail, ends)
            if ends:
                self._sweep(its)
                self._replace(its, chosen(tail, ~self._is_over(tail, mine)))

    def _all_of(self, slots: Ints, done: Ints, horizon: Ints) -> Wanted:
        order = np.repeat(np.argsort(self._keys.number[slots]), self._lanes)
        numbers = self._keys.number[slots[order]] * self._lanes + np.arange(len(order)) % self._lanes
        return Wanted(numbers, slots[order], done[order], horizon[order])

    def _pieces(self, wanted: Wanted, blocks: Sequence[_Block], tail: pa.Table) -> Iterator[Wanted]:
        """Cut what is wanted by the bytes that rows of it have, at most."""
        total = sum(block.held.size for block in blocks) + tail.nbytes
        if total <= _PIECE_BYTES:
            yield wanted
            return
        size = np.zeros(len(wanted.slots))
        for block in blocks:
            begin, end = wanted.bounds(block.held.table)
            size += (end - begin) * (block.held.size / block.rows)
        size += wanted.counts(tail) * (tail.nbytes / max(len(tail), 1))
        piece = (np.cumsum(size) - size) // _PIECE_BYTES
        for number in np.unique(piece).tolist():
            yield wanted.some(piece == number)

    def _take(self, wanted: Wanted, its: _Partition, blocks: Sequence[_Block], tail: pa.Table, ends: bool) -> pa.Table:
        found = [chosen(tail, wanted.has(tail))]
        for block in blocks:
            table = block.held.table
            begin, end = wanted.bounds(table)
            rows = table.take(pa.array(ranges(begin, end)))  # a copy: the block may go before they do
            if ends:
                block.live -= int(self._is_over(rows, wanted, since_done=True).sum())
            found.append(rows)
        rows = pa.concat_tables(found)
        place = wanted.places(rows)
        rows = rows.set_column(0, self._schema.field(0), pa.array(wanted.slots[place]))
        rows = self._spans.rest(rows.append_column("#place", pa.array(place)), wanted.done[place])
        closes = rows.column("end").to_numpy() <= wanted.horizon[rows.column("#place").to_numpy()]
        return self._as_panes(chosen(rows, closes))

    def _as_panes(self, rows: pa.Table) -> pa.Table:
        columns = [
            rows.column(each.name) if each.name in self._schema.names else pa.nulls(len(rows), each.type)
            for each in self._panes
        ]
        return pa.Table.from_arrays(columns, schema=self._panes)

    def _is_over(self, rows: pa.Table, wanted: Wanted, *, since_done: bool = False) -> Mask:
        """Which rows of keys that are wanted are in no open window. `since_done`: and were before."""
        last = rows.column(self._last).to_numpy()
        is_mine = wanted.has(rows)
        place = wanted.places(rows)
        over: Mask = is_mine & (last <= wanted.horizon[place])
        return over & (last > wanted.done[place]) if since_done else over

    def _sweep(self, its: _Partition) -> None:
        for block in its.blocks:
            if not block.live:
                block.held.let_go()
                its.dropped += block.names
        its.blocks = [block for block in its.blocks if block.live]

    def wants_block(self, partition: int) -> bool:
        """Whether a partition's tail takes too much memory."""
        size = self._partitions[partition].size if partition in self._partitions else 0
        return size > (_LEAST_BYTES if self._room.is_full else _TAIL_BYTES)

    def save_block(self, partition: int, saved: Saved) -> None:
        """Make a block of a partition's tail, which the snapshot that is saved does not have."""
        its = self._partitions[partition]
        if its.tail:
            rows = pa.concat_tables(its.tail)
            order = pc.sort_indices(rows, [("slot", "ascending")])
            rows = rows.take(order).combine_chunks()
            blob = chunks.encode(self._fingerprint, rows.to_batches()[0])
            save = {f"{PREFIX}{name}": chunk for name, chunk in chunks.cut(its.next, blob).items()}
            saved.save.setdefault(partition, {}).update(save)
            its.next += 1
            self._replace(its, rows.slice(0, 0))  # before, so that there is room
            first = int(rows.column("end").to_numpy().min())
            its.blocks.append(_Block(self._room.hold(rows), len(rows), len(rows), first, [*save]))

    def save_dropped(self, saved: Saved) -> None:
        """The chunks of blocks that are gone."""
        for number, its in self._partitions.items():
            if its.dropped:
                saved.drop.setdefault(number, []).extend(its.dropped)
                its.dropped = []

    def restore(self, partition: int, saved: Mapping[str, bytes], grace: Micros) -> None:
        """Take the blocks of a partition on, whose keys are there by now. What their clocks close is closed."""
        its = self._partitions[partition]
        slots = self._keys.of(partition)
        self._keys.done[slots] = self._keys.horizon(grace, slots)
        wanted = self._all_of(slots, self._keys.done[slots], self._keys.done[slots])
        named: dict[int, list[str]] = defaultdict(list)
        for name in sorted(saved):
            named[chunks.number_of(name.removeprefix(PREFIX))].append(name)
        for number, names in named.items():
            one = {name.removeprefix(PREFIX): saved[name] for name in names}
            ((batch,),) = chunks.decode(one, self._fingerprint, [self._schema], self._query)
            rows = pa.Table.from_batches([batch])
            its.next = number + 1
            self._keys.pass_number(int(rows.column("slot").to_numpy()[-1]) // self._lanes)
            live = int((wanted.has(rows) & ~self._is_over(rows, wanted)).sum())
            if live:
                first = int(rows.column("end").to_numpy().min())
                its.blocks.append(_Block(self._room.hold(rows), len(rows), live, first, names))
            else:
                its.dropped += names

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        its = self._partitions.pop(partition, None)
        if its is not None:
            self._resize(its, 0)
            for block in its.blocks:
                block.held.let_go()

    def let_go(self, partition: int, slots: Ints) -> None:
        """Drop what keys of a partition (which are still there) have."""
        its = self._partitions.get(partition)
        if its is None:
            return
        gone = self._all_of(slots, self._keys.done[slots], np.full(len(slots), NEVER))
        for block in its.blocks:
            table = block.held.table
            mine = table.select(["slot", self._last]).take(pa.array(ranges(*gone.bounds(table))))
            block.live -= int((mine.column(1).to_numpy() > gone.done[gone.places(mine)]).sum())
        self._sweep(its)
        tail = pa.concat_tables([self._schema.empty_table(), *its.tail])
        self._replace(its, chosen(tail, ~gone.has(tail)))
