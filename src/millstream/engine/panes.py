"""The open windows' partial values.

A *pane* is what a batch brought to one window of one key (and one value of the further groups): a row of partial
values. Panes of the same window stand beside each other until the window closes, when they are taken out and merged;
so a step only appends, and what it appends is also what is saved. When they have become many they are merged in
place, at a cost that the appended rows have paid for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from millstream.engine.keys import Ints, Mask

_LOOSE = 64  # tables of panes that are kept apart before they are joined into one
_SLACK = 4096  # rows that may be appended before merging is worth a statement


class Panes:
    """Panes as a table: `slot`, `end` (microseconds), and the columns of groups and partial values.

    `merge` gives a table of the same schema with one row a window and group.
    """

    def __init__(self, schema: pa.Schema, merge: Callable[[pa.Table], pa.Table]) -> None:
        self._merge = merge
        self._replace(schema.empty_table())

    def _replace(self, table: pa.Table) -> None:
        self._tables = [table]
        self.slot: Ints = table.column("slot").to_numpy()
        self.end: Ints = table.column("end").to_numpy()
        self._merged_rows = len(self.slot)

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def table(self) -> pa.Table:
        """All panes, in the order in which they came."""
        if len(self._tables) > 1:
            self._tables = [pa.concat_tables(self._tables).combine_chunks()]
        return self._tables[0]

    def append(self, panes: pa.Table) -> None:
        self._tables.append(panes)
        self.slot = np.concatenate([self.slot, panes.column("slot").to_numpy()])
        self.end = np.concatenate([self.end, panes.column("end").to_numpy()])
        if len(self.slot) > 2 * self._merged_rows + _SLACK:
            self._replace(self._merge(self.table))
        elif len(self._tables) > _LOOSE:
            self._tables = [self.table]

    def take(self, which: Mask) -> pa.Table:
        """Take panes out."""
        table = self.table
        taken = chosen(table, which)
        rows = self._merged_rows
        self._replace(chosen(table, ~which))
        self._merged_rows = min(rows, len(self))
        return taken

    def move(self, slots: Ints) -> None:
        """Give panes the new slots of their old ones, and drop those whose new slot is negative."""
        moved = slots[self.slot]
        table = self.table.set_column(0, "slot", pa.array(moved))
        self._replace(chosen(table, moved >= 0))


def chosen(table: pa.Table, which: Mask) -> pa.Table:
    """Some rows of a table; often enough all of them or none, which costs nothing."""
    if which.all():
        return table
    return table.filter(pa.array(which)) if which.any() else table.slice(0, 0)
