"""What a group commit is going to change, gathered and checked before any of it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import apsw

from millstream.clock import SECOND, Micros
from millstream.errors import LogError
from millstream.log.contract import Committed
from millstream.log.sqlite.changes import Append, Changes
from millstream.log.sqlite.format import Body, Row, row_id, seal
from millstream.log.sqlite.index import Index, pack_done
from millstream.log.sqlite.place import GroupPosition, Mark
from millstream.log.sqlite.states import state_checksum

INSERT_CHUNK = "INSERT INTO chunks VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_SAVE_STATE = """INSERT INTO states(group_id, number, name, checksum, data) VALUES(?,?,?,?,?)
    ON CONFLICT DO UPDATE SET checksum = excluded.checksum, data = excluded.data"""
_DROP_STATE = "DELETE FROM states WHERE group_id = ? AND number = ? AND name = ?"
_SAVE_POSITION = "INSERT OR REPLACE INTO positions VALUES(?,?,?,?,?)"
_SAVE_DUE = "INSERT OR REPLACE INTO dues VALUES(?,?,?)"
_DROP_DUE = "DELETE FROM dues WHERE group_id = ? AND partition_id = ?"
_COUNT = "INSERT INTO counts VALUES(?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n"


class Stage:
    """Changes on top of `index`, all to be committed at `time`. What is added later sees what was added before."""

    def __init__(self, index: Index, time: Micros) -> None:
        self.time = time
        self.rows: list[Row] = []
        self.ends: dict[int, Mark] = {}
        self.positions: dict[tuple[int, int], GroupPosition] = {}
        self.topics: dict[int, set[str] | None] = {}  # of the events, by partition; None: they may be on any
        self.dues: dict[tuple[int, int], Micros | None] = {}
        self.next_due: Micros | None = None  # known after `apply`, if there are `dues`
        self.oversized = False  # whether a stream holds more than it may, after it
        self.crumbs = False  # whether there are small chunks to merge, after it
        self._index = index
        self._states: dict[tuple[int, int, str], bytes | None] = {}
        self._counts: Counter[tuple[int, str]] = Counter()

    def add(self, changes: Changes) -> Committed:
        """Take a transaction's changes in. Raises, and takes nothing, if one of them cannot be made."""
        catalog = self._index.catalog
        group = self._group(changes.group)
        targets = [catalog.partition(append.stream, append.partition) for append in changes.appends]
        dues = {(group, catalog.partition(name, number)): at for name, number, at in changes.dues}
        positions = self._check_positions(group, changes)
        first_offsets = tuple(self._append(*pair) for pair in zip(targets, changes.appends, strict=True))
        self.positions.update(positions)
        self.dues.update((key, at if at is None else _whole_second(at)) for key, at in dues.items())
        self._states.update(((group, number, name), data) for number, name, data in changes.states)
        self._counts.update({(group, name): n for name, n in changes.counts.items()})
        return Committed(self.time, first_offsets)

    def tick(self, partition: int) -> None:
        """Append a tick."""
        end = self.end(partition)
        self._put(partition, end, 1, None)

    def position(self, group: int, partition: int) -> GroupPosition | None:
        """A group's position after these changes."""
        key = (group, partition)
        return self.positions.get(key) or self._index.positions.get(key)

    def end(self, partition: int) -> Mark:
        """A partition's end after these changes."""
        return self.ends.get(partition) or self._index.ends[partition]

    def write(self, db: apsw.Connection) -> None:
        """Put everything into the file, within a transaction of the caller's."""
        _many(db, INSERT_CHUNK, self.rows)
        saved = [(*key, state_checksum(*key, data), data) for key, data in self._states.items() if data is not None]
        _many(db, _SAVE_STATE, saved)
        _many(db, _DROP_STATE, [key for key, data in self._states.items() if data is None])
        positions = self.positions.items()
        _many(db, _SAVE_POSITION, [(*key, low, pack_done(done), gone) for key, (low, done, gone) in positions])
        _many(db, _SAVE_DUE, [(*key, at) for key, at in self.dues.items() if at is not None])
        _many(db, _DROP_DUE, [key for key, at in self.dues.items() if at is None])
        _many(db, _COUNT, [(*key, n) for key, n in self._counts.items()])

    def apply(self) -> None:
        """Change the memory as the file was changed."""
        self._index.ends.update(self.ends)
        self._index.positions.update(self.positions)
        for key, at in self.dues.items():
            if at is None:
                self._index.dues.pop(key, None)
            else:
                self._index.dues[key] = at
        if self.dues:
            self.next_due = self._index.next_due

    def _group(self, name: str) -> int:
        try:
            return self._index.groups[name]
        except KeyError:
            raise LogError(f"there is no group {name!r}; join it first") from None

    def _append(self, partition: int, append: Append) -> int:
        first = self.end(partition).offset
        for body in append.bodies:
            self._put(partition, self.end(partition), body.events, body)
        known = self.topics.get(partition, set())
        self.topics[partition] = None if known is None or append.topics is None else known | append.topics
        return first

    def _put(self, partition: int, end: Mark, records: int, body: Body | None) -> None:
        times = (self.time, self.time)
        row = seal(row_id(partition, end.offset), records, body, None, times, end.events, end.size)
        self.rows.append(row)
        self.ends[partition] = Mark(end.offset + records, end.events + row.events, end.size + row.size, self.time)

    def _check_positions(self, group: int, changes: Changes) -> dict[tuple[int, int], GroupPosition]:
        moved: dict[tuple[int, int], GroupPosition] = {}
        for name, number, low, done in changes.positions:
            partition = self._index.catalog.partition(name, number)
            before = self.position(group, partition) or GroupPosition(0)
            if low < before.low:
                raise LogError(
                    f"group {changes.group!r} cannot move its position in partition {number} of stream {name!r} "
                    f"back from {before.low} to {low}"
                )
            if low > (end := self.end(partition).offset):
                raise LogError(
                    f"group {changes.group!r} cannot move its position in partition {number} of stream {name!r} "
                    f"to {low}, which is beyond the end at {end}"
                )
            first = self._index.firsts[partition].offset
            gone = first - low - sum(1 for one in done if one < first) if low < first else 0
            moved[group, partition] = GroupPosition(low, tuple(done), min(before.expired, gone))
        return moved


def _whole_second(at: Micros) -> Micros:
    """Up to the next whole second, so that what falls due about the same time shares a tick."""
    return -(-at // SECOND) * SECOND


def _many(db: apsw.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        db.executemany(statement, rows)
