"""Rows that are appended and taken by their number, at a cost that does not grow with how many there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from millstream.engine.keys import Ints

_RECENT = 4096  # rows that may be appended before they are joined to the others
_SHARE = 8  # or, where there are many, one in so many: so a row is copied that often at most


class Arena:
    """Rows of a schema, numbered as they were appended."""

    def __init__(self, schema: pa.Schema) -> None:
        self._settled = schema.empty_table()
        self._recent = schema.empty_table()

    def __len__(self) -> int:
        return len(self._settled) + len(self._recent)

    @property
    def nbytes(self) -> int:
        """How many bytes they have."""
        return int(self._settled.nbytes + self._recent.nbytes)

    def append(self, rows: pa.Table) -> None:
        self._recent = pa.concat_tables([self._recent, rows]).combine_chunks()
        if len(self._recent) > max(_RECENT, len(self._settled) // _SHARE):
            self._settled = pa.concat_tables([self._settled, self._recent]).combine_chunks()
            self._recent = self._recent.schema.empty_table()

    def take(self, numbers: Ints, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of these numbers, in this order; of them only some columns, if they are given."""
        is_recent = numbers >= len(self._settled)
        settled, recent = (each if columns is None else each.select(columns) for each in (self._settled, self._recent))
        parts = [
            settled.take(pa.array(numbers[~is_recent])),
            recent.take(pa.array(numbers[is_recent] - len(settled))),
        ]
        if not is_recent.any() or is_recent.all():
            return parts[int(is_recent.any())]
        rows = pa.concat_tables(parts).combine_chunks()
        if (is_recent[1:] >= is_recent[:-1]).all():  # those that came before stand before
            return rows
        place = np.empty(len(numbers), np.int64)
        place[np.argsort(is_recent, kind="stable")] = np.arange(len(numbers))
        return rows.take(pa.array(place))

    def keep(self, numbers: Ints) -> None:
        """Only these rows, which get new numbers in this order."""
        self._settled = self.take(numbers).combine_chunks()
        self._recent = self._settled.schema.empty_table()
