"""The events that wait for others to belong to them: one side of a join.

Of each that waits a few numbers are in memory, which say whether anything can still come for it. The rest of it is in
memory, too, as long as few have come; then those of a partition become a *block*, in the order of their keys, which is
held in memory or on disk (`stock.py`). What is looked at there is looked at in pieces. A block goes when nothing waits
in it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.clocks import Clocks
from millstream.engine.keys import FOREVER, NEVER, Ints, Mask
from millstream.engine.scratch import Room
from millstream.engine.stock import Block, SavedAs, Stock

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

ALONE = len(OWN) - 1
"""The place of `alone` among them."""

_DEAD = 4096  # events that nothing waits for any more, before it is worth to take them out
_RECENT_BYTES = 16 << 20  # of events of a partition in memory, before they become a block
_LEAST_BYTES = 1 << 20  # the same where there is no more room in memory
_PIECE_BYTES = 16 << 20  # of events that are looked at together


class Waiting:
    """The events of one side, as a table of `OWN` and values; those that wait are `open`. An event waits until its time
    plus `stays` is closed by `clocks`, those of the other side's stream, or for as long as that is silent."""

    def __init__(self, values: Iterable[pa.Field], stays: int, clocks: Clocks, room: Room) -> None:
        self.values = list(values)
        self.schema = pa.schema([*OWN, *self.values])
        self.clocks = clocks
        self._stays = stays
        self._room = room
        self._charged = 0
        self._stock = Stock(self.schema)
        self.slot, self.end, self.arrival = (np.empty(0, np.int64) for _ in range(3))
        self.alone: Mask = np.empty(0, np.bool_)
        self.open: Mask = np.empty(0, np.bool_)
        self.dropped: dict[int, list[str]] = {}
        """Chunks of blocks that are gone, by partition, which are still saved."""

    def __len__(self) -> int:
        return len(self.slot)

    def take(self, places: Ints, columns: Sequence[str] | None = None) -> pa.Table:
        """Those at these places in their order, as they are now: all of their columns, or some that begin as these."""
        rows = self._stock.take(places, self.schema.names if columns is None else columns)
        slot, alone = pa.array(self.slot[places]), pa.array(self.alone[places])
        return rows.set_column(0, OWN[0], slot).set_column(ALONE, OWN[ALONE], alone)

    def own(self, places: Ints) -> pa.Table:
        """What is known of those at these places beside their values."""
        return self.take(places, [field.name for field in OWN])

    def append(self, rows: pa.Table) -> None:
        """More have come."""
        if len(rows):
            self._stock.recent.append(rows)
            self._insert(len(self), rows, np.ones(len(rows), np.bool_))

    def settle(self, places: Ints, saved_as: SavedAs) -> None:
        """What is recent at these places is a block from now on."""
        rows = self.take(places)
        self.close(places)  # before, so that there is room
        self.hold(rows, np.ones(len(rows), np.bool_), saved_as)

    def hold(self, rows: pa.Table, open_: Mask, saved_as: SavedAs) -> None:
        """Take a block on; those of its rows wait that are open."""
        begin = self._stock.settled
        self._stock.add(Block(saved_as, self._room.hold(rows), len(rows)))
        self._insert(begin, rows, open_)

    @property
    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.slot, self.end, self.arrival, self.alone, self.open

    def _set(self, columns: Iterable[npt.NDArray[Any]]) -> None:
        self.slot, self.end, self.arrival, self.alone, self.open = columns
        size = self._stock.recent.nbytes + sum(column.nbytes for column in self._columns)
        self._room.charge(size - self._charged)  # blocks are charged for by themselves
        self._charged = size

    def _insert(self, place: int, rows: pa.Table, open_: Mask) -> None:
        slot, time, arrival, alone = (rows.column(n).to_numpy() for n in ("slot", "time", "arrival", "alone"))
        its = (slot, time + self._stays, arrival, alone & open_, open_)
        both = zip(self._columns, its, strict=True)
        self._set(np.concatenate([before[:place], these, before[place:]]) for before, these in both)

    def near(self, others: pa.Table, width: Micros, slots: int) -> Ints:
        """The places of those that wait for which something of the other side may be that has come now. `width` is that
        of the time in which it is; there are so many `slots`."""
        first, last = np.full(slots, FOREVER, np.int64), np.full(slots, NEVER, np.int64)
        slot, time = others.column("slot").to_numpy(), others.column("time").to_numpy()
        np.minimum.at(first, slot, time)
        np.maximum.at(last, slot, time)
        places = np.flatnonzero(self.open)
        slot, end = self.slot[places], self.end[places]
        found: Ints = places[(first[slot] <= end) & (end - width <= last[slot])]
        return found

    def pieces(self, places: Ints) -> Sequence[Ints]:
        """Places, in pieces of which each is not too much to look at together; at least one."""
        size = self._stock.sizes(places)
        piece = (np.cumsum(size) - size) // _PIECE_BYTES
        return np.split(places, np.flatnonzero(np.diff(piece)) + 1)

    def meet(self, places: Ints) -> Ints:
        """Something belongs to these. Gives those to which nothing did before."""
        first: Ints = places[self.alone[places]]
        self.alone[first] = False
        return first

    def in_vain(self, partition: Ints) -> Ints:
        """The places of those that wait, and nothing can come for any more. `partition` is that of each slot."""
        places = np.flatnonzero(self.open)
        slot = self.slot[places]
        ended = self.clocks.in_vain(slot, partition[slot], self.arrival[places], self.end[places])
        found: Ints = places[ended]
        return found

    def close(self, places: Ints) -> None:
        """These wait no longer. Where all of a block are among them, it goes; of the others, when they have become
        many, they are taken out."""
        self.open[places] = False
        self.alone[places] = False
        if self._stock.blocks:
            self._drop(~np.logical_or.reduceat(self.open[: self._stock.settled], self._stock.starts[:-1]))
        begin = self._stock.settled
        stays = self.open[begin:]
        dead, size = len(stays) - int(stays.sum()), self._stock.recent.nbytes
        if dead > len(stays) // 2 and (dead > _DEAD or size > _LEAST_BYTES or dead == len(stays)):
            self._stock.recent.keep(np.flatnonzero(stays))
            self._keep(np.append(np.ones(begin, np.bool_), stays))

    def _keep(self, which: Mask) -> None:
        self._set([column[which] for column in self._columns])

    def _drop(self, gone: Mask, *, forgotten: bool = False) -> None:
        """Let blocks go; those of a partition that is `forgotten` stay saved."""
        if not gone.any():
            return
        blocks = self._stock.blocks
        if not forgotten:
            for block in (blocks[number] for number in np.flatnonzero(gone).tolist()):
                self.dropped.setdefault(block.saved_as.partition, []).extend(block.saved_as.names)
        rows = np.array([block.rows for block in blocks])
        recent = np.ones(len(self) - self._stock.settled, np.bool_)
        self._stock.drop(gone)
        self._keep(np.append(np.repeat(~gone, rows), recent))

    def move(self, slots: Ints) -> None:
        """Give them the new slots of their old ones, and drop those whose new slot is negative."""
        known = self.slot >= 0
        self.slot[known] = slots[self.slot[known]]
        self.close(np.flatnonzero(self.slot < 0))

    def forget(self, partition: int) -> None:
        """Let the blocks of a partition go, which is somebody else's now."""
        mine = [block.saved_as.partition == partition for block in self._stock.blocks]
        self._drop(np.array(mine, np.bool_), forgotten=True)
        self.dropped.pop(partition, None)

    def of(self, partition: int, of_slot: Ints, *, recent: bool = False) -> Ints:
        """The places of those that wait in a partition; `recent`: and stand in no block. `of_slot` is the partition of
        each slot."""
        begin = self._stock.settled if recent else 0
        places = begin + np.flatnonzero(self.open[begin:])
        found: Ints = places[of_slot[self.slot[places]] == partition]
        return found

    def recent_sizes(self, of_slot: Ints) -> Ints:
        """About how many bytes those have that stand in no block, by partition."""
        size, begin = self._stock.recent.nbytes, self._stock.settled
        if size <= _LEAST_BYTES:
            return np.empty(0, np.int64)
        counts = np.bincount(of_slot[self.slot[begin:][self.open[begin:]]])
        return counts * size // (len(self) - begin)

    def is_crowded(self, sizes: Ints, partition: int, snapshot: int) -> bool:
        """Whether those that stand in no block take too much memory in a partition, of which a snapshot has so many
        bytes."""
        most = _LEAST_BYTES if self._room.is_full else _RECENT_BYTES
        return partition < len(sizes) and sizes[partition] > max(most, snapshot)

    def blocks_of(self, partition: int) -> Iterator[tuple[int, Mask, Mask]]:
        """The blocks of a partition: their numbers, which of their rows wait, and which are alone."""
        for block, start in zip(self._stock.blocks, self._stock.starts.tolist(), strict=False):
            if block.saved_as.partition == partition:
                rows = slice(start, start + block.rows)
                yield block.saved_as.number, self.open[rows], self.alone[rows]
