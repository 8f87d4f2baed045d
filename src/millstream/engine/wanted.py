"""Keys whose rows are looked for, by their numbers, and lanes of groups that share a key."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from millstream.engine.keys import Ints, Mask

_TOLD_APART = (pt.is_string, pt.is_integer, pt.is_boolean, pt.is_floating, pt.is_decimal, pt.is_date)
"""Values of these types are in one lane or another; those of other ones, which are rare, all in one."""


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


def lanes(groups: pa.Table, count: int) -> Ints:
    """For each row one of so many numbers, which is the same wherever the values are, and in every version."""
    found = np.zeros(len(groups), np.int64)
    for column in groups.columns:
        if any(is_kind(column.type) for is_kind in _TOLD_APART):
            values = column.combine_chunks().dictionary_encode("encode")
            texts = (_text(value).encode() for value in values.dictionary.to_pylist())
            digests = np.array([zlib.crc32(text) for text in texts], np.int64)
            found = (31 * found + digests[values.indices.to_numpy()]) % count
    return found


def _text(value: object) -> str:
    """A text that is the same for values that are equal."""
    return str(value + 0.0 if isinstance(value, float) else value)  # -0.0 is equal to 0.0
