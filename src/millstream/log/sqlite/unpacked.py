"""The chunks that were unpacked last.

Groups that keep up read the same new chunks, one group after the other: a worker with twenty handlers spent half of
its time on unpacking each chunk twenty times."""

from __future__ import annotations

from collections import OrderedDict

from millstream.log.records import Records
from millstream.log.sqlite.format import Row
from millstream.log.sqlite.scan import unpack_row

_BYTES = 8 << 20
_OVERHEAD_BYTES = 2_048  # of a chunk in memory, beside its columns


class Unpacked:
    """Unpacks rows, and keeps what it has unpacked, up to a bound. Used from one thread."""

    def __init__(self, limit_bytes: int = _BYTES) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[tuple[int, int, int], tuple[Records, int]] = OrderedDict()
        self._bytes = 0

    def unpack(self, row: Row, stream: str, partition: int) -> Records:
        """A row's records. `CorruptChunkError`, for a person, if they are damaged."""
        key = (row.id, row.records, row.checksum)  # a chunk that was merged with others has other records
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known[0]
        records = unpack_row(row, stream, partition)
        cost = row.size + _OVERHEAD_BYTES
        self._kept[key] = records, cost
        self._bytes += cost
        while self._bytes > self._limit:
            _, (_, freed) = self._kept.popitem(last=False)
            self._bytes -= freed
        return records
