"""Devices as rows, within a transaction of somebody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, bindparam, delete, insert, literal, select, tuple_, update

from millstream.clock import Micros
from millstream.devices.credentials import Credentials, SymmetricKeys, Thumbprints
from millstream.devices.device import Device, Status
from millstream.devices.name import Name
from millstream.devices.tables import CONNECTED, are_among, devices, twins
from millstream.devices.vault import Vault

_SLICE = 500  # names in a statement; SQLite takes 32,766 values, PostgreSQL 65,535

_its = devices.c
_OTHERS = ("device", "module", "connected", "connection_time", "last_activity")  # than what is said of a device
_NAMED = (_its.device == bindparam("d")) & (_its.module == bindparam("m"))
_FIND = select(devices).where(_NAMED)  # made once: it costs as much as asking, and every login asks
_OF_TWIN = (twins.c.device == _its.device) & (twins.c.module == _its.module)
_THAT = update(devices).where(_NAMED)


_REPLACING = _THAT.values({each.name: bindparam(f"new_{each.name}") for each in _its if each.name not in _OTHERS})


class Store:
    """Reads and writes devices, and seals what is secret."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def find(self, connection: Connection, name: Name) -> Device | None:
        """The device of that name."""
        row = connection.execute(_FIND, {"d": name.device, "m": name.module}).mappings().first()
        return None if row is None else self._device(row)

    def find_many(self, connection: Connection, names: Sequence[Name]) -> dict[Name, Device]:
        """Those that there are."""
        found: dict[Name, Device] = {}
        for start in range(0, len(names), _SLICE):
            some = names[start : start + _SLICE]
            rows = connection.execute(select(devices).where(are_among(devices, some))).mappings()
            found.update((device.name, device) for device in map(self._device, rows))
        return found

    def page(
        self, connection: Connection, condition: ColumnElement[bool] | None, after: Name, limit: int, modules: bool
    ) -> list[Device]:
        """Devices (and modules) for which the condition holds, by name, at most `limit` behind one."""
        behind = tuple_(_its.device, _its.module) > tuple_(literal(after.device), literal(after.module))
        query = select(devices).where(behind).order_by(_its.device, _its.module).limit(limit)
        if condition is not None:
            query = query.outerjoin(twins, _OF_TWIN).where(condition)
        if not modules:
            query = query.where(_its.module == "")
        return [self._device(row) for row in connection.execute(query).mappings()]

    def modules(self, connection: Connection, device: str) -> list[Device]:
        """The device's modules, by name."""
        query = select(devices).where(_its.device == device, _its.module != "").order_by(_its.module)
        return [self._device(row) for row in connection.execute(query).mappings()]

    def insert(self, connection: Connection, those: Sequence[Device]) -> None:
        """Add devices that are not there."""
        if those:
            connection.execute(insert(devices), [self._row(each) for each in those])

    def replace(self, connection: Connection, those: Sequence[Device]) -> None:
        """Write each over the one of its name, but for its presence."""
        if those:
            connection.execute(_REPLACING, [_bound(self._row(each)) for each in those])

    def delete(self, connection: Connection, name: Name) -> None:
        """Take one away."""
        connection.execute(delete(devices).where(_is(name)))

    # --- presence, which is written for many at a time

    def generations(self, connection: Connection, names: Sequence[Name]) -> dict[Name, str]:
        """Those of the devices that there are."""
        found: dict[Name, str] = {}
        for start in range(0, len(names), _SLICE):
            some = names[start : start + _SLICE]
            query = select(_its.device, _its.module, _its.generation).where(are_among(devices, some))
            found.update((Name(device, module), its) for device, module, its in connection.execute(query))
        return found

    def set_connected(self, connection: Connection, those: Sequence[tuple[Name, bool, Micros]]) -> None:
        """Who has come (True) or gone, and when, in this order."""
        rows = [{"d": name.device, "m": name.module, "is": there, "at": time} for name, there, time in those]
        if rows:
            at: Any = bindparam("at")
            change = _THAT.values(connected=bindparam("is"), connection_time=at, last_activity=at)
            connection.execute(change, rows)

    def set_activity(self, connection: Connection, those: Mapping[Name, Micros]) -> None:
        """When each was last heard of."""
        rows = [{"d": name.device, "m": name.module, "at": time} for name, time in those.items()]
        if rows:
            connection.execute(_THAT.values(last_activity=bindparam("at")), rows)

    def connected(self, connection: Connection, limit: int) -> dict[Name, str]:
        """Some who are down as connected, with their generations."""
        query = select(_its.device, _its.module, _its.generation).where(CONNECTED).limit(limit)
        return {Name(device, module): its for device, module, its in connection.execute(query)}

    def _device(self, row: RowMapping) -> Device:
        name = Name(row["device"], row["module"])
        prints = None if row["thumbprint"] is None else Thumbprints(row["thumbprint"], row["second_thumbprint"])
        return Device(
            name=name,
            generation=row["generation"],
            etag=row["etag"],
            status=Status(row["status"]),
            status_reason=row["status_reason"],
            tags=row["tags"],
            credentials=Credentials(
                keys=self._unseal(row["keys"], name, row["generation"]),
                password=row["password"],
                thumbprints=prints,
                authority=row["authority"],
            ),
            created=row["created"],
            updated=row["updated"],
            connected=row["connected"],
            connection_time=row["connection_time"],
            last_activity=row["last_activity"],
            enrollment=row["enrollment"],
        )

    def _row(self, device: Device) -> dict[str, Any]:
        its = device.credentials
        prints = its.thumbprints or Thumbprints("")
        return {
            "device": device.name.device,
            "module": device.name.module,
            "generation": device.generation,
            "etag": device.etag,
            "status": device.status.value,
            "status_reason": device.status_reason,
            "tags": device.tags,
            "keys": self._seal(its.keys, device),
            "password": its.password,
            "thumbprint": prints.primary or None,
            "second_thumbprint": prints.secondary,
            "authority": its.authority,
            "created": device.created,
            "updated": device.updated,
            "connected": device.connected,
            "connection_time": device.connection_time,
            "last_activity": device.last_activity,
            "enrollment": device.enrollment,
        }

    def _seal(self, keys: SymmetricKeys | None, device: Device) -> bytes | None:
        if keys is None:
            return None
        return self.vault.seal(msgspec.json.encode(keys), _place(device.name, device.generation))

    def _unseal(self, sealed: bytes | None, name: Name, generation: str) -> SymmetricKeys | None:
        if sealed is None:
            return None
        return msgspec.json.decode(self.vault.unseal(sealed, _place(name, generation)), type=SymmetricKeys)


def _bound(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row, as the parameters of `_REPLACING`."""
    given = {f"new_{column}": value for column, value in row.items() if column not in _OTHERS}
    return {**given, "d": row["device"], "m": row["module"]}


def _is(name: Name) -> ColumnElement[bool]:
    return (_its.device == name.device) & (_its.module == name.module)


def _place(name: Name, generation: str) -> str:
    return f"device {str(name)!r}, generation {generation}"
