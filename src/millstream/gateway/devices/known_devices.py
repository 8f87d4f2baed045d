"""Devices that have come in lately, at hand: by HTTP each request of a device asks for it, and so does each login.

One server uses a registry at a time and is told of every change when that is committed, before whoever made it. So what
is at hand is what the registry has, and what has changed is asked for again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from millstream.devices import Device, Happened, Name, Registry

_MOST = 10_000


class KnownDevices:
    """Those of a registry. Their tags are left out: they may be large, and say nothing about who comes in."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: OrderedDict[Name, Device] = OrderedDict()
        self._changes = 0
        registry.watch(self._changed)

    async def find(self, name: Name) -> Device | None:
        """See `Registry.find`; whether it is connected may be out of date."""
        known = self._known.get(name)
        if known is not None:
            self._known.move_to_end(name)
            return known
        changes = self._changes
        found = await self._registry.find(name)
        if found is not None and changes == self._changes:  # else it may have been read before a change
            self._known[name] = found = msgspec.structs.replace(found, tags={})
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found

    def _changed(self, happened: Sequence[Happened]) -> None:
        for each in happened:
            if each.device is not None:
                self._changes += 1
                self._known.pop(each.name, None)
