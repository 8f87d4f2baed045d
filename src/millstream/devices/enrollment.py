"""Enrollments: how devices that nobody has registered yet come into the registry by themselves.

An *individual* enrollment is for one device, and its id is that device's registration id. A *group* is for any number:
each holds a key that is derived from the group's key and its own registration id, as in Azure DPS.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from millstream.clock import Micros, to_text
from millstream.devices.credentials import KeysGiven, SymmetricKeys
from millstream.devices.device import Status, check_reason
from millstream.devices.document import MAX_TWIN_BYTES, Document, check_document, check_tags, merge
from millstream.devices.name import check_id
from millstream.devices.token import derive_key
from millstream.errors import DeviceError


class Kind(enum.StrEnum):
    """For how many devices it is."""

    GROUP = "group"
    INDIVIDUAL = "individual"


class Again(enum.StrEnum):
    """What becomes of a device that registers again."""

    KEEP = "keep"  # it stays as it is
    RESET = "reset"  # tags and twin begin anew
    REFUSE = "refuse"


class Enrollment(msgspec.Struct, frozen=True, kw_only=True):
    """One of them. `device` is the device's id where an individual one says another than its own; `tags` and `desired`
    are what a device begins with."""

    id: str
    kind: Kind
    etag: str
    status: Status = Status.ENABLED
    status_reason: str | None = None
    keys: SymmetricKeys
    device: str | None = None
    tags: Document = {}
    desired: Document = {}
    again: Again = Again.KEEP
    created: Micros
    updated: Micros

    def keys_of(self, registration_id: str) -> SymmetricKeys:
        """What a device of that registration id has, to register and to connect."""
        if self.kind is Kind.INDIVIDUAL:
            return self.keys
        its = self.keys
        return SymmetricKeys(derive_key(its.primary, registration_id), derive_key(its.secondary, registration_id))

    def device_of(self, registration_id: str) -> str:
        """The id of that device."""
        return self.device or registration_id

    def shown(self) -> dict[str, Any]:
        """For people and programs, as JSON, without its keys."""
        return {
            "id": self.id,
            "kind": self.kind,
            "status": self.status,
            "status_reason": self.status_reason,
            **({} if self.device is None else {"device": self.device}),
            "tags": self.tags,
            "desired": self.desired,
            "again": self.again,
            "created": to_text(self.created),
            "updated": to_text(self.updated),
            "etag": self.etag,
        }


class EnrollmentChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What somebody says about an enrollment. What he leaves out stays as it is, or is by default for a new one."""

    kind: Kind | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    status_reason: str | UnsetType | None = UNSET
    keys: KeysGiven | UnsetType = UNSET
    device: str | UnsetType | None = UNSET
    tags: Document | UnsetType = UNSET
    desired: Document | UnsetType = UNSET
    again: Again | UnsetType = UNSET

    def over(self, before: Enrollment, *, replace: bool) -> Enrollment:
        """The enrollment after it. `replace`: what is not said is the default, but for keys and kind. `DeviceError` for
        what is impossible."""
        if self.kind is not UNSET and self.kind is not before.kind:
            raise DeviceError(f"enrollment {before.id!r} is {before.kind.value}, and stays that; make another one")
        if replace:
            default = {"status": Status.ENABLED, "status_reason": None, "device": None, "again": Again.KEEP}
            before = msgspec.structs.replace(before, **default, tags={}, desired={})
        said: dict[str, Any] = {
            name: value for name in ("status", "device", "again") if (value := getattr(self, name)) is not UNSET
        }
        if self.status is not UNSET:
            said["status_reason"] = None
        if self.status_reason is not UNSET:
            said["status_reason"] = check_reason(self.status_reason)
        if self.keys is not UNSET:
            said["keys"] = self.keys.over(before.keys)
        if self.tags is not UNSET:
            said["tags"] = check_tags(merge(before.tags, self.tags))
        if self.desired is not UNSET:
            said["desired"] = check_document(merge(before.desired, self.desired), "desired", MAX_TWIN_BYTES)
        after: Enrollment = msgspec.structs.replace(before, **said)
        if after.device is not None:
            check_id(after.device)
            if after.kind is Kind.GROUP:
                raise DeviceError("a group's devices have their registration ids; 'device' is for individual ones")
        return after
