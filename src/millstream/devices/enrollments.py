"""The registry's enrollments: looking at them, and changing them, with the events about it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection

from millstream.actor import By
from millstream.clock import to_text
from millstream.devices.credentials import SymmetricKeys
from millstream.devices.device import Change, Status
from millstream.devices.enrollment import Enrollment, EnrollmentChange, Kind
from millstream.devices.enrollment_store import EnrollmentStore
from millstream.devices.lifecycle import ENROLLMENTS
from millstream.devices.name import Name, check_id
from millstream.devices.registry import Registry
from millstream.devices.work import ANY, Expected, Work
from millstream.errors import DeviceError, UnknownEnrollmentError

T = TypeVar("T")

MOST_GROUPS = 100  # as in Azure DPS: a token is tried with the keys of each
_AT_ONCE = 500  # devices that are disabled in a transaction


class EnrollmentPut(NamedTuple):
    """What became of `Enrollments.put`."""

    enrollment: Enrollment
    created: bool


class Enrollments:
    """Those of a registry."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.store = EnrollmentStore(registry.vault)
        self._groups: list[Enrollment] | None = None
        self._version = 0

    async def find(self, enrollment_id: str) -> Enrollment | None:
        """The one of that id, or None."""
        return await self.registry.database.read(lambda connection: self.store.find(connection, enrollment_id))

    async def get(self, enrollment_id: str) -> Enrollment:
        """The one of that id. `UnknownEnrollmentError` if there is none."""
        found = await self.find(enrollment_id)
        if found is None:
            raise _unknown(enrollment_id)
        return found

    async def page(self, after: str = "", limit: int = 100) -> list[Enrollment]:
        """At most `limit` behind one, by id."""
        return await self.registry.database.read(lambda connection: self.store.page(connection, after, limit))

    async def groups(self) -> list[Enrollment]:
        """All groups; kept at hand until any enrollment changes."""
        if self._groups is not None:
            return self._groups
        version = self._version
        found = await self.registry.database.read(self.store.groups)
        if version == self._version:  # nothing has changed meanwhile
            self._groups = found
        return found

    async def put(
        self, enrollment_id: str, change: EnrollmentChange, by: By = None, expected: Expected = ANY
    ) -> EnrollmentPut:
        """Make one, or replace what is said of it; its keys stay. `DeviceError`, `PreconditionError`."""
        check_id(enrollment_id, "enrollment")

        def write(work: Work) -> EnrollmentPut:
            found = self._expect(work.connection, enrollment_id, expected)
            before = found or self._new(work, enrollment_id, change)
            after = self._save(work, before, change.over(before, replace=True), new=found is None)
            return EnrollmentPut(after, found is None)

        return await self._write(by, write)

    async def patch(
        self, enrollment_id: str, change: EnrollmentChange, by: By = None, expected: Expected = ANY
    ) -> Enrollment:
        """Change what is said; tags and desired are merged. `UnknownEnrollmentError`, and as `put`."""
        return await self._write(
            by,
            lambda work: self._change(work, enrollment_id, expected, lambda found: change.over(found, replace=False)),
        )

    async def rotate_keys(self, enrollment_id: str, by: By = None, expected: Expected = ANY) -> Enrollment:
        """Make a new primary key; the one before is the secondary then. Devices get theirs when they register again."""
        rotated: Callable[[Enrollment], Enrollment] = lambda its: msgspec.structs.replace(  # noqa: E731
            its, keys=SymmetricKeys.rotated(its.keys)
        )
        return await self._write(by, lambda work: self._change(work, enrollment_id, expected, rotated))

    async def delete(self, enrollment_id: str, by: By = None, expected: Expected = ANY) -> None:
        """Delete one. Its devices stay. `UnknownEnrollmentError`, `PreconditionError`."""

        def write(work: Work) -> None:
            if self._expect(work.connection, enrollment_id, expected) is None:
                raise _unknown(enrollment_id)
            self.store.delete(work.connection, enrollment_id)
            self._tell(work, enrollment_id, "deleted")

        await self._write(by, write)

    async def disable_devices(self, enrollment_id: str, reason: str, by: By = None) -> int:
        """Disable all devices that have come in by an enrollment: their connections end at once. How many were."""
        count = 0
        its = enrollment_id.replace("'", "''")
        query = f"enrollment = '{its}' AND status = 'enabled'"
        change = Change(status=Status.DISABLED, status_reason=reason)
        while found := await self.registry.page(query, limit=_AT_ONCE):
            await self._disable([device.name for device in found], change, by)
            count += len(found)
        return count

    async def _disable(self, names: list[Name], change: Change, by: By) -> None:
        def write(work: Work) -> None:
            for name in names:
                work.patch(name, change, ANY)

        await self.registry.transact(names, by, write)

    async def _write(self, by: By, act: Callable[[Work], T]) -> T:
        try:
            return await self.registry.transact([], by, act)
        finally:
            self._groups = None
            self._version += 1

    def _change(
        self, work: Work, enrollment_id: str, expected: Expected, how: Callable[[Enrollment], Enrollment]
    ) -> Enrollment:
        found = self._expect(work.connection, enrollment_id, expected)
        if found is None:
            raise _unknown(enrollment_id)
        return self._save(work, found, how(found), new=False)

    def _expect(self, connection: Connection, enrollment_id: str, expected: Expected) -> Enrollment | None:
        found = self.store.find(connection, enrollment_id)
        expected.check_etag(f"enrollment {enrollment_id!r}", None if found is None else found.etag)
        return found

    def _new(self, work: Work, enrollment_id: str, change: EnrollmentChange) -> Enrollment:
        kind = Kind.GROUP if change.kind is UNSET else change.kind
        if kind is Kind.GROUP and self.store.count_groups(work.connection) >= MOST_GROUPS:
            raise DeviceError(f"there are {MOST_GROUPS} groups already, and can be no more; delete one first")
        return Enrollment(
            id=enrollment_id,
            kind=kind,
            etag="",
            keys=SymmetricKeys.generate(),
            created=work.now,
            updated=work.now,
        )

    def _save(self, work: Work, before: Enrollment, after: Enrollment, *, new: bool) -> Enrollment:
        if after == before and not new:
            return before
        after = msgspec.structs.replace(after, etag=secrets.token_hex(8), updated=work.now)
        self.store.save(work.connection, after, new=new)
        self._tell(work, after.id, "created" if new else "updated", after)
        return after

    def _tell(self, work: Work, enrollment_id: str, what: str, its: Enrollment | None = None) -> None:
        data = {"enrollment": enrollment_id, "time": to_text(work.now), **work.details}
        if its is not None:
            shown: Mapping[str, Any] = its.shown()
            data |= {
                name: shown[name] for name in ("kind", "status", "status_reason", "tags", "desired", "again", "etag")
            }
        work.tell(f"{ENROLLMENTS.name}/{enrollment_id}/{what}", f"millstream.enrollment.{what}", data)


def _unknown(enrollment_id: str) -> UnknownEnrollmentError:
    return UnknownEnrollmentError(f"there is no enrollment {enrollment_id!r}")
