"""Enrollments as rows, within a transaction of somebody's."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from millstream.devices.credentials import SymmetricKeys, Thumbprints
from millstream.devices.device import Status
from millstream.devices.enrollment import Again, Enrollment, Kind
from millstream.devices.tables import enrollments
from millstream.devices.vault import Vault

_its = enrollments.c


class EnrollmentStore:
    """Reads and writes them, and seals their keys."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def find(self, connection: Connection, enrollment_id: str) -> Enrollment | None:
        """The one of that id."""
        row = connection.execute(select(enrollments).where(_its.id == enrollment_id)).mappings().first()
        return None if row is None else self._enrollment(row)

    def page(self, connection: Connection, after: str, limit: int) -> list[Enrollment]:
        """At most `limit` behind one, by id."""
        query = select(enrollments).where(_its.id > after).order_by(_its.id).limit(limit)
        return [self._enrollment(row) for row in connection.execute(query).mappings()]

    def groups(self, connection: Connection) -> list[Enrollment]:
        """All groups."""
        query = select(enrollments).where(_its.kind == Kind.GROUP.value).order_by(_its.id)
        return [self._enrollment(row) for row in connection.execute(query).mappings()]

    def count_groups(self, connection: Connection) -> int:
        """How many there are."""
        query = select(func.count()).select_from(enrollments).where(_its.kind == Kind.GROUP.value)
        return int(connection.execute(query).scalar_one())

    def save(self, connection: Connection, enrollment: Enrollment, *, new: bool) -> None:
        """Add one, or write it over the one of its id."""
        row = self._row(enrollment)
        if new:
            connection.execute(insert(enrollments), row)
        else:
            connection.execute(update(enrollments).where(_its.id == enrollment.id).values(row))

    def delete(self, connection: Connection, enrollment_id: str) -> None:
        """Take one away."""
        connection.execute(delete(enrollments).where(_its.id == enrollment_id))

    def _enrollment(self, row: RowMapping) -> Enrollment:
        keys = self._vault.unseal(row["keys"], _place(row["id"]))
        prints = None if row["thumbprint"] is None else Thumbprints(row["thumbprint"], row["second_thumbprint"])
        return Enrollment(
            id=row["id"],
            kind=Kind(row["kind"]),
            etag=row["etag"],
            status=Status(row["status"]),
            status_reason=row["status_reason"],
            keys=msgspec.json.decode(keys, type=SymmetricKeys),
            device=row["device"],
            tags=row["tags"],
            desired=row["desired"],
            again=Again(row["again"]),
            created=row["created"],
            updated=row["updated"],
            authority=row["authority"],
            thumbprints=prints,
            allocate=row["allocate"],
        )

    def _row(self, its: Enrollment) -> dict[str, Any]:
        prints = its.thumbprints or Thumbprints("")
        return {
            "id": its.id,
            "kind": its.kind.value,
            "etag": its.etag,
            "status": its.status.value,
            "status_reason": its.status_reason,
            "keys": self._vault.seal(msgspec.json.encode(its.keys), _place(its.id)),
            "device": its.device,
            "tags": its.tags,
            "desired": its.desired,
            "again": its.again.value,
            "created": its.created,
            "updated": its.updated,
            "authority": its.authority,
            "allocate": its.allocate,
            "thumbprint": prints.primary or None,
            "second_thumbprint": prints.secondary,
        }


def _place(enrollment_id: str) -> str:
    return f"enrollment {enrollment_id!r}"
