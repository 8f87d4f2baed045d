"""Rows that are taken by their number, of which some are held in blocks, on disk if memory has no more room for them.

First come the blocks, one behind the other, and then what was appended since. A block goes as a whole. What stands
behind something that goes moves up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from millstream.engine.arena import Arena
from millstream.engine.keys import Ints, Mask
from millstream.engine.scratch import Held


@dataclass(frozen=True, slots=True)
class SavedAs:
    """How a block is saved: for which partition, by what number, and in which chunks."""

    partition: int
    number: int
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Block:
    """So many rows, which are held and saved."""

    saved_as: SavedAs
    held: Held
    rows: int


class Stock:
    """Rows of a schema."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self.blocks: list[Block] = []
        self.recent = Arena(schema)
        """Those that stand in no block."""

        self._count()

    def _count(self) -> None:
        self.starts: Ints = np.cumsum([0, *(block.rows for block in self.blocks)])
        """Where each block begins, and at last where what is recent does."""

    @property
    def settled(self) -> int:
        """How many rows stand in blocks."""
        return int(self.starts[-1])

    def add(self, block: Block) -> None:
        """A further block, behind the others."""
        self.blocks.append(block)
        self._count()

    def drop(self, which: Mask) -> None:
        """Let some of the blocks go."""
        for block, goes in zip(self.blocks, which.tolist(), strict=True):
            if goes:
                block.held.let_go()
        self.blocks = [block for block, goes in zip(self.blocks, which.tolist(), strict=True) if not goes]
        self._count()

    def take(self, numbers: Ints, columns: Sequence[str]) -> pa.Table:
        """Columns of the rows of these numbers, in this order."""
        if not len(numbers) or numbers.min() >= self.settled:
            return self.recent.take(numbers - self.settled, columns)
        order = np.argsort(numbers, kind="stable")
        ascending = numbers[order]
        places = np.searchsorted(ascending, self.starts).tolist()
        parts = []
        for block, start, (begin, end) in zip(self.blocks, self.starts[:-1].tolist(), pairwise(places), strict=True):
            if begin < end:
                parts.append(block.held.table.select(columns).take(pa.array(ascending[begin:end] - start)))
        parts.append(self.recent.take(ascending[places[-1] :] - self.settled, columns))
        rows = pa.concat_tables(parts).combine_chunks()
        if (order[1:] > order[:-1]).all():
            return rows
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return rows.take(pa.array(back))

    def sizes(self, numbers: Ints) -> Ints:
        """About how many bytes each of these rows has."""
        averages = [block.held.size // block.rows for block in self.blocks]
        averages.append(self.recent.nbytes // max(len(self.recent), 1))
        found: Ints = np.array(averages)[np.searchsorted(self.starts, numbers, "right") - 1]
        return found
