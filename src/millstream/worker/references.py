"""Reference data at work: read again and again, recorded in the log when it has changed, and read back from there.

Every worker looks at the source by itself, and asks the server for the registry; whoever finds new content first
records it as a version. What an event is joined with is the version that stood in the log when the event arrived, so
workers agree, and a replay finds the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from millstream.app import Reference
from millstream.app.references import ambiguity, lookups_of
from millstream.clock import SECOND, Micros
from millstream.engine import WindowPlan
from millstream.engine.keys import Ints
from millstream.engine.lookup import Lookup, Version
from millstream.errors import AppError, LogError, LogUnavailableError, ReferenceDataError, RegistryError
from millstream.event import Batch, to_columns
from millstream.log import Log
from millstream.log.contract import Commits
from millstream.reference import Content, Pieces, RegistrySource, Source, decode, encode, stream_of
from millstream.worker.context import Context
from millstream.worker.tasks import Signal, unless
from millstream.worker.threads import Threads
from millstream.worker.watch import Failure

logger = logging.getLogger("millstream.worker")

_CACHED = 4  # versions of a reference whose tables are in memory

_SETTLE: Micros = 5 * SECOND
"""Where the clocks of several brokers say when something was committed, a version counts so much later."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A version in the log: since when it counts, its digest, and where its events begin."""

    since: Micros
    digest: str
    offset: int


class History:
    """The versions of a reference in a log. Without any, what its source says now counts for everything."""

    def __init__(self, log: Log, name: str, source: Source | RegistrySource) -> None:
        self._log = log
        self._stream = stream_of(name)
        self._source = source
        self._settle = 0 if log.commits is Commits.DISK else _SETTLE
        self._recorded: list[_Recorded] = []
        self._pieces = Pieces()
        self._next = 0
        self._begun: dict[str, int] = {}
        self._versions: OrderedDict[int, Version] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def latest(self) -> str | None:
        """The digest of the latest version."""
        async with self._one_at_a_time:
            await self._read_on()
            return self._recorded[-1].digest if self._recorded else None

    async def columns(self) -> Sequence[str]:
        """Those of the latest version."""
        async with self._one_at_a_time:
            await self._read_on()
            return (await self._version(len(self._recorded) - 1)).table.column_names if self._recorded else []

    async def at(self, arrivals: Ints) -> Sequence[Version]:
        """The versions in force at some arrivals, in the order of time."""
        async with self._one_at_a_time:
            await self._read_on()
            if not self._recorded:
                return [await self._unrecorded()]
            since = np.array([recorded.since for recorded in self._recorded], np.int64)
            needed = np.unique(np.maximum(np.searchsorted(since, arrivals, "right") - 1, 0))
            return [await self._version(number) for number in needed.tolist()]

    async def _read_on(self) -> None:
        if not self._next and self._stream not in await self._log.streams():
            return
        while True:
            batch = await self._log.read(self._stream, 0, self._next)
            if batch.next_offset == self._next:
                return
            self._next = batch.next_offset
            for event, time in zip(batch, batch.times.tolist(), strict=True):
                whole = self._pieces.add(event)
                if whole is not None and not (self._recorded and self._recorded[-1].digest == whole[0]):
                    digest, events = whole  # two workers may have recorded the same at a time
                    self._keep(len(self._recorded), Version(time + self._settle, decode(events)))
                    self._recorded.append(_Recorded(time + self._settle, digest, events[0].offset))

    async def _version(self, number: int) -> Version:
        version = self._versions.get(number)
        if version is None:
            version = self._keep(number, await self._read_again(self._recorded[number]))
        self._versions.move_to_end(number)
        return version

    def _keep(self, number: int, version: Version) -> Version:
        self._versions[number] = version
        while len(self._versions) > _CACHED:
            self._versions.popitem(last=False)
        return version

    async def _read_again(self, recorded: _Recorded) -> Version:
        pieces, offset = Pieces(), recorded.offset
        while True:
            batch = await self._log.read(self._stream, 0, offset)
            if batch.next_offset == offset:
                raise ReferenceDataError(
                    f"a version of {self._stream} is gone from the log at offset {recorded.offset}"
                )
            offset = batch.next_offset
            for event in batch:
                whole = pieces.add(event)
                if whole is not None and whole[0] == recorded.digest:
                    return Version(recorded.since, decode(whole[1]))

    async def _unrecorded(self) -> Version:
        version = self._versions.get(-1)
        if version is None:
            if isinstance(self._source, RegistrySource):
                raise ReferenceDataError(
                    f"{self._stream} has no version of the registry yet; it has one when the application has run"
                )
            content = await asyncio.to_thread(self._source.read)
            version = self._keep(-1, Version(0, content.table))
        return version


Histories = Mapping[str, History]


def histories_of(log: Log, references: Mapping[str, Reference]) -> Histories:
    """The histories of an app's reference data, by name."""
    return {name: History(log, name, reference.source) for name, reference in references.items()}


async def versions_for(
    lookups: Sequence[Lookup], histories: Histories, batches: Sequence[Batch]
) -> Mapping[str, Sequence[Version]] | None:
    """What a processor needs to know before it steps; None: nothing."""
    if not lookups:
        return None
    times = [batch.times for batch in batches if len(batch)]
    if not times:
        return None
    arrivals = np.concatenate(times)
    return {lookup.reference: await histories[lookup.reference].at(arrivals) for lookup in lookups}


class ReferenceProcessor:
    """Keeps the reference data of a worker fresh."""

    name = "$references"

    def __init__(
        self, references: Collection[Reference], plans: Collection[WindowPlan], context: Context, histories: Histories
    ) -> None:
        self._references = references
        self._plans = plans
        self._context = context
        self._histories = histories
        self._threads = Threads(1, "millstream-references", context.under_way(self.name))
        self._seen: dict[str, int] = {}  # changes of the registry
        self._stopping = Signal()

    async def join(self) -> None:
        """Returns when every reference has a version. `AppError`: one cannot be read."""
        for reference in self._references:
            try:
                await self._refresh(reference)
            except (ReferenceDataError, RegistryError) as error:
                raise AppError(f"{reference.place}: reference {reference.name!r}: {error}") from None

    async def run(self) -> None:
        """Read again and again, until `stop`."""
        try:
            await asyncio.gather(*(self._keep_fresh(one) for one in self._references if one.refresh))
            await self._stopping.wait()
        finally:
            self._threads.close()

    def stop(self, drain_seconds: float) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def _keep_fresh(self, reference: Reference) -> None:
        pause = reference.refresh if isinstance(reference.source, Source) else 0.0  # the registry tells of its changes
        while not self._stopping.is_set:
            await unless(self._context.clock.sleep(pause), self._stopping)
            if not self._stopping.is_set:
                await unless(self._try(reference), self._stopping)
            pause = reference.refresh

    async def _try(self, reference: Reference) -> None:
        name = stream_of(reference.name)
        try:
            await self._refresh(reference)
        except LogUnavailableError as error:
            logger.debug("reference %s: %s", reference.name, error)  # the worker joins again
        except (ReferenceDataError, RegistryError, LogError) as error:
            then = "goes on with the version that it has, and is read again later"
            logger.warning("reference %s %s: %s", reference.name, then, error)
            self._context.measures.of(name).errors += 1
            self._context.watch.failed(Failure(name, reference.source.location, error, then))

    async def _refresh(self, reference: Reference) -> None:
        """Record what is there, if it is new. `ReferenceDataError`: it cannot be read or joined with."""
        content = await self._read(reference)
        if content.digest != await self._histories[reference.name].latest():
            transaction = self._context.log.transaction()
            transaction.append(stream_of(reference.name), 0, to_columns(encode(reference.name, content)))
            await transaction.commit()
            logger.info("reference %s has a new version of %d rows", reference.name, len(content.table))

    async def _read(self, reference: Reference) -> Content:
        """What is there; of the registry, when there is something new."""
        name, source = reference.name, reference.source
        if isinstance(source, Source):
            content = await self._threads.run(source.read)
        else:
            used = {column.of for _, lookup in lookups_of(self._plans, name) for column in lookup.columns}
            used.update(await self._histories[name].columns())  # which others who share the versions may use
            seen = self._seen.get(name, -1)
            self._seen[name], content = await source.read(self._context.resources.devices, used, seen)
        problem = await self._threads.run(ambiguity, content, lookups_of(self._plans, name))
        if problem is not None:
            raise ReferenceDataError(problem)
        return content
