"""Groups and streams as an operator sees them, from the tables. Every function runs within a transaction of the
caller's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import apsw

from millstream.log.contract import Accounts, GroupAccount, GroupStatus, Position, StreamAccount
from millstream.log.draft import OWN
from millstream.log.sqlite.catalog import Catalog
from millstream.log.sqlite.format import count_events
from millstream.log.sqlite.index import unpack_done
from millstream.log.sqlite.place import Place
from millstream.log.sqlite.scan import first_mark, header_at, last_header
from millstream.log.sqlite.transaction import APPENDED, PASSED

_GROUPS = "SELECT id, name FROM consumer_groups ORDER BY name"
_COUNTS = "SELECT name, n FROM counts WHERE group_id = ? ORDER BY name"
_POSITIONS = "SELECT partition_id, low, done FROM positions WHERE group_id = ? ORDER BY partition_id"
_STARTS = """SELECT partition_id, "offset", events, expired FROM starts JOIN positions USING(group_id, partition_id)
    WHERE group_id = ?"""
_SET_PASSED = "INSERT OR REPLACE INTO counts SELECT id, ?, ? FROM consumer_groups WHERE name = ?"


def read_groups(db: apsw.Connection, catalog: Catalog) -> list[GroupStatus]:
    """Every group that has a position or has counted something, by name. Members are not in the tables."""
    statuses = (_status(db, catalog, group_id, name) for group_id, name in _rows(db, _GROUPS))
    return [status for status in statuses if status.positions or status.counts]


def read_accounts(db: apsw.Connection, catalog: Catalog) -> Accounts:
    """See `millstream.log.contract.Accounts`."""
    sources: dict[str, dict[str, int]] = {}
    groups: dict[str, GroupAccount] = {}
    for group_id, name in _rows(db, _GROUPS):
        own = {count: n for count, n in _rows(db, _COUNTS, group_id) if count.startswith(OWN)}
        for stream, n in _of(APPENDED, own):
            sources.setdefault(stream, {})[name] = n
        status = _status(db, catalog, group_id, name)
        if status.positions or status.counts:
            groups[name] = _account(db, catalog, group_id, status, dict(_of(PASSED, own)))
    return Accounts(
        {name: _stream(db, catalog, name, sources.get(name, {})) for name in catalog.streams},
        groups,
    )


def close_accounts(db: apsw.Connection, catalog: Catalog, stream: str) -> None:
    """A stream will be dropped: keep what groups have read of it, and forget what was appended."""
    for name, group in read_accounts(db, catalog).groups.items():
        if stream in group.read:
            db.execute(_SET_PASSED, (PASSED + stream, group.read[stream], name))
    db.execute("DELETE FROM counts WHERE name = ?", (APPENDED + stream,))


def _status(db: apsw.Connection, catalog: Catalog, group_id: int, name: str) -> GroupStatus:
    positions: dict[Place, Position] = {}
    lag: dict[Place, int] = {}
    for partition, low, done in _rows(db, _POSITIONS, group_id):
        place = catalog.places[partition]
        positions[place] = Position(low, unpack_done(done))
        lag[place] = _lag(db, partition, positions[place])
    counts = {count: n for count, n in _rows(db, _COUNTS, group_id) if not count.startswith(OWN)}
    return GroupStatus(name, 0, positions, lag, counts)


def _account(
    db: apsw.Connection, catalog: Catalog, group_id: int, status: GroupStatus, read: dict[str, int]
) -> GroupAccount:
    starts: dict[Place, int] = {}
    untold = 0
    for partition, offset, events, expired in _rows(db, _STARTS, group_id):
        place = catalog.places[partition]
        starts[place] = offset
        untold += expired
        passed = _total(db, partition).ever - status.lag[place] - expired - events
        read[place[0]] = read.get(place[0], 0) + passed
    return GroupAccount(status, read, untold, starts)


class _Total(NamedTuple):
    """The events that a partition ever had, and those that retention has dropped."""

    ever: int
    dropped: int


def _total(db: apsw.Connection, partition: int) -> _Total:
    dropped = first_mark(db, partition).events
    last = last_header(db, partition)
    return _Total(dropped if last is None else last.events_before + last.events, dropped)


def _stream(db: apsw.Connection, catalog: Catalog, name: str, sources: Mapping[str, int]) -> StreamAccount:
    totals = [_total(db, partition) for partition in catalog.stream(name).partitions]
    return StreamAccount(name, sum(one.ever for one in totals), sum(one.dropped for one in totals), sources)


def _of(prefix: str, counts: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    return ((name.removeprefix(prefix), n) for name, n in counts.items() if name.startswith(prefix))


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
