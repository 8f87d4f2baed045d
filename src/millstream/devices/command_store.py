"""Queued commands as rows, within a transaction of somebody's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, func, insert, select, update

from millstream.clock import Micros
from millstream.devices.command import IN_FLIGHT, MAX_QUEUED, Command
from millstream.devices.name import Name
from millstream.devices.tables import commands

_its = commands.c


def add_command(connection: Connection, row: dict[str, Any]) -> Command:
    """Put one behind all others."""
    number = connection.execute(insert(commands), row).inserted_primary_key
    assert number is not None
    return _one(connection, _its.number == number[0])


def count_commands(connection: Connection, name: Name) -> int:
    """How many wait for a device."""
    query = select(func.count()).select_from(commands).where(_of(name))
    return int(connection.execute(query).scalar_one())


def waiting_commands(connection: Connection, name: Name, limit: int = IN_FLIGHT) -> list[Command]:
    """The first ones of a device, in order."""
    query = select(commands).where(_of(name)).order_by(_its.number).limit(limit)
    return [_command(row) for row in connection.execute(query).mappings()]


def find_command(connection: Connection, name: Name, command_id: str) -> Command | None:
    """One of a device's."""
    row = connection.execute(select(commands).where(_of(name), _its.id == command_id)).mappings().first()
    return None if row is None else _command(row)


def expired_commands(connection: Connection, now: Micros, limit: int) -> list[Command]:
    """Some whose time is over."""
    query = select(commands).where(_its.expires <= now).order_by(_its.expires).limit(limit)
    return [_command(row) for row in connection.execute(query).mappings()]


def unsettled_names(connection: Connection, before: Micros) -> list[Name]:
    """Devices that got one before an instant, and have not settled it."""
    query = select(_its.device, _its.module).where(_its.sent <= before)  # DISTINCT would have SQLite read all of them
    return list(dict.fromkeys(Name(device, module) for device, module in connection.execute(query)))


def mark_sent(connection: Connection, those: Sequence[Command], now: Micros) -> None:
    """They are on their way to their device."""
    numbers = [each.number for each in those]
    if numbers:
        change = update(commands).where(_its.number.in_(numbers))
        connection.execute(change.values(sent=now, deliveries=_its.deliveries + 1))


def remove_commands(connection: Connection, those: Sequence[Command]) -> None:
    """They wait no longer."""
    numbers = [each.number for each in those]
    if numbers:
        connection.execute(delete(commands).where(_its.number.in_(numbers)))


def remove_all_commands(connection: Connection, names: Sequence[Name]) -> list[Command]:
    """Those of some devices, which go. Gives them."""
    those = [command for name in names for command in waiting_commands(connection, name, MAX_QUEUED)]
    remove_commands(connection, those)
    return those


def any_commands(connection: Connection) -> bool:
    """Whether any waits."""
    return connection.execute(select(_its.number).limit(1)).first() is not None


def _one(connection: Connection, condition: ColumnElement[bool]) -> Command:
    return _command(connection.execute(select(commands).where(condition)).mappings().one())


def _of(name: Name) -> ColumnElement[bool]:
    return (_its.device == name.device) & (_its.module == name.module)


def _command(row: RowMapping) -> Command:
    return Command(
        number=row["number"],
        id=row["id"],
        name=Name(row["device"], row["module"]),
        generation=row["generation"],
        payload=row["payload"],
        queued=row["queued"],
        expires=row["expires"],
        deliveries=row["deliveries"],
        sent=row["sent"],
    )
