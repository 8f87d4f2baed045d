"""Twins as rows, within a transaction of somebody's. A device of whose twin nobody has said anything has no row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select, update

from millstream.devices.name import Name
from millstream.devices.tables import are_among, twins
from millstream.devices.twin import Side, Sides

_SLICE = 500  # names in a statement; SQLite takes 32,766 values, PostgreSQL 65,535

_its = twins.c
_NAMED = (_its.device == bindparam("d")) & (_its.module == bindparam("m"))
_FIND = select(twins).where(_NAMED)
_WRITTEN = ("desired", "desired_version", "desired_updated", "reported", "reported_version", "reported_updated")
_REPLACE = update(twins).where(_NAMED).values({column: bindparam(f"new_{column}") for column in _WRITTEN})
_DELETE = delete(twins).where(_NAMED)


def find_sides(connection: Connection, name: Name) -> Sides:
    """Those of a device."""
    row = connection.execute(_FIND, {"d": name.device, "m": name.module}).mappings().first()
    return Sides() if row is None else _sides(row)


def find_many_sides(connection: Connection, names: Sequence[Name]) -> dict[Name, Sides]:
    """Those that there are."""
    found: dict[Name, Sides] = {}
    for start in range(0, len(names), _SLICE):
        some = names[start : start + _SLICE]
        rows = connection.execute(select(twins).where(are_among(twins, some))).mappings()
        found.update((Name(row["device"], row["module"]), _sides(row)) for row in rows)
    return found


def save_sides(connection: Connection, those: Mapping[Name, Sides], there: Mapping[Name, Sides]) -> None:
    """Write those; `there` are the ones that have a row already."""
    added = [
        {"device": name.device, "module": name.module, **_row(its)} for name, its in those.items() if name not in there
    ]
    changed = [_bound(name, its) for name, its in those.items() if name in there]
    if added:
        connection.execute(insert(twins), added)
    if changed:
        connection.execute(_REPLACE, changed)


def delete_sides(connection: Connection, names: Sequence[Name]) -> None:
    """Take them away, where there are any."""
    if names:
        connection.execute(_DELETE, [{"d": name.device, "m": name.module} for name in names])


def _sides(row: RowMapping) -> Sides:
    desired = Side(row["desired"], row["desired_version"], row["desired_updated"])
    return Sides(desired, Side(row["reported"], row["reported_version"], row["reported_updated"]))


def _row(its: Sides) -> dict[str, Any]:
    return {
        "desired": its.desired.content,
        "desired_version": its.desired.version,
        "desired_updated": its.desired.updated,
        "reported": its.reported.content,
        "reported_version": its.reported.version,
        "reported_updated": its.reported.updated,
    }


def _bound(name: Name, its: Sides) -> dict[str, Any]:
    return {"d": name.device, "m": name.module, **{f"new_{column}": value for column, value in _row(its).items()}}
