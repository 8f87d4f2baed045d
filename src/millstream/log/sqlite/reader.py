"""Reading the file: one bounded read transaction at a time.

A read transaction keeps the WAL from being reused, so it only fetches rows; they are unpacked after it has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import apsw

from millstream.clock import Micros
from millstream.log.contract import Accounts, Bounds, GroupStatus
from millstream.log.sqlite.catalog import Catalog, catalog_version, load_catalog
from millstream.log.sqlite.place import Cursor
from millstream.log.sqlite.recent import NOWHERE, Recent
from millstream.log.sqlite.scan import (
    Piece,
    Scan,
    first_mark,
    header_at,
    last_header,
    piece_of,
    row_at,
    take_turns,
)
from millstream.log.sqlite.states import read_states
from millstream.log.sqlite.status import read_accounts, read_groups
from millstream.log.sqlite.unpacked import Unpacked
from millstream.topic import Filter


class Reader:
    """Reads over one connection. Used from one thread."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._catalog = Catalog(0, {})
        self._unpacked = Unpacked()
        self._recent = Recent()

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[Catalog]:
        """A read transaction, with the catalog as it is in it."""
        self._db.execute("BEGIN")
        try:
            if catalog_version(self._db) != self._catalog.version:
                self._catalog = load_catalog(self._db)
                self._recent.clear()  # the ids of partitions that are gone are given to others
            yield self._catalog
        finally:
            self._db.execute("COMMIT")

    def data_version(self) -> int:
        """Changes whenever another connection has committed something."""
        return int(self._db.pragma("data_version"))

    def catalog(self) -> Catalog:
        """The streams there are."""
        with self._transaction() as catalog:
            return catalog

    def read(self, cursor: Cursor, limit_bytes: int) -> Piece:
        """What stands at a cursor, about `limit_bytes` of it. `UnknownStreamError`, `CorruptChunkError`."""
        with self._transaction() as catalog:
            catalog.partition(cursor.stream, cursor.partition)  # raises if there is none
            scan = Scan(self._db, catalog.stream(cursor.stream), cursor, self._unpacked.unpack)
            take_turns([scan], limit_bytes)
        return scan.piece()

    def poll(self, cursors: Sequence[Cursor], limit_bytes: int, topics: Filter | None = None) -> list[Piece]:
        """What stands at the cursors, about `limit_bytes` in all, taken in turns from each of them; nothing from those
        where there is nothing, or no stream any more. Of events on other `topics` only their number is told.
        `CorruptChunkError`."""
        with self._transaction() as catalog:
            asked = {
                stream.partitions[cursor.partition]: (stream, cursor)
                for cursor in cursors
                if (stream := catalog.streams.get(cursor.stream)) and cursor.partition < len(stream.partitions)
            }
            here, beyond = self._recent.split(
                {
                    place: cursor.offset if cursor.stream_id in (None, stream.id) else NOWHERE
                    for place, (stream, cursor) in asked.items()
                }
            )
            scans = {place: Scan(self._db, *asked[place], self._unpacked.unpack, topics) for place in beyond}
            left = limit_bytes * len(scans) // max(1, len(here) + len(scans))
            take_turns(list(scans.values()), left)
        pieces = []
        for place, scan in scans.items():
            pieces.append(scan.piece())
            self._recent.add(place, scan.start, scan.found)
        left = limit_bytes - left
        for place in here:
            if left > 0:
                stream, cursor = asked[place]
                found = self._recent.take(place, cursor.offset, left)
                pieces.append(piece_of(cursor, stream.id, [found], topics))
                left -= found.nbytes
        return [piece for piece in pieces if piece.moved]

    def bounds(self, stream: str, partition: int) -> Bounds:
        """Where a partition begins and ends."""
        with self._transaction() as catalog:
            where = catalog.partition(stream, partition)
            mark = first_mark(self._db, where)
            last = last_header(self._db, where)
            first = header_at(self._db, where, mark.offset)
        if first is None or last is None:
            return Bounds(mark.offset, mark.offset)
        events = last.events_before + last.events - mark.events
        return Bounds(mark.offset, last.next_offset, events, first.first_time, last.last_time)

    def offset_at(self, stream: str, partition: int, time: Micros) -> int:
        """The offset of the first record at or after `time`, by bisection: times do not decrease with the offsets."""
        with self._transaction() as catalog:
            where = catalog.partition(stream, partition)
            low = first_mark(self._db, where).offset
            last = last_header(self._db, where)
            high = low if last is None else last.next_offset
            while low < high:
                header = header_at(self._db, where, (low + high) // 2)
                assert header is not None  # offsets are dense from the first to the last
                if header.last_time < time:
                    low = header.next_offset
                elif header.first_time < time:
                    break
                else:
                    high = header.offset
            else:
                return low
            row = row_at(self._db, where, header.offset)
        assert row is not None
        records = self._unpacked.unpack(row, stream, partition)
        events = records.offsets[records.times >= time]
        ticks = records.tick_offsets[records.tick_times >= time]
        return int(min([*events[:1], *ticks[:1]]))

    # --- groups

    def state(self, group: str, number: int) -> dict[str, bytes]:
        """The state chunks of a group's partition number, ordered by name. `CorruptChunkError`."""
        with self._transaction():
            return read_states(self._db, group, number)

    def groups(self) -> list[GroupStatus]:
        """Every group, as if none had members: only the coordinator knows them."""
        with self._transaction() as catalog:
            return read_groups(self._db, catalog)

    def accounts(self) -> Accounts:
        """Every stream and group as of one moment."""
        with self._transaction() as catalog:
            return read_accounts(self._db, catalog)
