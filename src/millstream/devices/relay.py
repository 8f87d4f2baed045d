"""The relay: takes life-cycle events from the outbox to the streams that capture them, each once, in order.

How far it has come stands in the log, and is committed together with the events; the outbox is emptied afterwards. So a
crash between the two repeats nothing, and loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

import msgspec
import pyarrow as pa

from millstream.clock import Clock
from millstream.devices import lifecycle
from millstream.devices.lifecycle import STREAMS, Happened
from millstream.devices.registry import Registry
from millstream.errors import (
    DiskFullError,
    FencedError,
    LogError,
    LogUnavailableError,
    RegistryError,
    RegistryUnavailableError,
    UnknownStreamError,
)
from millstream.event import to_columns
from millstream.log import Group, Log, Router, StreamSpec, hear

_log = logging.getLogger(__name__)

GROUP = "$registry"
_STATE = 0  # the partition number that a group without streams has
_REACHED = "outbox"
_AT_ONCE = 1_000  # events in a transaction
_RETRY_SECONDS = 1.0


class Relay:
    """Works from `start` to `close`. `publish` gives events to whoever subscribes at the moment."""

    def __init__(self, registry: Registry, log: Log, publish: Callable[[pa.RecordBatch], None], clock: Clock) -> None:
        self._registry = registry
        self._log = log
        self._publish = publish
        self._clock = clock
        self._group: Group | None = None
        self._router = Router([])
        self._reached = 0
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin with what is in the outbox."""
        self._log.watch_streams(self._use)
        self._use(await self._log.streams())
        self._group = await self._log.join(GROUP, [])  # without streams: its state is how far it has come
        gained: set[int] = set()
        while _STATE not in gained:
            gained.update((await self._group.poll(1)).gained)
        self._reached = self._restored(await self._group.state(_STATE))
        self._registry.watch(self._happened)
        self._filled.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def drain(self) -> None:
        """Return when the outbox is empty."""
        await self._idle.wait()

    async def close(self) -> None:
        """Take along what is in the outbox, and end. What cannot be taken stays there until the next start."""
        if self._task is None or self._group is None:
            return
        self._closing = True
        self._filled.set()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._group.leave()

    def _use(self, streams: Mapping[str, StreamSpec]) -> None:
        self._router = Router(streams.values())

    def _happened(self, those: Sequence[Happened]) -> None:
        self._idle.clear()
        self._filled.set()

    def _restored(self, state: Mapping[str, bytes]) -> int:
        """How far it has come in this registry; in another one, it begins."""
        if _REACHED not in state:
            return 0
        registry_id, number = msgspec.msgpack.decode(state[_REACHED], type=tuple[str, int])
        return number if registry_id == self._registry.id else 0

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            try:
                while await self._take_some():
                    pass
            except (DiskFullError, RegistryUnavailableError, UnknownStreamError) as error:
                _log.error("life-cycle events wait in the outbox: %s", error)
                if self._closing:
                    return
                await self._clock.sleep(_RETRY_SECONDS)
                self._filled.set()
                continue
            except FencedError as error:
                _log.error("life-cycle events wait in the outbox: %s", error)
                if self._closing:
                    return
                await self._regain()
                self._filled.set()
                continue
            except (LogError, RegistryError) as error:
                _log.critical("life-cycle events stay in the outbox until the next start: %s", error)
                return
            if self._closing:
                return
            if not self._filled.is_set():
                self._idle.set()

    async def _take_some(self) -> bool:
        """Take some events to the log, if there are any."""
        registry = self._registry
        found = await registry.database.read(
            lambda connection: lifecycle.waiting(connection, registry.id, self._reached, _AT_ONCE)
        )
        if found:
            await self._make_streams({event.topic.partition("/")[0] for _, event in found})
            reached = found[-1][0]
            events = to_columns(event for _, event in found)
            await self._commit(events, reached)
            self._reached = reached
            self._publish(events)
        await registry.database.write(lambda connection: lifecycle.take_out(connection, self._reached))
        return bool(found)

    async def _regain(self) -> None:
        """The membership has ended: brokers were away for longer than it lasts. Go on from where the log is, when the
        group has let the relay in again."""
        assert self._group is not None
        await hear(self._group)
        with suppress(LogUnavailableError):
            self._reached = self._restored(await self._group.state(_STATE))

    async def _make_streams(self, needed: Collection[str]) -> None:
        """Those of which something has happened; a server without devices has none."""
        missing = [spec for spec in STREAMS if spec.name in needed and spec.name not in self._router.streams]
        for spec in missing:
            await self._log.create(spec)
        if missing:
            self._use(await self._log.streams())

    async def _commit(self, events: pa.RecordBatch, reached: int) -> None:
        assert self._group is not None
        transaction = self._group.transaction()
        for append in self._router.split(events).appends:
            transaction.append(*append)
        transaction.save(_STATE, _REACHED, msgspec.msgpack.encode((self._registry.id, reached)))
        await transaction.commit()
