"""Changes of the registry within one transaction, and the events about them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection

from millstream.actor import Actor, By, name_of
from millstream.clock import Micros
from millstream.devices import lifecycle
from millstream.devices.audit import put_entry
from millstream.devices.command_store import remove_all_commands
from millstream.devices.credentials import NO_CREDENTIALS, Credentials, SymmetricKeys
from millstream.devices.device import Change, Device
from millstream.devices.document import difference, same
from millstream.devices.lifecycle import Happened, What
from millstream.devices.name import Name
from millstream.devices.store import Store
from millstream.devices.twin_store import delete_sides
from millstream.errors import DeviceError, PreconditionError, UnknownDeviceError

_TOKEN_BYTES = 8  # of etags and generations: random, so that none is ever there again


class Expected(NamedTuple):
    """The state in which a device must be to be changed: the preconditions of RFC 9110, 13."""

    etag: str | None = None
    """`If-Match`: this one; `*`: any, but it must be there."""
    absent: bool = False
    """`If-None-Match: *`: it must not be there."""

    def check(self, name: Name, found: Device | None, suffix: str = "") -> None:
        """Raise `PreconditionError` unless it is so. `suffix`: how the etag goes on where more than it is meant."""
        self.check_etag(f"device {str(name)!r}", None if found is None else found.etag + suffix)

    def check_etag(self, what: str, etag: str | None) -> None:
        """The same for anything that has an etag; None: it is not there."""
        if self.absent and etag is not None:
            raise PreconditionError(f"there is a {what} already")
        if self.etag is not None and (etag is None or self.etag not in ("*", etag)):
            state = "is not there" if etag is None else f"has the etag {etag} by now"
            raise PreconditionError(f"{what} {state}; read it again before you change it")


ANY = Expected()


class Definition(NamedTuple):
    """A device as it is to be."""

    name: Name
    change: Change


class Put(NamedTuple):
    """What became of a definition."""

    device: Device
    created: bool
    changed: bool


class Work:
    """What is done to some devices, by their names, on behalf of somebody. It is written by `finish`."""

    def __init__(self, store: Store, connection: Connection, names: Iterable[Name], now: Micros, by: By) -> None:
        self._store = store
        self.connection = connection
        self.now = now
        self.by = by
        self.details = {} if name_of(by) is None else {"by": name_of(by)}
        """What events say about who it is for."""
        self._marks: list[Mapping[str, Any]] = []
        parents = [Name(each.device) for each in names if each.module]
        self._known = store.find_many(connection, [*names, *parents])
        self._added: dict[Name, Device] = {}
        self._replaced: dict[Name, Device] = {}
        self._deleted: list[Name] = []
        self._happened: list[Happened] = []

    def put(self, name: Name, change: Change, expected: Expected) -> Put:
        """See `Registry.put`."""
        found = self._known.get(name)
        expected.check(name, found)
        if found is not None:
            device = self.replace(found, change.over(found, replace=True))
            return Put(device, created=False, changed=device is not found)
        if name.module and Name(name.device) not in self._known:
            raise UnknownDeviceError(f"there is no device {name.device!r} that could have a module")
        return Put(self.add(change.over(self.blank(name), replace=True)), created=True, changed=True)

    def add(self, device: Device) -> Device:
        """Have a device that is not there."""
        self._known[device.name] = self._added[device.name] = device
        self._note(What.CREATED, device)
        return device

    def try_put(self, each: Definition | DeviceError) -> Put | DeviceError:
        """`put` it; what is impossible is given back."""
        if isinstance(each, DeviceError):
            return each
        try:
            return self.put(each.name, each.change, ANY)
        except DeviceError as error:
            return error

    def patch(self, name: Name, change: Change, expected: Expected) -> Device:
        """See `Registry.patch`."""
        found = self.get(name, expected)
        return self.replace(found, change.over(found, replace=False))

    def change_keys(self, name: Name, how: Callable[[SymmetricKeys], SymmetricKeys], expected: Expected) -> Device:
        """Put other keys in place of those that there are."""
        found = self.get(name, expected)
        its = found.credentials
        if its.keys is None:
            raise DeviceError(f"device {str(name)!r} has no symmetric keys")
        changed = msgspec.structs.replace(its, keys=how(its.keys))
        return self.replace(found, msgspec.structs.replace(found, credentials=changed))

    def find(self, name: Name) -> Device | None:
        """One of those that it is about."""
        return self._known.get(name)

    def get(self, name: Name, expected: Expected = ANY, suffix: str = "") -> Device:
        """One of those that it is about. `UnknownDeviceError`, and see `Expected.check`."""
        found = self._known.get(name)
        if found is None:
            raise UnknownDeviceError(f"there is no device {str(name)!r}")
        expected.check(name, found, suffix)
        return found

    def replace(self, found: Device, device: Device) -> Device:
        """Have `device` in place of what was found; if they are the same, nothing happens."""
        if device == found and same(device.tags, found.tags):  # which 1 and true are not
            return found
        device = msgspec.structs.replace(device, etag=_token(), updated=self.now)
        self._known[device.name] = device
        written = self._added if device.name in self._added else self._replaced
        written[device.name] = device
        self._note(What.UPDATED, device)
        if patch := difference(found.tags, device.tags):
            its = {"etag": device.etag, "patch": patch, **self.details}
            self.note(
                Happened(what=What.TAGS, name=device.name, generation=device.generation, time=self.now, details=its)
            )
        return device

    def note(self, happened: Happened) -> None:
        """Something more has happened."""
        self._happened.append(happened)

    def mark(self, what: Mapping[str, Any]) -> None:
        """Something has changed that is no device; the audit log says what."""
        self._marks.append(what)

    def tell(self, topic: str, event_type: str, data: Mapping[str, Any]) -> None:
        """Something has changed that has events of its own."""
        self._marks.append({})
        lifecycle.put_event(self.connection, topic, event_type, data)

    def delete(self, name: Name, expected: Expected) -> None:
        """See `Registry.delete`."""
        found = self.get(name, expected)
        modules = [] if name.module else self._store.modules(self.connection, name.device)
        for each in (*modules, found):
            self._deleted.append(each.name)
            self._note(What.DELETED, each)

    def finish(self) -> list[Happened]:
        """Write everything, and tell what it is."""
        self._store.insert(self.connection, list(self._added.values()))
        self._store.replace(self.connection, list(self._replaced.values()))
        for name in self._deleted:
            self._store.delete(self.connection, name)
        delete_sides(self.connection, self._deleted)
        for command in remove_all_commands(self.connection, self._deleted):
            its = {"command": command.id, "deliveries": command.deliveries, **self.details}
            happened = Happened(
                what=What.PURGED, name=command.name, generation=command.generation, time=self.now, details=its
            )
            self.note(happened)
        lifecycle.put(self.connection, self._happened)
        if isinstance(self.by, Actor) and self.by.action and (self._happened or self._marks):
            marks = {name: value for mark in self._marks for name, value in mark.items()}
            changes = len(self._happened) + len(self._marks)
            put_entry(self.connection, "done", self.now, self.by, {"changes": changes, **marks})
        return self._happened

    def blank(self, name: Name, credentials: Credentials = NO_CREDENTIALS) -> Device:
        """A new device of which nothing else is known."""
        return Device(
            name=name,
            generation=_token(),
            etag=_token(),
            credentials=credentials,
            created=self.now,
            updated=self.now,
        )

    def _note(self, what: What, device: Device) -> None:
        self.note(
            Happened(
                what=what,
                name=device.name,
                generation=device.generation,
                time=self.now,
                device=device,
                details=self.details,
            )
        )


def _token() -> str:
    return secrets.token_hex(_TOKEN_BYTES)
