"""Rows that are appended and taken by their number, at a cost that does not grow with how many there are."""

from __future__ import annotations

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

    def append(self, rows: pa.Table) -> None:
        self._recent = pa.concat_tables([self._recent, rows]).combine_chunks()
        if len(self._recent) > max(_RECENT, len(self._settled) // _SHARE):
            self._settled = pa.concat_tables([self._settled, self._recent]).combine_chunks()
            self._recent = self._recent.slice(0, 0)

    def take(self, numbers: Ints) -> pa.Table:
        """The rows of these numbers, in this order."""
        is_recent = numbers >= len(self._settled)
        parts = [
            self._settled.take(pa.array(numbers[~is_recent])),
            self._recent.take(pa.array(numbers[is_recent] - len(self._settled))),
        ]
        if not is_recent.any() or is_recent.all():
            return parts[int(is_recent.any())]
        place = np.empty(len(numbers), np.int64)
        place[np.argsort(is_recent, kind="stable")] = np.arange(len(numbers))
        return pa.concat_tables(parts).combine_chunks().take(pa.array(place))

    def keep(self, numbers: Ints) -> None:
        """Only these rows, which get new numbers in this order."""
        rows = self.take(numbers).combine_chunks()
        self._settled, self._recent = rows, rows.slice(0, 0)
