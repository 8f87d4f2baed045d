"""Presence: which devices are connected, and when they were last heard of.

Connections tell what they see, and wait for nothing: it is gathered, and written together. What a server that died has
left as connected, the next one puts right before anybody comes in. A device with several connections is there as long
as one of them is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from millstream.clock import Clock, Micros
from millstream.devices.lifecycle import Happened, What
from millstream.devices.name import Name
from millstream.devices.registry import Registry
from millstream.errors import DiskFullError, RegistryUnavailableError

_log = logging.getLogger(__name__)

LOST = "server_lost"
"""Why a device is disconnected whose server did not live to see it."""

_ACTIVITY_SECONDS = 60.0  # that the last activity in the registry may be behind
_RETRY_SECONDS = 1.0
_AT_ONCE = 1_000  # devices that are put right in a transaction


class Presence:
    """Gathers, and writes from `start` to `close`."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._connections: Counter[Name] = Counter()
        self._happened: list[Happened] = []
        self._activity: dict[Name, Micros] = {}
        self._writing: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def connected(self) -> int:
        """Devices and modules that are there."""
        return len(self._connections)

    async def start(self) -> None:
        """Put right what a server that died has left."""
        while lost := await self._registry.connected(_AT_ONCE):
            now = self._clock.now()
            gone = [_happened(What.DISCONNECTED, *each, now, {"reason": LOST}) for each in lost.items()]
            await self._registry.note(gone, {})

    def came(self, name: Name, generation: str, details: Mapping[str, Any]) -> None:
        """A connection was made."""
        self._connections[name] += 1
        if self._connections[name] == 1:
            self._note(What.CONNECTED, name, generation, details)

    def gone(self, name: Name, generation: str, details: Mapping[str, Any]) -> None:
        """A connection has ended."""
        self._connections[name] -= 1
        if not self._connections[name]:
            del self._connections[name]
            self._activity.pop(name, None)
            self._note(What.DISCONNECTED, name, generation, details)

    def active(self, name: Name) -> None:
        """It was heard of just now."""
        self._activity[name] = self._clock.now()
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.get_running_loop().create_task(self._write_later())

    async def close(self) -> None:
        """Write what is left. What cannot be written now, the next start puts right."""
        self._closing = True
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)
        self._write_soon()
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)

    def _note(self, what: What, name: Name, generation: str, details: Mapping[str, Any]) -> None:
        self._happened.append(_happened(what, name, generation, self._clock.now(), details))
        self._write_soon()

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write_later(self) -> None:
        await self._clock.sleep(_ACTIVITY_SECONDS)
        self._write_soon()

    async def _write(self) -> None:
        """Write until there is nothing left: what comes during a commit is the next one's."""
        while self._happened or self._activity:
            happened, self._happened = self._happened, []
            activity, self._activity = self._activity, {}
            try:
                await self._registry.note(happened, activity)
            except (RegistryUnavailableError, DiskFullError) as error:
                _log.error("who is connected cannot be written, and is tried again: %s", error)
                self._happened = happened + self._happened
                self._activity = {**activity, **self._activity}
                if self._closing:
                    return
                await self._clock.sleep(_RETRY_SECONDS)


def _happened(what: What, name: Name, generation: str, time: Micros, details: Mapping[str, Any]) -> Happened:
    return Happened(what=what, name=name, generation=generation, time=time, details=details)
