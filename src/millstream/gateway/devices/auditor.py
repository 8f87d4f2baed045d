"""Who was refused, and who did what changes nothing in the registry: entries for the audit log, and counts.

Whoever is refused may come again ten thousand times a second, so entries are a sample: of each address some at once,
and then one now and then; how many were left out has an entry, and every refusal is counted. They are written once a
second, all together.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from typing import Any, NamedTuple

from sqlalchemy import Connection

from millstream.actor import Actor
from millstream.clock import Clock, Micros
from millstream.devices import Registry
from millstream.devices.audit import put_entry
from millstream.errors import DiskFullError, RegistryError

_log = logging.getLogger(__name__)

BURST = 20  # entries at once of an address
REFILL_SECONDS = 10.0  # then one in such a time
WRITE_SECONDS = 1.0
_MOST = 1_000  # entries that wait
_MOST_ADDRESSES = 10_000  # whose allowances are remembered
_MOST_CHARACTERS = 512  # of what somebody else has written


class _Entry(NamedTuple):
    outcome: str
    time: Micros
    by: Actor
    more: dict[str, Any]


class Auditor:
    """Takes entries until `close`."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._waiting: list[_Entry] = []
        self._omitted = 0
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # by address: how many, and when
        self._writing: asyncio.Task[None] | None = None
        self.refused: Counter[str] = Counter()
        """How many were, by the code of their error."""

    def refuse(self, by: Actor, code: str, reason: str) -> None:
        """Somebody was."""
        self.refused[code] += 1
        if not self._may_tell(by.address):
            self._omitted += 1
            self._write_soon()
            return
        self._add("refused", by, {"code": code, "reason": reason[:_MOST_CHARACTERS]})

    def tell(self, by: Actor) -> None:
        """Somebody has done what the registry has no change of."""
        self._add("done", by, {"changes": 0})

    async def close(self) -> None:
        """Write what is left."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._write()

    def _add(self, outcome: str, by: Actor, more: dict[str, Any]) -> None:
        if len(self._waiting) >= _MOST:
            self._omitted += 1
        else:
            name = None if by.name is None else by.name[:_MOST_CHARACTERS]
            shortened = by._replace(name=name, action=by.action[:_MOST_CHARACTERS])
            self._waiting.append(_Entry(outcome, self._clock.now(), shortened, more))
        self._write_soon()

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def _write_later(self) -> None:
        while self._waiting or self._omitted:
            await self._clock.sleep(WRITE_SECONDS)
            await self._write()

    async def _write(self) -> None:
        """All that wait; they go on waiting while the registry cannot be written."""
        entries, omitted = self._waiting[:], self._omitted
        if not entries and not omitted:
            return
        now = self._clock.now()

        def write(connection: Connection) -> None:
            for entry in entries:
                put_entry(connection, *entry)
            if omitted:
                put_entry(connection, "omitted", now, Actor(), {"count": omitted})

        try:
            await self._registry.write(write)
        except (RegistryError, DiskFullError) as error:
            _log.error("%d entries of the audit log wait: %s", len(entries), error)
            return
        del self._waiting[: len(entries)]
        self._omitted -= omitted

    def _may_tell(self, address: str) -> bool:
        now = self._clock.monotonic()
        left, at = self._left.get(address, (BURST, now))
        left = min(BURST, left + (now - at) / REFILL_SECONDS)
        may = left >= 1
        self._left[address] = (left - 1 if may else left, now)
        self._left.move_to_end(address)
        if len(self._left) > _MOST_ADDRESSES:
            self._left.popitem(last=False)
        return may
