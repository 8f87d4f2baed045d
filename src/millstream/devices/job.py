"""Jobs: the same done to all devices that a query selects, with the outcome of each."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated, Any, NotRequired, TypedDict, cast

import msgspec

from millstream.clock import Micros, to_text
from millstream.devices.command import LONGEST, SHORTEST, USUAL, check_payload
from millstream.devices.document import MAX_TWIN_BYTES, Document, check_document, check_tags, merge
from millstream.devices.name import Name, check_id
from millstream.devices.twin import TwinChange
from millstream.errors import DeviceError

MOST_CONCURRENCY, MOST_ATTEMPTS = 1_000, 20
MOST_SECONDS = 300.0


class JobStatus(enum.StrEnum):
    """How far a job is."""

    SCHEDULED = "scheduled"  # its devices are not chosen yet
    RUNNING = "running"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class JobOutcome(enum.StrEnum):
    """What became of a device in a job."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # the server died meanwhile: it may have happened, and is not done again


class MethodAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A direct method is called."""

    name: str
    payload: Any = None
    response_timeout: float = 30.0
    connect_timeout: float = 0.0

    def check(self) -> None:
        """Raise `DeviceError` if it cannot be."""
        check_id(self.name, "method")
        for seconds in (self.response_timeout, self.connect_timeout):
            if not 0 <= seconds <= MOST_SECONDS:
                raise DeviceError(f"a call waits for 0 to {MOST_SECONDS:g} seconds, and not for {seconds:g}")


class CommandAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command is queued."""

    payload: Any = None
    ttl: int = USUAL

    def check(self) -> None:
        """Raise `DeviceError` if it cannot be."""
        check_payload(msgspec.json.encode(self.payload))
        if not SHORTEST <= self.ttl <= LONGEST:
            raise DeviceError(f"a command lives for {SHORTEST} to {LONGEST} seconds, and not for {self.ttl}")


class JobGiven(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job as somebody wants it: one of the three actions on the devices (not modules) of a query."""

    query: str | None = None
    method: MethodAction | None = None
    twin: TwinChange | None = None
    command: CommandAction | None = None
    start: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """When its devices are chosen, and it runs; now by default."""
    concurrency: int = 50
    """Devices at a time."""
    attempts: int = 1
    """How often a device that is not there is called."""
    retry_seconds: float = 60.0
    """Between them."""

    def check(self) -> JobGiven:
        """Itself; `DeviceError` if it cannot be."""
        if sum(each is not None for each in (self.method, self.twin, self.command)) != 1:
            raise DeviceError("a job has one of method, twin and command")
        if not 1 <= self.concurrency <= MOST_CONCURRENCY or not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise DeviceError(f"a job has a concurrency up to {MOST_CONCURRENCY}, and up to {MOST_ATTEMPTS} attempts")
        if not 0 < self.retry_seconds <= 86_400:
            raise DeviceError("retry_seconds is up to a day (86,400)")
        if self.twin is not None:
            if not isinstance(self.twin.tags, msgspec.UnsetType):
                check_tags(_merged(self.twin.tags))
            if not isinstance(self.twin.desired, msgspec.UnsetType):
                check_document(_merged(self.twin.desired), "desired", MAX_TWIN_BYTES)
        for action in (self.method, self.command):
            if action is not None:
                action.check()
        return self


class JobShown(TypedDict):
    """A job, and how many of its devices have which outcome. Of method, twin and command it has one."""

    id: str
    status: JobStatus
    query: NotRequired[str]
    method: NotRequired[MethodAction]
    twin: NotRequired[TwinChange]
    command: NotRequired[CommandAction]
    start: NotRequired[str]
    concurrency: int
    attempts: int
    retry_seconds: float
    by: str | None
    created: str
    ended: str | None
    devices: int
    outcomes: dict[str, int]


class JobDeviceShown(TypedDict):
    """A device in a job."""

    device: str
    outcome: JobOutcome
    detail: str | None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One that there is. `counts` are of its devices, by outcome."""

    id: str
    given: JobGiven
    status: JobStatus
    by: str | None
    created: Micros
    ended: Micros | None = None
    counts: dict[str, int] = {}

    def shown(self) -> JobShown:
        """As JSON."""
        its = msgspec.to_builtins(self.given)
        shown = {
            "id": self.id,
            "status": self.status,
            **{name: value for name, value in its.items() if value is not None},
            "by": self.by,
            "created": to_text(self.created),
            "ended": None if self.ended is None else to_text(self.ended),
            "devices": sum(self.counts.values()),
            "outcomes": self.counts,
        }
        return cast(JobShown, shown)


class JobDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device in a job."""

    name: Name
    outcome: JobOutcome
    detail: str | None = None

    def shown(self) -> JobDeviceShown:
        """As JSON."""
        return {"device": str(self.name), "outcome": self.outcome, "detail": self.detail}


def _merged(patch: Document) -> Document:
    """What a patch makes of nothing: as far as it can be judged before it meets a device."""
    merged: Document = merge({}, patch)
    return merged
