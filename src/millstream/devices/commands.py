"""The registry's queued commands: who queues, takes and settles them, with the events about it.

A command is in the database from the moment in which its sender is told so, until its device settles it or its time is
over. So it is lost neither by a server that dies nor by a device that is away, and a device may get it more than once.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from millstream.actor import By
from millstream.clock import SECOND
from millstream.devices.command import (
    LOCK,
    LONGEST,
    MAX_DELIVERIES,
    MAX_QUEUED,
    SHORTEST,
    USUAL,
    Command,
    check_payload,
)
from millstream.devices.command_store import (
    add_command,
    any_commands,
    count_commands,
    expired_commands,
    find_command,
    mark_sent,
    remove_commands,
    unsettled_names,
    waiting_commands,
)
from millstream.devices.lifecycle import Happened, What
from millstream.devices.name import Name
from millstream.devices.registry import Registry
from millstream.devices.work import Work
from millstream.errors import DeviceError, OverloadError, UnknownCommandError, UnknownDeviceError

_AT_ONCE = 500  # that expire in a transaction


class Commands:
    """Those of a registry's devices."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def queue(self, name: Name, payload: bytes, seconds: int = USUAL, by: By = None) -> Command:
        """Queue a command (JSON, or nothing) that lives for so many seconds. `UnknownDeviceError`; `DeviceError`: an
        impossible payload or time; `OverloadError`: too many wait for the device already."""
        checked = check_payload(payload)
        if not SHORTEST <= seconds <= LONGEST:
            raise DeviceError(f"a command lives for {SHORTEST} to {LONGEST} seconds, and not for {seconds}")
        return await self._registry.transact([name], by, lambda work: _queue(work, name, checked, seconds))

    async def waiting(self, name: Name) -> list[Command]:
        """All that wait for a device, in order. `UnknownDeviceError`."""
        await self._registry.get(name)
        return await self._registry.database.read(lambda connection: waiting_commands(connection, name, MAX_QUEUED))

    async def take(self, name: Name, *, anew: bool = False) -> list[Command]:
        """Those that a device should get now, in order: of its first ones, what it has not got yet, or has not settled
        in time; `anew`: all of them, since it may have forgotten what it got."""
        return await self._registry.transact([name], None, lambda work: _take(work, name, anew=anew))

    async def settle(self, name: Name, command_id: str, outcome: What, reason: Any = None) -> None:
        """A device says what became of one: `DELIVERED` or `REJECTED`. `UnknownCommandError`: it waits no longer."""
        await self._registry.transact([name], None, lambda work: _settle(work, name, command_id, outcome, reason))

    async def purge(self, name: Name, by: By = None) -> int:
        """Take all back that wait for a device. How many did. `UnknownDeviceError`."""

        def write(work: Work) -> int:
            work.get(name)
            those = waiting_commands(work.connection, name, MAX_QUEUED)
            _end(work, those, What.PURGED)
            return len(those)

        return await self._registry.transact([name], by, write)

    async def expire(self) -> bool:
        """End those whose time is over. Whether any command waits still."""

        def write(work: Work) -> int:
            those = expired_commands(work.connection, work.now, _AT_ONCE)
            _end(work, those, What.EXPIRED)
            return len(those)

        while await self._registry.transact([], None, write) == _AT_ONCE:
            pass
        return await self._registry.database.read(any_commands)

    async def unsettled(self) -> list[Name]:
        """Devices that have not settled in time what they got."""
        before = self._registry.clock.now() - LOCK
        return await self._registry.database.read(lambda connection: unsettled_names(connection, before))


def _queue(work: Work, name: Name, payload: bytes, seconds: int) -> Command:
    device = work.get(name)
    if count_commands(work.connection, name) >= MAX_QUEUED:
        raise OverloadError(f"{MAX_QUEUED} commands wait for device {str(name)!r} already; purge them, or come later")
    row = {
        "id": secrets.token_hex(8),
        "device": name.device,
        "module": name.module,
        "generation": device.generation,
        "payload": payload,
        "queued": work.now,
        "expires": work.now + seconds * SECOND,
        "deliveries": 0,
    }
    command = add_command(work.connection, row)
    shown = command.shown()
    _note(work, command, What.QUEUED, {"payload": shown["payload"], "expires": shown["expires"]})
    return command


def _take(work: Work, name: Name, *, anew: bool) -> list[Command]:
    if work.find(name) is None:
        raise UnknownDeviceError(f"there is no device {str(name)!r}")
    due, over = [], []
    for each in waiting_commands(work.connection, name):
        if each.expires <= work.now:
            over.append(each)
        elif each.sent is None or anew or each.sent <= work.now - LOCK:
            due.append(each)
    spent = [each for each in due if each.deliveries >= MAX_DELIVERIES]
    _end(work, over, What.EXPIRED)
    _end(work, spent, What.EXPIRED, {"reason": f"delivered {MAX_DELIVERIES} times, and never settled"})
    due = [each for each in due if each.deliveries < MAX_DELIVERIES]
    mark_sent(work.connection, due, work.now)
    return [msgspec.structs.replace(each, deliveries=each.deliveries + 1, sent=work.now) for each in due]


def _settle(work: Work, name: Name, command_id: str, outcome: What, reason: Any) -> None:
    found = find_command(work.connection, name, command_id)
    if found is None:
        raise UnknownCommandError(f"no command {command_id!r} waits for device {str(name)!r}; it may have expired")
    _end(work, [found], outcome, {} if reason is None else {"reason": reason})


def _end(work: Work, those: list[Command], what: What, details: dict[str, Any] | None = None) -> None:
    remove_commands(work.connection, those)
    for each in those:
        _note(work, each, what, {"deliveries": each.deliveries, **(details or {})})


def _note(work: Work, command: Command, what: What, details: dict[str, Any]) -> None:
    work.note(
        Happened(
            what=what,
            name=command.name,
            generation=command.generation,
            time=work.now,
            details={"command": command.id, **details, **work.details},
        )
    )
