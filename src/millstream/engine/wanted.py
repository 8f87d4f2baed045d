"""Keys whose rows are looked for, by their numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from millstream.engine.keys import Ints, Mask


@dataclass(frozen=True, slots=True)
class Wanted:
    """Keys that are looked for: their numbers, ascending, and for each its slot, up to where its windows were closed
    before, and up to where they are now. Rows have a key's number in the place of its slot."""

    numbers: Ints
    slots: Ints
    done: Ints
    horizon: Ints

    def some(self, which: Mask) -> Wanted:
        """Some of them."""
        return Wanted(self.numbers[which], self.slots[which], self.done[which], self.horizon[which])

    def bounds(self, table: pa.Table) -> tuple[Ints, Ints]:
        """Where the rows of each begin and end in rows that are in the order of their numbers."""
        number = table.column("slot").to_numpy()
        return np.searchsorted(number, self.numbers), np.searchsorted(number, self.numbers, "right")

    def places(self, rows: pa.Table) -> Ints:
        """For each row the place of its key here (of one that is not wanted, any)."""
        place: Ints = np.searchsorted(self.numbers, rows.column("slot").to_numpy())
        return np.minimum(place, max(len(self.numbers) - 1, 0))

    def has(self, rows: pa.Table) -> Mask:
        """Which rows are of these keys."""
        if not len(self.numbers):
            return np.zeros(len(rows), np.bool_)
        found: Mask = self.numbers[self.places(rows)] == rows.column("slot").to_numpy()
        return found

    def counts(self, rows: pa.Table) -> Ints:
        """How many of the rows each has."""
        counted: Ints = np.bincount(self.places(rows)[self.has(rows)], minlength=len(self.numbers))
        return counted


def ranges(begin: Ints, end: Ints) -> Ints:
    """All numbers of ranges, one after the other."""
    counts = end - begin
    found: Ints = np.repeat(begin - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
    return found
