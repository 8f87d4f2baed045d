"""Groups as an operator sees them, from the tables."""

from __future__ import annotations

from typing import Any

import apsw

from millstream.log.contract import GroupStatus, Position
from millstream.log.sqlite.catalog import Catalog
from millstream.log.sqlite.format import count_events
from millstream.log.sqlite.index import unpack_done
from millstream.log.sqlite.scan import first_mark, header_at, last_header

_GROUPS = "SELECT id, name FROM consumer_groups ORDER BY name"
_COUNTS = "SELECT name, n FROM counts WHERE group_id = ? ORDER BY name"
_POSITIONS = "SELECT partition_id, low, done FROM positions WHERE group_id = ? ORDER BY partition_id"


def read_groups(db: apsw.Connection, catalog: Catalog) -> list[GroupStatus]:
    """Every group that has a position or has counted something, by name, within a transaction of the caller's. Members
    are not in the tables."""
    groups: list[GroupStatus] = []
    for group_id, name in _rows(db, _GROUPS):
        counts = dict(_rows(db, _COUNTS, group_id))
        positions: dict[tuple[str, int], Position] = {}
        lag: dict[tuple[str, int], int] = {}
        for partition, low, done in _rows(db, _POSITIONS, group_id):
            place = catalog.places[partition]
            positions[place] = Position(low, unpack_done(done))
            lag[place] = _lag(db, partition, positions[place])
        if positions or counts:
            groups.append(GroupStatus(name, 0, positions, lag, counts))
    return groups


def _lag(db: apsw.Connection, partition: int, position: Position) -> int:
    """The events at a position and after it that are not done."""
    last = last_header(db, partition)
    if last is None or last.next_offset <= position.low:
        return 0
    first = first_mark(db, partition)
    at = header_at(db, partition, position.low)
    before = first.events if at is None else at.events_before + count_events(at, position.low)
    return max(0, last.events_before + last.events - before - sum(1 for one in position.done if one >= first.offset))


def _rows(db: apsw.Connection, statement: str, *values: int) -> list[Any]:
    return db.execute(statement, values).fetchall()
