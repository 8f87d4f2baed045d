"""A device, or a module of one: the same but for its name, so one type is both."""

from __future__ import annotations

import enum
from typing import Any, NotRequired, TypedDict

import msgspec
from msgspec import UNSET, UnsetType

from millstream.clock import Micros, to_text
from millstream.devices.credentials import Credentials, CredentialsGiven, CredentialsShown
from millstream.devices.document import Tags, check_tags, merge
from millstream.devices.name import Name
from millstream.errors import DeviceError

_REASON_CHARACTERS = 128


class Status(enum.StrEnum):
    """Whether it may connect."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class DeviceShown(TypedDict):
    """A device, or a module."""

    id: str
    module: NotRequired[str]
    status: Status
    status_reason: str | None
    tags: Tags
    credentials: CredentialsShown
    enrollment: str | None
    connected: bool
    connection_time: str | None
    last_activity: str | None
    created: str
    updated: str
    generation: str
    etag: str


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry knows of one. `generation` tells it from another one of its name that was deleted, `etag` this
    state of it from all before; whether it is connected changes neither."""

    name: Name
    generation: str
    etag: str
    status: Status = Status.ENABLED
    status_reason: str | None = None
    tags: Tags = {}
    credentials: Credentials
    created: Micros
    updated: Micros
    connected: bool = False
    connection_time: Micros | None = None
    """When it last came or went."""
    last_activity: Micros | None = None
    enrollment: str | None = None
    """By which it has come into the registry, if it has done so by itself."""

    def shown(self, *, secrets: bool = False) -> DeviceShown:
        """For people and programs, as JSON; of its secrets it tells only that they are there. With `secrets` they are
        as `CredentialsGiven` takes them."""
        its = self.credentials
        hidden: CredentialsShown = {
            "keys": its.keys is not None,
            "password": its.password is not None,
            "thumbprints": its.thumbprints,
            "authority": its.authority,
        }
        shown: DeviceShown = {
            "id": self.name.device,
            "status": self.status,
            "status_reason": self.status_reason,
            "tags": self.tags,
            "credentials": its.given() if secrets else hidden,
            "enrollment": self.enrollment,
            "connected": self.connected,
            "connection_time": _text(self.connection_time),
            "last_activity": _text(self.last_activity),
            "created": to_text(self.created),
            "updated": to_text(self.updated),
            "generation": self.generation,
            "etag": self.etag,
        }
        if self.name.module:
            shown["module"] = self.name.module
        return shown


class Change(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What somebody says about a device. What he leaves out stays as it is, or is by default for a new one."""

    status: Status | UnsetType = UNSET
    status_reason: str | UnsetType | None = UNSET
    tags: Tags | UnsetType = UNSET
    credentials: CredentialsGiven | UnsetType = UNSET

    @property
    def has_password(self) -> bool:
        """Whether there is one to hash."""
        return self.credentials is not UNSET and bool(self.credentials.password)

    def hashed(self) -> Change:
        """The same with a hash in place of a password; see `CredentialsGiven.hashed`."""
        if self.credentials is UNSET:
            return self
        return msgspec.structs.replace(self, credentials=self.credentials.hashed())

    def over(self, before: Device, *, replace: bool) -> Device:
        """The device after it. `replace`: the tags are these, and not those before with these merged in; status and
        reason that are not said are the default. `DeviceError` for what is impossible."""
        tags = {} if self.tags is UNSET else self.tags
        changed: dict[str, Any] = {"tags": check_tags(merge({} if replace else before.tags, tags))}
        if replace or self.status is not UNSET:
            changed["status"] = Status.ENABLED if self.status is UNSET else self.status
            changed["status_reason"] = None
        if self.status_reason is not UNSET:
            changed["status_reason"] = check_reason(self.status_reason)
        if self.credentials is not UNSET:
            changed["credentials"] = self.credentials.over(before.credentials)
        return msgspec.structs.replace(before, **changed)


def check_reason(text: str | None) -> str | None:
    """A status's reason, if it can be one; else a `DeviceError`."""
    if text is not None and (len(text) > _REASON_CHARACTERS or "\0" in text):
        raise DeviceError(f"a status reason has at most {_REASON_CHARACTERS} characters")
    return text or None


def _text(instant: Micros | None) -> str | None:
    return None if instant is None else to_text(instant)
