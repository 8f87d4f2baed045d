"""What has happened to devices and their twins, as ordinary events of the streams `$devices` and `$twins`.

A change of the registry and the event about it are written in one transaction, the event into the *outbox*; from there
the *relay* takes it to the log. So one does not happen without the other, whenever the server dies.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select

from millstream.clock import Micros, to_text
from millstream.devices.device import Device
from millstream.devices.name import Name
from millstream.devices.tables import outbox
from millstream.devices.twin import Side
from millstream.event import Event
from millstream.log import StreamSpec

STREAM = StreamSpec("$devices", ("$devices/{device}/{what}",), key="device")
"""Where life-cycle events are, and their topics; a module's are its device's, so that they are in order."""

TWINS = StreamSpec("$twins", ("$twins/{device}/{what}",), key="device")
"""Where changes of twins are."""

COMMANDS = StreamSpec("$commands", ("$commands/{device}/{what}",), key="device")
"""Where it stands what devices were told to do, and what became of it."""

ENROLLMENTS = StreamSpec("$enrollments", ("$enrollments/{enrollment}/{what}",), key="enrollment")
"""Where changes of enrollments are."""

JOBS = StreamSpec("$jobs", ("$jobs/{job}/{what}",), key="job")
"""Where it stands which jobs were made, and how they ended."""

AUDIT = StreamSpec("$audit", ("$audit/{outcome}",), partitions=1)
"""Where it stands who changed what, and who was refused; see `audit`. All of it in one order."""

STREAMS = (STREAM, TWINS, COMMANDS, ENROLLMENTS, JOBS, AUDIT)


class What(enum.StrEnum):
    """What can happen."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    TAGS = "tags"
    DESIRED = "desired"
    REPORTED = "reported"
    METHOD = "method"
    QUEUED = "queued"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    EXPIRED = "expired"
    PURGED = "purged"

    @property
    def stream(self) -> StreamSpec:
        """Where its events are."""
        return TWINS if self in _OF_TWINS else COMMANDS if self in _OF_COMMANDS else STREAM

    @property
    def type(self) -> str:
        """The CloudEvents type of its events."""
        return f"millstream.{_KINDS[self.stream.name]}.{self.value}"


_OF_TWINS = frozenset((What.TAGS, What.DESIRED, What.REPORTED))
_OF_COMMANDS = frozenset((What.METHOD, What.QUEUED, What.DELIVERED, What.REJECTED, What.EXPIRED, What.PURGED))
_KINDS = {STREAM.name: "device", TWINS.name: "twin", COMMANDS.name: "command"}


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """One of them. `device` is as it is afterwards (as it was, if it is deleted), where more than its presence is
    meant, `side` where one of its twin has changed; `details` are further members of the event's JSON."""

    what: What
    name: Name
    generation: str
    time: Micros
    device: Device | None = None
    side: Side | None = None
    details: Mapping[str, Any] = {}

    def row(self) -> dict[str, Any]:
        """As the outbox has it."""
        topic = f"{self.what.stream.name}/{self.name.device}/{self.what}"
        return {"topic": topic, "type": self.what.type, "data": msgspec.json.encode(self._data())}

    def _data(self) -> dict[str, Any]:
        data: dict[str, Any] = {"device": self.name.device}
        if self.name.module:
            data["module"] = self.name.module
        data |= {"generation": self.generation, "time": to_text(self.time)}
        if self.device is not None and self.what is not What.DELETED:
            its = self.device
            data |= {"etag": its.etag, "status": its.status, "status_reason": its.status_reason, "tags": its.tags}
            data["credentials"] = its.credentials.kinds()
            if its.enrollment is not None:
                data["enrollment"] = its.enrollment
        return {**data, **self.details}


def put(connection: Connection, those: Iterable[Happened]) -> None:
    """Into the outbox, in this order."""
    rows = [each.row() for each in those]
    if rows:
        connection.execute(insert(outbox), rows)


def put_event(connection: Connection, topic: str, event_type: str, data: Mapping[str, Any]) -> None:
    """Something else that has happened, likewise."""
    connection.execute(insert(outbox), {"topic": topic, "type": event_type, "data": msgspec.json.encode(data)})


def waiting(connection: Connection, registry_id: str, after: int, limit: int) -> list[tuple[int, Event]]:
    """The next ones in the outbox, with their numbers."""
    query = select(outbox).where(outbox.c.number > after).order_by(outbox.c.number).limit(limit)
    return [(row.number, _event(row, registry_id)) for row in connection.execute(query)]


def take_out(connection: Connection, up_to: int) -> None:
    """They are in the log."""
    connection.execute(delete(outbox).where(outbox.c.number <= up_to))


def _event(row: Any, registry_id: str) -> Event:
    return Event(
        id=f"{registry_id}-{row.number}",
        topic=row.topic,
        type=row.type,
        payload=row.data,
        content_type="application/json",
    )
