"""A device's twin: what its operators want it to be (desired), and what it says that it is (reported).

Both are documents with a version, which counts their changes from 1. Desired is changed by operators and read by the
device, reported the other way round; the device does not see its tags.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

import msgspec
from msgspec import UNSET, UnsetType

from millstream.clock import Micros, to_text
from millstream.devices.device import Device
from millstream.devices.document import MAX_TWIN_BYTES, Document, check_document, merge, same
from millstream.devices.name import Name


class Side(msgspec.Struct, frozen=True):
    """Desired or reported. Version 0: nobody has said anything yet."""

    content: Document = {}
    version: int = 0
    updated: Micros | None = None

    def changed(self, what: str, said: Document, now: Micros, *, replace: bool = False) -> Side:
        """With a merge patch in it, or `said` in its place; itself where that is the same. `DeviceError`: a device may
        not have that."""
        content = check_document(merge({} if replace else self.content, said), what, MAX_TWIN_BYTES)
        return self if same(content, self.content) else Side(content, self.version + 1, now)


class SidesShown(TypedDict):
    """Both sides of a twin, as the device sees them."""

    desired: Document
    desired_version: int
    reported: Document
    reported_version: int


class TwinShown(SidesShown):
    """A twin, as operators see it."""

    id: str
    module: NotRequired[str]
    tags: Document
    desired_updated: str | None
    reported_updated: str | None
    connected: bool
    etag: str


class Sides(msgspec.Struct, frozen=True):
    """Both of a device."""

    desired: Side = Side()
    reported: Side = Side()

    def shown(self) -> SidesShown:
        """For the device, as JSON."""
        return {
            "desired": self.desired.content,
            "desired_version": self.desired.version,
            "reported": self.reported.content,
            "reported_version": self.reported.version,
        }


class Twin(msgspec.Struct, frozen=True):
    """Both, with the device that they belong to."""

    device: Device
    sides: Sides

    @property
    def etag(self) -> str:
        """This state of what operators say, tags and desired: what the device reports does not change it."""
        return f"{self.device.etag}-{self.sides.desired.version}"

    def shown(self) -> TwinShown:
        """For operators, as JSON."""
        its = self.device
        shown: TwinShown = {
            "id": its.name.device,
            "tags": its.tags,
            "desired": self.sides.desired.content,
            "desired_version": self.sides.desired.version,
            "reported": self.sides.reported.content,
            "reported_version": self.sides.reported.version,
            "desired_updated": _text(self.sides.desired.updated),
            "reported_updated": _text(self.sides.reported.updated),
            "connected": its.connected,
            "etag": self.etag,
        }
        if its.name.module:
            shown["module"] = its.name.module
        return shown


class TwinChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an operator says about a twin: merge patches, or what is to be in their place. What is left out stays."""

    tags: Document | UnsetType = UNSET
    desired: Document | UnsetType = UNSET


class Report(msgspec.Struct, frozen=True):
    """A merge patch of what a device reports."""

    name: Name
    patch: Document


def _text(instant: Micros | None) -> str | None:
    return None if instant is None else to_text(instant)
