"""Twins in the registry: looking at them, and what operators and devices change, with the events about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection

from millstream.actor import By
from millstream.devices.device import Device
from millstream.devices.document import check_tags, difference, merge
from millstream.devices.gathered import Gathered
from millstream.devices.lifecycle import Happened, What
from millstream.devices.name import Name
from millstream.devices.registry import Registry
from millstream.devices.twin import Report, Side, Sides, Twin, TwinChange
from millstream.devices.twin_store import find_many_sides, find_sides, save_sides
from millstream.devices.work import ANY, Expected, Work
from millstream.errors import DeviceError, UnknownDeviceError

_MOST_REPORTS = 10_000  # that wait, of at most 32 KiB each


class Twins:
    """Those of a registry's devices."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._reports: Gathered[Report, Sides] = Gathered(self.report_many, _MOST_REPORTS)

    async def get(self, name: Name) -> Twin:
        """A device's twin. `UnknownDeviceError` if there is no such device."""

        def read(connection: Connection) -> Twin | None:
            device = self._registry.store.find(connection, name)
            return None if device is None else Twin(device, find_sides(connection, name))

        found = await self._registry.database.read(read)
        if found is None:
            raise UnknownDeviceError(f"there is no device {str(name)!r}")
        return found

    async def change(
        self, name: Name, change: TwinChange, by: By = None, expected: Expected = ANY, *, replace: bool = False
    ) -> Twin:
        """Merge patches into tags and desired, or put what is said in their place (`replace`); null takes a member
        away. `DeviceError`: something impossible is said. `UnknownDeviceError`. `PreconditionError`: not as expected,
        by the twin's etag."""
        return await self._registry.transact([name], by, lambda work: _change(work, name, change, expected, replace))

    async def report(self, report: Report) -> Sides:
        """Merge what a device reports, together with what others report meanwhile. `DeviceError`,
        `UnknownDeviceError`. `OverloadError`: too many wait."""
        return await self._reports.do(report)

    async def report_many(self, those: Sequence[Report]) -> list[Sides | Exception]:
        """The same for many, in one transaction, in this order. What is impossible is told in its place."""
        names = list({each.name for each in those})
        return await self._registry.transact(names, None, lambda work: _report(work, names, those))


def _change(work: Work, name: Name, change: TwinChange, expected: Expected, replace: bool) -> Twin:
    sides = find_sides(work.connection, name)
    found = work.get(name, expected, suffix=f"-{sides.desired.version}")
    device = found
    if change.tags is not UNSET:
        tags = check_tags(merge({} if replace else found.tags, change.tags))
        device = work.replace(found, msgspec.structs.replace(found, tags=tags))
    if change.desired is UNSET:
        return Twin(device, sides)
    desired = sides.desired.changed("desired", change.desired, work.now, replace=replace)
    if desired is sides.desired:
        return Twin(device, sides)
    after = Sides(desired, sides.reported)
    known = {name: sides} if sides != Sides() else {}
    save_sides(work.connection, {name: after}, known)
    work.note(_happened(What.DESIRED, work, name, found.generation, sides.desired, desired))
    return Twin(device, after)


def save_twin(work: Work, device: Device, wanted: Sides) -> None:
    """Have a device's twin begin anew with this, with versions that go on."""
    before = find_sides(work.connection, device.name)
    desired = before.desired.changed("desired", wanted.desired.content, work.now, replace=True)
    reported = before.reported.changed("reported", wanted.reported.content, work.now, replace=True)
    after = Sides(desired, reported)
    if after == before:
        return
    save_sides(work.connection, {device.name: after}, {device.name: before} if before != Sides() else {})
    for what, old, new in ((What.DESIRED, before.desired, desired), (What.REPORTED, before.reported, reported)):
        if new is not old:
            work.note(_happened(what, work, device.name, device.generation, old, new))


def _report(work: Work, names: Sequence[Name], those: Sequence[Report]) -> list[Sides | Exception]:
    known = find_many_sides(work.connection, names)
    after: dict[Name, Sides] = {}
    outcomes: list[Sides | Exception] = []
    for each in those:
        sides = after.get(each.name) or known.get(each.name) or Sides()
        try:
            device = work.get(each.name)
            reported = sides.reported.changed("reported", each.patch, work.now)
        except DeviceError as error:
            outcomes.append(error)
            continue
        if reported is not sides.reported:
            after[each.name] = Sides(sides.desired, reported)
            work.note(_happened(What.REPORTED, work, each.name, device.generation, sides.reported, reported))
        outcomes.append(after.get(each.name, sides))
    save_sides(work.connection, after, known)
    return outcomes


def _happened(what: What, work: Work, name: Name, generation: str, before: Side, after: Side) -> Happened:
    details: dict[str, Any] = {"version": after.version, "patch": difference(before.content, after.content)}
    return Happened(
        what=what,
        name=name,
        generation=generation,
        time=work.now,
        side=after,
        details={**details, **work.details},
    )
