"""How blocks of what waits in a join are saved (`waiting.py`): each once, and with every snapshot *marks*, which say
which of their events wait, and which of them are alone: a bit for each.

A block has the names of its keys by itself; so it does not matter what else is known of them. When nothing waits in it
any more, it is dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from millstream.engine import chunks
from millstream.engine.chunks import ChunkLog
from millstream.engine.keys import Mask, Slots
from millstream.engine.saved import Saved
from millstream.engine.stock import SavedAs
from millstream.engine.waiting import ALONE, OWN, Waiting

PREFIXES = ("left:", "right:")
"""The names of the chunks of each side's blocks begin with it."""

_MARKS = "marks:"
_NAME_SCHEMA = pa.schema([pa.field("key", pa.string())])
_MARK_SCHEMA = pa.schema(
    [
        pa.field("side", pa.int8()),
        pa.field("block", pa.int64()),
        pa.field("open", pa.binary()),
        pa.field("alone", pa.binary()),
    ]
)

_Marked = Mapping[tuple[int, int], tuple[bytes, bytes]]


class Blocks:
    """Those of both sides, whose keys are `keys`."""

    def __init__(self, query: str, keys: Slots, sides: Sequence[Waiting], fingerprint: bytes) -> None:
        self._query = query
        self._keys = keys
        self._sides = sides
        self._fingerprint = fingerprint
        self._marks: defaultdict[int, ChunkLog] = defaultdict(ChunkLog)
        self._next: defaultdict[tuple[int, int], int] = defaultdict(int)  # number of a block, by side and partition

    def save(self, partition: int, side: int, saved: Saved) -> None:
        """Make a block of what is recent on a side, with a snapshot that does not have it."""
        waiting = self._sides[side]
        places = waiting.of(partition, self._keys.partition, recent=True)
        places = places[np.argsort(waiting.slot[places], kind="stable")]
        slots, of_row = np.unique(waiting.slot[places], return_inverse=True)
        names = pa.array([self._keys.names[slot] for slot in slots.tolist()], pa.string())
        rows = chunks.one_batch(waiting.take(places).set_column(0, OWN[0], pa.array(of_row)))
        blob = chunks.encode(self._fingerprint, pa.RecordBatch.from_arrays([names], schema=_NAME_SCHEMA), rows)
        number = self._next[side, partition]
        self._next[side, partition] += 1
        save = {f"{PREFIXES[side]}{name}": chunk for name, chunk in chunks.cut(number, blob).items()}
        saved.save.setdefault(partition, {}).update(save)
        waiting.settle(places, SavedAs(partition, number, [*save]))

    def save_marks(self, partition: int, saved: Saved) -> None:
        """What belongs to a snapshot of a partition."""
        found = [
            (number, block, np.packbits(open_).tobytes(), np.packbits(alone).tobytes())
            for number, side in enumerate(self._sides)
            for block, open_, alone in side.blocks_of(partition)
        ]
        blob = b""
        if found:
            columns = zip(*found, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _MARK_SCHEMA, strict=True)]
            blob = chunks.encode(self._fingerprint, pa.RecordBatch.from_arrays(arrays, schema=_MARK_SCHEMA))
        save, drop = self._marks[partition].snapshot(blob)
        saved.save.setdefault(partition, {}).update({f"{_MARKS}{name}": chunk for name, chunk in save.items()})
        saved.drop.setdefault(partition, []).extend(f"{_MARKS}{name}" for name in drop)

    def save_dropped(self, saved: Saved) -> None:
        """The chunks of blocks that are gone."""
        for side in self._sides:
            for partition, names in side.dropped.items():
                saved.drop.setdefault(partition, []).extend(names)
            side.dropped.clear()

    def restore(
        self, partition: int, saved: Mapping[str, bytes]
    ) -> tuple[dict[str, bytes], Callable[[int], Iterator[tuple[SavedAs, pa.Table, Mask]]]]:
        """What else is among the chunks of a partition; and what gives the blocks of a side, one at a time: rows, and
        which of them wait."""
        marks, *blocks = (
            {name.removeprefix(prefix): chunk for name, chunk in saved.items() if name.startswith(prefix)}
            for prefix in (_MARKS, *PREFIXES)
        )
        marked: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        for (rows,) in chunks.decode(marks, self._fingerprint, [_MARK_SCHEMA], self._query):
            side, block, *bits = (column.to_pylist() for column in rows.columns)
            marked.update(zip(zip(side, block, strict=True), zip(*bits, strict=True), strict=True))
        self._marks[partition] = ChunkLog.of(marks)
        others = {name: chunk for name, chunk in saved.items() if not name.startswith((_MARKS, *PREFIXES))}
        return others, lambda side: self._restored(partition, side, blocks[side], marked)

    def _restored(
        self, partition: int, side: int, saved: Mapping[str, bytes], marked: _Marked
    ) -> Iterator[tuple[SavedAs, pa.Table, Mask]]:
        schemas = [_NAME_SCHEMA, self._sides[side].schema]
        named: defaultdict[int, list[str]] = defaultdict(list)
        for name in sorted(saved):
            named[chunks.number_of(name)].append(name)
        for number, names in named.items():
            one = {name: saved[name] for name in names}
            ((keys, rows),) = chunks.decode(one, self._fingerprint, schemas, self._query)
            open_, alone = (_unpacked(bits, len(rows)) for bits in marked[side, number])
            of_row = rows.column("slot").to_numpy()
            busy = np.unique(of_row[open_])
            slots = np.full(len(keys), -1, np.int64)
            slots[busy] = self._keys.slots(partition, keys.column("key").take(pa.array(busy)).to_pylist())
            table = pa.Table.from_batches([rows]).set_column(0, OWN[0], pa.array(slots[of_row]))
            table = table.set_column(ALONE, OWN[ALONE], pa.array(alone))
            self._next[side, partition] = number + 1
            yield SavedAs(partition, number, [f"{PREFIXES[side]}{name}" for name in names]), table, open_

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        self._marks.pop(partition, None)
        for number, side in enumerate(self._sides):
            self._next.pop((number, partition), None)
            side.forget(partition)


def _unpacked(bits: bytes, count: int) -> Mask:
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=count).astype(np.bool_)
