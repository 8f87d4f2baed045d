"""What is known of each stream key: its clock, and which of its windows are closed.

A key of a partition has a *slot*, a small number that stands for it in every array. Arrays over slots are what makes
a step over a thousand keys as cheap as over one.

Of each key three instants are kept, from which its *horizon* follows: every window that ends at or before it is closed.

* `high`, the watermark: the largest event time seen;
* `seen`: the arrival of its last event;
* `closed`: the end of the latest window that a tick closed.

A window that ends at e is closed by event time when `high - grace > e`, so the horizon is the larger of
`high - grace - 1` and `closed`. A tick at T finds a silent key's clock advanced by the time since its last event, at
`high + (T - seen)`, and closes the open windows that ended at least `idle` before that (the precedent is Bytewax's
`EventClock`). It closes no window that is not open: a device that was cut off may still bring its buffered events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.clock import Micros

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NEVER: Micros = -(1 << 62)  # before every instant; far enough from the smallest int64 to subtract from
FOREVER: Micros = 1 << 62


KEY_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("high", pa.int64()),
        pa.field("seen", pa.int64()),
        pa.field("closed", pa.int64()),
    ]
)
"""What is saved of keys; `closed` is their horizon."""

NUMBERED_SCHEMA = pa.schema([*KEY_SCHEMA, pa.field("number", pa.int64())])
"""The same where rows are kept apart, which name their keys by their numbers."""


def group_name(key: str, by: str) -> str:
    """The name of a group within a key: the length of the key, which may have any character in it, the key, and what
    tells the group from others of it."""
    return f"{len(key)}:{key}{by}"


def key_of(group: str) -> str:
    """The key of a group, by its name."""
    length, _, rest = group.partition(":")
    return rest[: int(length)]


class Slots:
    """The keys of all partitions that a processor owns. The arrays hold `len(slots)` of them, and room behind them."""

    _columns: ClassVar[tuple[str, ...]] = ("partition",)

    partition: Ints

    def __init__(self) -> None:
        self.names: list[str] = []
        self._index: dict[int, dict[str, int]] = {}
        self._make_room(1024)

    def _make_room(self, rows: int) -> None:
        used = len(self.names)
        for name in self._columns:
            column = np.full(rows, NEVER, np.int64)
            if used:
                column[:used] = getattr(self, name)[:used]
            setattr(self, name, column)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, partition: int) -> bool:
        return partition in self._index

    def slots(self, partition: int, names: Iterable[str]) -> Ints:
        """The slots of keys of a partition; a key that is new gets one."""
        index = self._index.setdefault(partition, {})
        found = []
        for name in names:
            slot = index.get(name)
            if slot is None:
                slot = index[name] = self._add(partition, name)
            found.append(slot)
        return np.array(found, np.int64)

    def _add(self, partition: int, name: str) -> int:
        slot = len(self.names)
        if slot == len(self.partition):
            self._make_room(2 * slot)
        self.names.append(name)
        self.partition[slot] = partition
        return slot

    def of(self, partition: int) -> Ints:
        """The slots of a partition."""
        return np.flatnonzero(self.partition[: len(self)] == partition)

    def forget(self, partition: int) -> Ints:
        """Drop the keys of a partition. The others move together: gives the new slot of each old one, -1 for none."""
        moved = self.keep(self.partition[: len(self)] != partition)
        self._index.pop(partition, None)
        return moved

    def keep(self, which: Mask) -> Ints:
        """Drop all but these keys. They move together: gives the new slot of each old one, -1 for none."""
        stays = np.flatnonzero(which)
        moved = np.full(len(self), -1, np.int64)
        moved[stays] = np.arange(len(stays))
        for column in (getattr(self, name) for name in self._columns):
            column[: len(stays)] = column[stays]
            column[len(stays) : len(self)] = NEVER
        self.names = [self.names[slot] for slot in stays.tolist()]
        self._index = {partition: {} for partition in self._index}
        for slot, (owner, name) in enumerate(zip(self.partition.tolist(), self.names, strict=False)):
            self._index[owner][name] = slot
        return moved


class Keys(Slots):
    """Keys with their clocks."""

    _columns = ("partition", "number", "high", "seen", "closed", "done", "open_from")

    number: Ints
    """What no other key has, nor had: a slot may be another's later on."""

    high: Ints
    seen: Ints
    closed: Ints
    done: Ints
    """Up to where results were given."""

    open_from: Ints
    """The end of the earliest open window; FOREVER: none is open."""

    _next = 0

    def _add(self, partition: int, name: str) -> int:
        slot = super()._add(partition, name)
        self.number[slot] = self._next
        self._next += 1
        self.open_from[slot] = FOREVER
        return slot

    def horizon(self, grace: Micros, slots: Ints | slice = slice(None)) -> Ints:
        """The instants up to which windows are closed, for each of `slots`."""
        return np.maximum(self.high[slots] - grace - 1, self.closed[slots])

    def rows(self, slots: Ints, grace: Micros) -> pa.RecordBatch:
        """What is to be saved of some keys. What is closed stays so if the query's grace grows."""
        names = pa.array([self.names[slot] for slot in slots.tolist()], pa.string())
        clocks = (self.high[slots], self.seen[slots], self.horizon(grace, slots))
        return pa.RecordBatch.from_arrays([names, *map(pa.array, clocks)], schema=KEY_SCHEMA)

    def restore(self, partition: int, rows: pa.RecordBatch) -> Ints:
        """Take on what was saved of keys of a partition: their slots."""
        slots = self.slots(partition, rows.column("key").to_pylist())
        for name in ("high", "seen", "closed"):
            getattr(self, name)[slots] = rows.column(name).to_numpy()
        if "number" in rows.schema.names:
            numbers = self.number[slots] = rows.column("number").to_numpy()
            self.pass_number(int(numbers.max(initial=-1)))
        return slots

    def pass_number(self, number: int) -> None:
        """This number has been a key's, and no new one gets it."""
        self._next = max(self._next, number + 1)

    @property
    def newest(self) -> Micros | None:
        """The watermark that is furthest on, of any key; None where there is none yet."""
        newest = int(self.high[: len(self)].max(initial=NEVER))
        return newest if newest > NEVER else None
