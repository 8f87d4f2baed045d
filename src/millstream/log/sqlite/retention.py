"""Dropping what is too old or too much, and what is left of dropped streams, a slice at a time.

Retention drops whole chunks, the oldest first: a chunk goes when its newest record is too old, or when what remains
without it is still as large as its stream may be. Events that a group had not read are counted for it. SQLite uses the
pages again; the file does not shrink.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import apsw

from millstream.clock import SECOND, Micros
from millstream.log.contract import StreamSpec
from millstream.log.sqlite.catalog import Stream
from millstream.log.sqlite.format import Row, count_events, row_id
from millstream.log.sqlite.index import Index
from millstream.log.sqlite.place import GroupPosition, Mark
from millstream.log.sqlite.scan import first_headers
from millstream.settings import LogSettings

SLICE = 256  # chunks dropped in one transaction, about: some megabytes, some milliseconds
_LEAST = 16  # looked at in each partition, however many there are
_MICROSECOND = timedelta(microseconds=1)


class Drops:
    """Chunks to drop from the head of partitions, and what changes with them."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._ids: list[tuple[int]] = []
        self._firsts: dict[int, Mark] = {}
        self._positions: dict[tuple[int, int], GroupPosition] = {}

    def add(self, partition: int, rows: Iterable[Row]) -> None:
        """Drop these, the first of a partition."""
        groups = self._index.group_ids(partition)
        for row in rows:
            self._ids.append((row.id,))
            end = Mark(row.next_offset, row.events_before + row.events, row.size_before + row.size, row.last_time)
            self._firsts[partition] = end
            for group in groups:
                self._expire(group, partition, row)

    def _expire(self, group: int, partition: int, row: Row) -> None:
        key = (group, partition)
        position = self._positions.get(key) or self._index.positions[key]
        if position.low < row.next_offset:
            done = sum(1 for offset in position.done if row.offset <= offset < row.next_offset)
            unread = row.events - count_events(row, position.low) - done
            self._positions[key] = position._replace(expired=position.expired + max(0, unread))

    def write(self, db: apsw.Connection) -> None:
        """Within a transaction of the caller's."""
        db.executemany("DELETE FROM chunks WHERE id = ?", self._ids)
        db.executemany(
            "UPDATE partitions SET first = ?, events = ?, size = ?, time = ? WHERE id = ?",
            [(*mark, partition) for partition, mark in self._firsts.items()],
        )
        db.executemany(
            "UPDATE positions SET expired = ? WHERE group_id = ? AND partition_id = ?",
            [(position.expired, *key) for key, position in self._positions.items()],
        )

    def apply(self) -> None:
        """Change the memory as the file was changed."""
        self._index.firsts.update(self._firsts)
        self._index.positions.update(self._positions)


class Retention:
    """Finds what to drop. The stream's own limits count, else those of the settings."""

    def __init__(self, db: apsw.Connection, index: Index, settings: LogSettings) -> None:
        self._db = db
        self._index = index
        self._settings = settings

    def oversized(self, name: str) -> bool:
        """Whether a stream may hold more than its limit; cheap enough to ask after each commit."""
        stream = self._index.catalog.streams[name]
        limit = self._limit(stream.spec)
        return limit is not None and self._size(stream) > limit

    def find(self, now: Micros) -> Drops | None:
        """A slice of what is to be dropped, None if there is nothing."""
        for stream in self._index.catalog.streams.values():
            victims = self._victims(stream, now)
            if victims:
                drops = Drops(self._index)
                for partition in stream.partitions:
                    drops.add(partition, [row for row in victims if row_id(partition, row.offset) == row.id])
                return drops
        return None

    def next_expiry(self, now: Micros) -> Micros | None:
        """When there may be something too old; None if nothing ever gets too old. Whatever is appended from now on will
        not be before its age has passed, so that nothing has to be watched."""
        times: list[Micros] = []
        for stream in self._index.catalog.streams.values():
            if (age := self._age(stream.spec)) is not None:
                heads = [row.last_time for where in stream.partitions for row in first_headers(self._db, where, 1)]
                soonest = now + max(SECOND, age // 100)  # not for each chunk by itself
                times.append(max(soonest, min(heads, default=now) + age + 1))
        return min(times, default=None)

    def _victims(self, stream: Stream, now: Micros) -> list[Row]:
        limit, age = self._limit(stream.spec), self._age(stream.spec)
        if limit is None and age is None:
            return []
        excess = 0 if limit is None else self._size(stream) - limit
        oldest = -1 if age is None else now - age
        count = max(_LEAST, SLICE // len(stream.partitions))
        heads = [first_headers(self._db, where, count) for where in stream.partitions]
        seen_until = min((rows[-1].last_time for rows in heads if len(rows) == count), default=now)
        victims: list[Row] = []
        for row in sorted((row for rows in heads for row in rows), key=lambda row: row.last_time):
            if row.last_time > seen_until or (row.last_time >= oldest and excess < max(1, row.size)):
                break
            excess -= row.size
            victims.append(row)
        return victims

    def _size(self, stream: Stream) -> int:
        firsts, ends = self._index.firsts, self._index.ends
        return sum(ends[partition].size - firsts[partition].size for partition in stream.partitions)

    def _limit(self, spec: StreamSpec) -> int | None:
        return spec.retention_bytes if spec.retention_bytes is not None else self._settings.retention_bytes

    def _age(self, spec: StreamSpec) -> Micros | None:
        age = spec.retention_age if spec.retention_age is not None else self._settings.retention_age
        return None if age is None else age // _MICROSECOND


def find_dropped(db: apsw.Connection) -> int | None:
    """A partition of a dropped stream that is still in the file."""
    found: int | None = db.execute("SELECT id FROM partitions WHERE stream_id IS NULL LIMIT 1").get
    return found


def purge(db: apsw.Connection, partition: int) -> None:
    """Remove a slice of a dropped partition, with the last one the partition, within a transaction of the caller's."""
    ids = db.execute(
        "SELECT id FROM chunks WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (row_id(partition, 0), row_id(partition + 1, 0), SLICE),
    ).fetchall()
    db.executemany("DELETE FROM chunks WHERE id = ?", ids)
    if len(ids) < SLICE:
        db.execute("DELETE FROM partitions WHERE id = ?", (partition,))
