"""Merging the small chunks of quiet times into large ones, so that a quiet month reads as fast as a busy hour.

An event that comes alone is a chunk of its own. When a partition has gathered `ENOUGH` of such *crumbs*, they are
merged into *pieces*; when it has `ENOUGH` of those, they are merged once more, and then left alone: so a record is
written three times at most. Larger chunks between them stay as they are. Offsets and times stay what they were.

A slice merges one run of adjoining chunks, in one transaction. An idle system has nothing to merge.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import apsw

from millstream.log.records import TICK_BYTES, concatenate
from millstream.log.sqlite.format import CorruptError, Row, offset_of, pack_records, partition_of, row_id, seal, unpack
from millstream.log.sqlite.index import Index
from millstream.log.sqlite.scan import headers_between, last_headers, rows_between
from millstream.log.sqlite.stage import INSERT_CHUNK

ENOUGH = 64  # merging fewer chunks gains too little
CRUMB_BYTES = 4 << 10  # a chunk below this is a crumb
LARGE_BYTES = 128 << 10  # a chunk from this on is never merged
TARGET_BYTES = 256 << 10  # a merged chunk that has reached this is complete
LONGEST_RUN = 2 * ENOUGH  # chunks merged in one slice: some milliseconds
SHORTEST_RUN = 4  # between two large chunks, say
_LOOK = 512  # chunks looked at in one slice
_LOOK_BACK = 3 * ENOUGH  # chunks of a partition looked at when the log is opened

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Gathered:
    """How many crumbs and pieces of a partition stand at these offsets and after them, not merged yet."""

    crumbs_from: int
    pieces_from: int
    crumbs: int = 0
    pieces: int = 0

    def add(self, row: Row) -> None:
        weight = _weight(row)
        self.crumbs += weight < CRUMB_BYTES
        self.pieces += CRUMB_BYTES <= weight < LARGE_BYTES

    @property
    def enough(self) -> bool:
        return self.crumbs >= ENOUGH or self.pieces >= ENOUGH


@dataclass(slots=True)
class _Job:
    """Merge the chunks lighter than `below` in a partition, from an offset to another one."""

    partition: int
    below: int
    offset: int
    end: int


class Coalescer:
    """Knows what there is to merge, and merges it."""

    def __init__(self, db: apsw.Connection, index: Index) -> None:
        self._db = db
        self._index = index
        self._gathered: dict[int, _Gathered] = {}
        self._due: set[int] = set()
        self._job: _Job | None = None
        for partition in index.ends:
            self._look_back(partition)

    @property
    def waiting(self) -> bool:
        """Whether there is something to merge."""
        return self._job is not None or bool(self._due)

    def note(self, rows: Iterable[Row]) -> None:
        """Take note of new chunks."""
        for row in rows:
            partition = partition_of(row.id)
            gathered = self._gathered.get(partition)
            if gathered is None:
                gathered = self._gathered[partition] = _Gathered(row.offset, row.offset)
            gathered.add(row)
            if gathered.enough:
                self._due.add(partition)

    def forget(self, partitions: Iterable[int]) -> None:
        """These partitions are dropped."""
        for partition in partitions:
            self._gathered.pop(partition, None)
            self._due.discard(partition)
            if self._job is not None and self._job.partition == partition:
                self._job = None

    def merge(self, transaction: AbstractContextManager[None]) -> None:
        """Merge one run of chunks, in a transaction."""
        if self._job is None and self._due:
            self._job = self._next_job(self._due.pop())
        if self._job is None:
            return
        job = self._job
        begin, end = row_id(job.partition, job.offset), row_id(job.partition, job.end)
        headers = headers_between(self._db, begin, end, _LOOK)
        passed, run = _first_run(headers, job.below)
        merged = None
        if run:
            with transaction:
                merged = self._merge(run)
        if job.below == CRUMB_BYTES:
            left = [row for row in passed if _weight(row) < CRUMB_BYTES]
            self._add_pieces(job.partition, left if merged is None else [*left, merged])
        seen = [*passed, *run]
        job.offset = seen[-1].next_offset if seen else job.end
        if job.offset >= job.end:
            self._job = None

    def _merge(self, headers: Sequence[Row]) -> Row | None:
        """Put one chunk in the place of several; None if that cannot be done."""
        rows = rows_between(self._db, headers[0].id, headers[-1].id + 1)
        try:
            records = concatenate([unpack(row) for row in rows])
        except CorruptError as error:
            _log.error("chunks of partition id %d are left as they are: %s", partition_of(rows[0].id), error)
            return None
        first, last = rows[0], rows[-1]
        body, ticks = pack_records(records, sum(row.size for row in rows))
        times = (first.first_time, last.last_time)
        count = last.next_offset - first.offset
        merged = seal(first.id, count, body, ticks, times, first.events_before, first.size_before)
        self._db.execute("DELETE FROM chunks WHERE id BETWEEN ? AND ?", (first.id, last.id))
        self._db.execute(INSERT_CHUNK, merged)
        return merged

    def _next_job(self, partition: int) -> _Job:
        gathered = self._gathered[partition]
        end = self._index.ends[partition].offset
        if gathered.pieces >= ENOUGH:
            job = _Job(partition, LARGE_BYTES, gathered.pieces_from, end)
            self._gathered[partition] = _Gathered(end, end)
        else:
            job = _Job(partition, CRUMB_BYTES, gathered.crumbs_from, end)
            gathered.crumbs_from, gathered.crumbs = end, 0
        return job

    def _add_pieces(self, partition: int, rows: Sequence[Row]) -> None:
        gathered = self._gathered[partition]
        gathered.pieces += sum(1 for row in rows if _weight(row) < LARGE_BYTES)
        if gathered.enough:
            self._due.add(partition)

    def _look_back(self, partition: int) -> None:
        headers = last_headers(self._db, partition, _LOOK_BACK)
        if headers:
            first = offset_of(headers[-1].id)
            gathered = self._gathered[partition] = _Gathered(first, first)
            for row in headers:
                gathered.add(row)
            if gathered.enough:
                self._due.add(partition)


def _weight(row: Row) -> int:
    return row.size + TICK_BYTES * (row.records - row.events)


def _first_run(headers: Sequence[Row], below: int) -> tuple[Sequence[Row], Sequence[Row]]:
    """The first run of light chunks that is worth merging, after the chunks before it; or all chunks and no run."""
    start = weight = 0
    for place, row in enumerate(headers):
        if _weight(row) >= below:
            if place - start >= SHORTEST_RUN:
                return headers[:start], headers[start:place]
            start, weight = place + 1, 0
            continue
        weight += _weight(row)
        if weight >= TARGET_BYTES or place + 1 - start == LONGEST_RUN:
            return headers[:start], headers[start : place + 1]
    if len(headers) - start >= SHORTEST_RUN:
        return headers[:start], headers[start:]
    return headers, []
