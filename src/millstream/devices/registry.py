"""The registry: which devices there are, how they come in, and what is known of them.

Every change is committed together with the life-cycle event about it (see `lifecycle`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from millstream.actor import By
from millstream.clock import Clock, Micros
from millstream.devices import lifecycle
from millstream.devices.credentials import SymmetricKeys
from millstream.devices.database import Database
from millstream.devices.device import Change, Device
from millstream.devices.facts import recognize
from millstream.devices.lifecycle import Happened, What
from millstream.devices.name import Name
from millstream.devices.query import translate
from millstream.devices.store import Store
from millstream.devices.vault import Vault
from millstream.devices.work import ANY, Definition, Expected, Put, Work
from millstream.errors import DeviceError, UnknownDeviceError

T = TypeVar("T")

_FIRST = Name("")  # before all others
Watcher = Callable[[Sequence[Happened]], None]


class Registry:
    """Made by `open`, for one event loop. `id` tells it from any other registry."""

    def __init__(self, database: Database, store: Store, registry_id: str, clock: Clock) -> None:
        self.id = registry_id
        self.database = database
        self.store = store
        self.vault = store.vault
        self.clock = clock
        self._watchers: list[Watcher] = []

    @classmethod
    async def open(cls, url: str, folder: Path | None, clock: Clock, *, key: str = "") -> Registry:
        """See `Database.open`; `key` is the setting `registry_key`. Without a folder the registry is in memory, and
        gone when it is closed. `RegistryError` if its secrets were encrypted with another key."""
        vault = Vault.new() if folder is None else Vault.open(folder, key)
        database = await Database.open(url, folder)
        try:
            registry_id = await database.write(lambda connection: recognize(connection, vault))
        except BaseException:
            await database.close()
            raise
        return cls(database, Store(vault), registry_id, clock)

    async def close(self) -> None:
        """Finish what is under way, and close. Idempotent."""
        await self.database.close()

    def watch(self, changed: Watcher) -> None:
        """Call back with what has happened to devices (perhaps nothing), from the event loop, after the commit, and
        before whoever has done it is told."""
        self._watchers.append(changed)

    # --- looking

    async def find(self, name: Name) -> Device | None:
        """The device of that name, or None."""
        return await self.database.read(lambda connection: self.store.find(connection, name))

    async def get(self, name: Name) -> Device:
        """The device of that name. `UnknownDeviceError` if there is none."""
        found = await self.find(name)
        if found is None:
            raise UnknownDeviceError(f"there is no device {str(name)!r}")
        return found

    async def page(
        self, query: str | None = None, after: Name = _FIRST, limit: int = 100, *, modules: bool = False
    ) -> list[Device]:
        """The devices (and modules) that a query selects, by name, at most `limit` behind one. `QueryError`."""
        condition = None if query is None else translate(query, self.database.dialect)
        return await self.database.read(
            lambda connection: self.store.page(connection, condition, after, limit, modules)
        )

    async def modules(self, device: str) -> list[Device]:
        """A device's modules, by name. `UnknownDeviceError` if there is no such device."""
        await self.get(Name(device))
        return await self.database.read(lambda connection: self.store.modules(connection, device))

    # --- changing; `by` is who wants it, and stands in the event

    async def put(self, name: Name, change: Change, by: By = None, expected: Expected = ANY) -> Put:
        """Make a device, or replace what is known of it: what `change` does not say is as in a new one, but for
        credentials, which stay. `DeviceError`: something impossible is said. `PreconditionError`: not as expected."""
        change = await _hashed(change)
        return await self.transact([name], by, lambda work: work.put(name, change, expected))

    async def put_many(self, those: Sequence[Definition], by: By = None) -> list[Put | DeviceError]:
        """`put` each, in one transaction. What is impossible is told in its place, and holds nothing else up."""
        ready = [await _try_hash(each) for each in those]
        names = [each.name for each in those]
        return await self.transact(names, by, lambda work: [work.try_put(each) for each in ready])

    async def patch(self, name: Name, change: Change, by: By = None, expected: Expected = ANY) -> Device:
        """Change what is said; tags are merged, null takes one away. `UnknownDeviceError`, and as `put`."""
        change = await _hashed(change)
        return await self.transact([name], by, lambda work: work.patch(name, change, expected))

    async def rotate_keys(self, name: Name, by: By = None, expected: Expected = ANY) -> Device:
        """Make a new primary key; the one before is the secondary then. `DeviceError` if it has none."""
        return await self.transact([name], by, lambda work: work.change_keys(name, SymmetricKeys.rotated, expected))

    async def delete(self, name: Name, by: By = None, expected: Expected = ANY) -> None:
        """Delete a device with its modules, or a module. `UnknownDeviceError`, `PreconditionError`."""
        await self.transact([name], by, lambda work: work.delete(name, expected))

    # --- presence; see there

    async def note(self, those: Sequence[Happened], activity: Mapping[Name, Micros]) -> None:
        """Write what has happened that changes no device, in this order: who has connected or disconnected, what became
        of calls; and when who was last heard of. Nothing happens to devices that are not there any more."""

        def write(connection: Connection) -> Sequence[Happened]:
            known = self.store.generations(connection, list({each.name for each in those}))
            real = [each for each in those if known.get(each.name) == each.generation]
            self.store.set_activity(connection, activity)
            presence = [each for each in real if each.what in (What.CONNECTED, What.DISCONNECTED)]
            self.store.set_connected(
                connection, [(each.name, each.what is What.CONNECTED, each.time) for each in presence]
            )
            lifecycle.put(connection, real)
            return real

        await self.database.write(write, self._tell)

    async def connected(self, limit: int) -> Mapping[Name, str]:
        """Some devices that are down as connected, and their generations."""
        return await self.database.read(lambda connection: self.store.connected(connection, limit))

    async def transact(self, names: Iterable[Name], by: By, act: Callable[[Work], T]) -> T:
        """Do something to devices, in a thread, in one transaction with the events about it."""
        now = self.clock.now()

        def write(connection: Connection) -> tuple[T, Sequence[Happened]]:
            work = Work(self.store, connection, list(names), now, by)
            return act(work), work.finish()

        outcome, _ = await self.database.write(write, lambda done: self._tell(done[1]))
        return outcome

    async def write(self, act: Callable[[Connection], None]) -> None:
        """Write something else, in a transaction of its own, and let the relay know."""
        await self.database.write(act, lambda done: self._tell(()))

    def _tell(self, happened: Sequence[Happened]) -> None:
        for changed in self._watchers:
            changed(happened)


async def _try_hash(each: Definition) -> Definition | DeviceError:
    try:
        return Definition(each.name, await _hashed(each.change))
    except DeviceError as error:
        return error


async def _hashed(change: Change) -> Change:
    """With a hash for a password, which takes its time; so in a thread, and not in the one that writes."""
    return await asyncio.to_thread(change.hashed) if change.has_password else change
