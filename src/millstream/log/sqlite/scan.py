"""Walking along the chunks of partitions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import apsw
import numpy as np

from millstream.errors import CorruptChunkError
from millstream.event import Batch, Selection
from millstream.log.records import NO_NUMBERS, NO_RECORDS, TICK_BYTES, Records, concatenate
from millstream.log.sqlite.catalog import Stream
from millstream.log.sqlite.format import CorruptError, Row, partition_of, row_id, unpack
from millstream.log.sqlite.place import Cursor, Mark
from millstream.topic import Filter

_COLUMNS = ", ".join(Row._fields)
_HEADER = ", ".join([*Row._fields[:-1], "NULL"])  # without the events: they may be a megabyte
_FROM = f"SELECT {_COLUMNS} FROM chunks WHERE id >= ? AND id < ? ORDER BY id"  # noqa: S608
_LAST = "SELECT {columns} FROM chunks WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1"
_LAST_HEADERS = f"SELECT {_HEADER} FROM chunks WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?"  # noqa: S608
_HEADERS = f"SELECT {_HEADER} FROM chunks WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"  # noqa: S608
_LAST_HEADER = _LAST.format(columns=_HEADER)
_LAST_ROW = _LAST.format(columns=_COLUMNS)


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read at a cursor: the records but those in its `done`, the cursor behind them, how many events
    retention had dropped before them, whether any of this is news, which of the events are among the records
    (None: all), and whether the partition ended behind them."""

    records: Records | None
    cursor: Cursor
    expired: int
    moved: bool
    selection: Selection | None = None
    at_end: bool = False

    @property
    def is_passed_by(self) -> bool:
        """Whether nothing was selected of all that there was."""
        return self.at_end and self.selection is not None and not len(self.selection.rows)

    def batch(self) -> Batch | None:
        """The records as a batch, or None if nothing is left of them. Where events are selected there is a batch in any
        case, so that the group's position passes the others."""
        records, cursor, selection = self.records, self.cursor, self.selection
        if records is None or (selection is None and not (len(records) or len(records.tick_offsets))):
            return None
        return Batch(cursor.stream, cursor.partition, records.events, cursor.offset, records.ticks, selection)


Unpack = Callable[[Row, str, int], Records]
"""What `unpack_row` does."""


class Scan:
    """A cursor's way along its partition: fetches rows, within a read transaction, and then makes a piece of them.

    `start` is the offset from which it fetches them."""

    def __init__(
        self, db: apsw.Connection, stream: Stream, cursor: Cursor, unpack: Unpack, topics: Filter | None = None
    ) -> None:
        """`topics`: which events are wanted; the others are counted and left out."""
        self._moved = cursor.stream_id not in (None, stream.id)
        if self._moved:  # the stream that it was in is gone
            cursor = Cursor(cursor.stream, cursor.partition, 0)
        partition = stream.partitions[cursor.partition]
        self._db = db
        self._unpack = unpack
        self._topics = topics
        self._stream_id = stream.id
        self._cursor = cursor
        self.start = cursor.offset
        self._first: Mark | None = None
        self._rows: list[Row] = []
        self._cut: int | None = None
        self._at_end = False
        self._fetch: apsw.Cursor | None = None
        header = header_at(db, partition, cursor.offset)
        if header is None:  # nothing so far back: the partition begins later, or is empty
            self._first = first_mark(db, partition)
            self.start = max(cursor.offset, self._first.offset)
            self._open(row_id(partition, self.start))
        elif header.next_offset > cursor.offset:
            self._open(header.id)

    def _open(self, chunk_id: int) -> None:
        self._fetch = self._db.execute(_FROM, (chunk_id, row_id(partition_of(chunk_id) + 1, 0)))

    def take(self, limit_bytes: int) -> int | None:
        """Fetch one more row, of which at most about `limit_bytes` will be used; how many that is, None at the end."""
        row = None if self._fetch is None else self._fetch.fetchone()
        if row is None:
            self._at_end = True
            return None
        taken = Row(*row)
        self._rows.append(taken)
        size = taken.size + TICK_BYTES * (taken.records - taken.events)
        self._cut = limit_bytes if size > limit_bytes else None
        return min(limit_bytes, size)

    def end(self) -> None:
        """Fetch no more: an unfinished statement would keep the read transaction open."""
        if self._fetch is not None:
            self._fetch.close()

    @cached_property
    def found(self) -> list[Records]:
        """What the fetched rows hold, from the cursor on."""
        pieces = [self._unpack(row, self._cursor.stream, self._cursor.partition) for row in self._rows]
        if pieces:
            pieces[0] = pieces[0].since(self.start)
        if self._cut is not None:
            pieces[-1] = pieces[-1].within(self._cut)
        return [concatenate(pieces)] if pieces and self._topics is None else pieces

    def piece(self) -> Piece:
        """The same, as who reads at the cursor gets it."""
        expired = self._expired()
        if self.found:
            return piece_of(self._cursor, self._stream_id, self.found, self._topics, expired, self._at_end)
        events_before = self._cursor.events_before if self._first is None else self._first.events
        behind = _behind(self._cursor, self._stream_id, self.start, events_before)
        return Piece(None, behind, expired, self._moved or expired > 0)

    def _expired(self) -> int:
        first, cursor = self._first, self._cursor
        if first is None or cursor.offset >= first.offset:
            return 0
        passed = sum(1 for one in cursor.done if one < first.offset)
        before = cursor.events_before
        return (first.offset - cursor.offset if before is None else first.events - before) - passed


def piece_of(
    cursor: Cursor,
    stream_id: int,
    found: Sequence[Records],
    topics: Filter | None,
    expired: int = 0,
    at_end: bool = False,
) -> Piece:
    """Adjoining records from a cursor on, as who reads there gets them. There is at least one."""
    last = found[-1]
    behind = _behind(cursor, stream_id, last.next_offset, last.events_before + len(last))
    if cursor.done:
        found = [records.without(cursor.done) for records in found]
    if topics is None:
        return Piece(concatenate(found), behind, expired, True, at_end=at_end)
    records, selection = _select(found, topics)
    return Piece(records, behind, expired, True, selection, at_end)


def _behind(cursor: Cursor, stream_id: int, offset: int, events_before: int | None) -> Cursor:
    done = tuple(one for one in cursor.done if one >= offset)
    return Cursor(cursor.stream, cursor.partition, offset, done, events_before, stream_id)


def _select(pieces: Sequence[Records], topics: Filter) -> tuple[Records, Selection]:
    """The events of adjoining records whose topics match, without the ticks. Most chunks have none, and cost little."""
    kept, places = [], []
    count = 0
    for piece in pieces:
        rows = piece.matching(topics)
        if len(rows):
            kept.append(piece.only(rows))
            places.append(count + rows)
        count += len(piece)
    if not kept:
        return NO_RECORDS, Selection(NO_NUMBERS, count)
    return concatenate(kept), Selection(np.concatenate(places), count)


def take_turns(scans: Sequence[Scan], limit_bytes: int) -> None:
    """Let each scan fetch a row after the other until `limit_bytes` are used up, or none has any more."""
    active = deque(scans)
    left = max(1, limit_bytes)
    while active and left > 0:
        scan = active.popleft()
        if (taken := scan.take(left)) is not None:
            left -= taken
            active.append(scan)
    for scan in scans:
        scan.end()


def unpack_row(row: Row, stream: str, partition: int) -> Records:
    """A row's records. `CorruptChunkError`, for a person, if they are damaged."""
    try:
        return unpack(row)
    except CorruptError as error:
        raise CorruptChunkError(
            f"the chunk at offset {row.offset} of partition {partition} of stream {stream!r} is damaged: {error}; "
            f"read on from offset {row.next_offset}, check the disk, and restore the data folder from a backup"
        ) from error


def first_mark(db: apsw.Connection, partition: int) -> Mark:
    """Where a partition begins."""
    return Mark(*_one(db, "SELECT first, events, size, time FROM partitions WHERE id = ?", (partition,)))


def header_at(db: apsw.Connection, partition: int, offset: int) -> Row | None:
    """The row that holds an offset (or, beyond the end, the last one), without its events; None before the first."""
    return _row(db, _LAST_HEADER, (row_id(partition, 0), row_id(partition, offset) + 1))


def row_at(db: apsw.Connection, partition: int, offset: int) -> Row | None:
    """The row that `header_at` finds, with its events."""
    return _row(db, _LAST_ROW, (row_id(partition, 0), row_id(partition, offset) + 1))


def last_header(db: apsw.Connection, partition: int) -> Row | None:
    """A partition's last row, without its events."""
    return _row(db, _LAST_HEADER, (row_id(partition, 0), row_id(partition + 1, 0)))


def first_headers(db: apsw.Connection, partition: int, count: int) -> list[Row]:
    """A partition's first rows, without their events."""
    return headers_between(db, row_id(partition, 0), row_id(partition + 1, 0), count)


def last_headers(db: apsw.Connection, partition: int, count: int) -> list[Row]:
    """A partition's last rows, the last one first, without their events."""
    return _rows(db, _LAST_HEADERS, (row_id(partition, 0), row_id(partition + 1, 0), count))


def headers_between(db: apsw.Connection, begin: int, end: int, count: int) -> list[Row]:
    """The first rows with ids from `begin` to `end` (exclusive), without their events."""
    return _rows(db, _HEADERS, (begin, end, count))


def rows_between(db: apsw.Connection, begin: int, end: int) -> list[Row]:
    """All rows with ids from `begin` to `end` (exclusive)."""
    return _rows(db, _FROM, (begin, end))


def _rows(db: apsw.Connection, statement: str, values: tuple[int, ...]) -> list[Row]:
    found: list[Any] = db.execute(statement, values).fetchall()
    return [Row(*row) for row in found]


def _row(db: apsw.Connection, statement: str, bounds: tuple[int, int]) -> Row | None:
    found = _one(db, statement, bounds)
    return None if found is None else Row(*found)


def _one(db: apsw.Connection, statement: str, values: tuple[int, ...]) -> Any:
    """The only row of an answer, or None."""
    return db.execute(statement, values).fetchone()
