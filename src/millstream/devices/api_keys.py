"""The registry's API keys: looking at them, and changing them, with the audit log's entries about it.

They are few, and every request of the HTTP API asks for one, so all of them are at hand in memory: one server uses a
registry at a time.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from millstream.actor import By, name_of
from millstream.devices.api_key import ApiKey, ApiKeyGiven, NewApiKey, Rotation, new_key, parse_key, rotated
from millstream.devices.registry import Registry
from millstream.devices.tables import api_keys, facts
from millstream.devices.work import Work
from millstream.errors import DeviceError, UnknownKeyError
from millstream.rights import Role

MOST_KEYS = 10_000
_BEGUN = "api_keys"  # the fact that there was a first key
_its = api_keys.c


class ApiKeys:
    """Those of a registry, from `start` on."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._keys: dict[str, ApiKey] = {}

    async def start(self, *, make_first: bool) -> NewApiKey | None:
        """Have them at hand. With `make_first`, in a registry that never had one there is an admin's afterwards, and
        this is it: nobody is told its secret again."""
        found = await self._registry.database.read(_all)
        self._keys = {key.id: key for key in found}
        if not make_first:
            return None

        def begin(work: Work) -> NewApiKey | None:
            if work.connection.execute(select(facts).where(facts.c.name == _BEGUN)).first() is not None:
                return None
            work.connection.execute(insert(facts), {"name": _BEGUN, "value": b"1"})
            given = ApiKeyGiven(role=Role.ADMIN, note="made at the first start")
            return _add(work, new_key(given, work.now, None))

        made = await self._registry.transact([], None, begin)
        if made is not None:
            self._keys[made.key.id] = made.key
        return made

    def find(self, text: str) -> ApiKey | None:
        """The key whose text this is, if it is good now."""
        parsed = parse_key(text)
        key = None if parsed is None else self._keys.get(parsed[0])
        if parsed is None or key is None or not key.fits(parsed[1], self._registry.clock.now()):
            return None
        return key

    def get(self, key_id: str) -> ApiKey:
        """The one of that id. `UnknownKeyError`."""
        found = self._keys.get(key_id)
        if found is None:
            raise UnknownKeyError(f"there is no API key {key_id!r}")
        return found

    def page(self, after: str = "", limit: int = 100) -> list[ApiKey]:
        """At most `limit` behind one, by id."""
        return [self._keys[each] for each in sorted(self._keys) if each > after][:limit]

    async def create(self, given: ApiKeyGiven, by: By = None) -> NewApiKey:
        """A new one. `DeviceError`: it is impossible."""
        if len(self._keys) >= MOST_KEYS:
            raise DeviceError(f"there are {MOST_KEYS} API keys already, and can be no more; revoke some")
        made = await self._registry.transact([], by, lambda work: _add(work, new_key(given, work.now, name_of(by))))
        self._keys[made.key.id] = made.key
        return made

    async def rotate(self, key_id: str, rotation: Rotation, by: By = None) -> NewApiKey:
        """Another secret for one. `UnknownKeyError`."""

        def write(work: Work) -> NewApiKey:
            made = rotated(_find(work.connection, key_id), rotation.keep_seconds, work.now)
            work.connection.execute(update(api_keys).where(_its.id == key_id).values(_row(made.key)))
            work.mark({"key": key_id})
            return made

        made = await self._registry.transact([], by, write)
        self._keys[key_id] = made.key
        return made

    async def revoke(self, key_id: str, by: By = None) -> None:
        """Take one away; no request that it is shown with gets in afterwards. `UnknownKeyError`."""

        def write(work: Work) -> None:
            found = _find(work.connection, key_id)
            work.connection.execute(delete(api_keys).where(_its.id == key_id))
            work.mark({"key": key_id, "role": found.role})

        await self._registry.transact([], by, write)
        self._keys.pop(key_id, None)


def _add(work: Work, made: NewApiKey) -> NewApiKey:
    work.connection.execute(insert(api_keys), _row(made.key))
    work.mark({"key": made.key.id, "role": made.key.role})
    return made


def _find(connection: Connection, key_id: str) -> ApiKey:
    row = connection.execute(select(api_keys).where(_its.id == key_id)).mappings().first()
    if row is None:
        raise UnknownKeyError(f"there is no API key {key_id!r}")
    return _key(row)


def _all(connection: Connection) -> list[ApiKey]:
    return [_key(row) for row in connection.execute(select(api_keys)).mappings()]


def _key(row: RowMapping) -> ApiKey:
    return ApiKey(**{**row, "role": Role(row["role"])})


def _row(key: ApiKey) -> dict[str, Any]:
    return {**{name: getattr(key, name) for name in key.__struct_fields__}, "role": key.role.value}
