"""Enrollments: how devices that nobody has registered yet come into the registry by themselves.

An *individual* enrollment is for one device, and its id is that device's registration id. A *group* is for any number:
each holds a key that is derived from the group's key and its own registration id, as in Azure DPS.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import msgspec
from msgspec import UNSET, UnsetType

from millstream.clock import Micros, to_text
from millstream.devices.authority import check_authority, has_signed
from millstream.devices.credentials import KeysGiven, SymmetricKeys, Thumbprints, ThumbprintsGiven
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


class EnrollmentShown(TypedDict):
    """An enrollment, without its keys."""

    id: str
    kind: Kind
    status: Status
    status_reason: str | None
    device: NotRequired[str]
    tags: Document
    desired: Document
    again: Again
    authority: NotRequired[str]
    thumbprints: NotRequired[Thumbprints]
    allocate: NotRequired[bool]
    created: str
    updated: str
    etag: str


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
    authority: str | None = None
    """Certificates in PEM: whose own certificate one of these has signed, for its registration id, may come in."""
    thumbprints: Thumbprints | None = None
    """Of an individual one: those of the device's certificates."""
    allocate: bool = False
    """Whether an application decides about each device; see `allocation`."""
    created: Micros
    updated: Micros

    def keys_of(self, registration_id: str) -> SymmetricKeys:
        """What a device of that registration id has, to register and to connect."""
        if self.kind is Kind.INDIVIDUAL:
            return self.keys
        its = self.keys
        return SymmetricKeys(derive_key(its.primary, registration_id), derive_key(its.secondary, registration_id))

    def with_patches(self, tags: Document, desired: Document) -> Enrollment:
        """With these merged into what a device begins with. `DeviceError`: a device may not have that."""
        merged: dict[str, Any] = {
            "tags": check_tags(merge(self.tags, tags)),
            "desired": check_document(merge(self.desired, desired), "desired", MAX_TWIN_BYTES),
        }
        return msgspec.structs.replace(self, **merged)

    def vouches_for(self, chain: Sequence[bytes], digests: Sequence[str], now: Micros) -> bool:
        """Whether a certificate (with its digests), which was checked by a chain, lets its holder in."""
        its = self.thumbprints
        if its is not None and any(each in (its.primary, its.secondary) for each in digests):
            return True
        return self.authority is not None and has_signed(self.authority, chain, now)

    @property
    def trust(self) -> str:
        """A digest of what it trusts beside its keys."""
        return hashlib.sha256(msgspec.json.encode((self.authority, self.thumbprints))).hexdigest()

    def device_of(self, registration_id: str) -> str:
        """The id of that device."""
        return self.device or registration_id

    def shown(self) -> EnrollmentShown:
        """For people and programs, as JSON, without its keys."""
        shown: EnrollmentShown = {
            "id": self.id,
            "kind": self.kind,
            "status": self.status,
            "status_reason": self.status_reason,
            "tags": self.tags,
            "desired": self.desired,
            "again": self.again,
            "created": to_text(self.created),
            "updated": to_text(self.updated),
            "etag": self.etag,
        }
        if self.device is not None:
            shown["device"] = self.device
        if self.authority is not None:
            shown["authority"] = self.authority
        if self.thumbprints is not None:
            shown["thumbprints"] = self.thumbprints
        if self.allocate:
            shown["allocate"] = True
        return shown


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
    authority: str | UnsetType | None = UNSET
    thumbprints: ThumbprintsGiven | UnsetType | None = UNSET
    allocate: bool | UnsetType = UNSET

    def over(self, before: Enrollment, *, replace: bool) -> Enrollment:
        """The enrollment after it. `replace`: what is not said is the default, but for keys and kind. `DeviceError` for
        what is impossible."""
        if self.kind is not UNSET and self.kind is not before.kind:
            raise DeviceError(f"enrollment {before.id!r} is {before.kind.value}, and stays that; make another one")
        if replace:
            default: dict[str, Any] = {"status": Status.ENABLED, "again": Again.KEEP, "allocate": False}
            default |= {"tags": {}, "desired": {}}
            default |= dict.fromkeys(("status_reason", "device", "authority", "thumbprints"))
            before = msgspec.structs.replace(before, **default)
        plain = ("status", "device", "again", "allocate")
        said: dict[str, Any] = {name: value for name in plain if (value := getattr(self, name)) is not UNSET}
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
        if self.authority is not UNSET:
            said["authority"] = None if self.authority is None else check_authority(self.authority)
        if self.thumbprints is not UNSET:
            said["thumbprints"] = None if self.thumbprints is None else self.thumbprints.thumbprints()
        after: Enrollment = msgspec.structs.replace(before, **said)
        if after.device is not None:
            check_id(after.device)
            if after.kind is Kind.GROUP:
                raise DeviceError("a group's devices have their registration ids; 'device' is for individual ones")
            if after.authority is not None or after.thumbprints is not None:
                raise DeviceError("a device with a certificate has the id that stands in it; leave 'device' out")
        if after.thumbprints is not None and after.kind is Kind.GROUP:
            raise DeviceError("a group's devices have certificates of their own; 'thumbprints' are for individual ones")
        return after
