"""Commits of nobody's: events and ticks that belong to no group."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

import pyarrow as pa

from millstream.clock import Clock, Micros
from millstream.errors import LogUnavailableError
from millstream.log.contract import Committed
from millstream.log.draft import Draft
from millstream.log.kafka.calls import to_its_end
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.directory import Directory
from millstream.log.kafka.names import Names
from millstream.log.kafka.producing import Job
from millstream.log.kafka.reader import Reader
from millstream.log.kafka.reading import Reading
from millstream.log.kafka.transactor import Transactor

Place = tuple[str, int]
"""A stream and a partition number."""


class Appending:
    """One commit at a time. `show` is given what a transaction shows."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        names: Names,
        directory: Directory,
        reading: Reading,
        reader: Reader,
        show: Callable[[pa.RecordBatch], None],
    ) -> None:
        self.transactor = Transactor(cluster, f"{cluster.prefix}millstream-{secrets.token_hex(8)}")
        self._clock = clock
        self._names = names
        self._directory = directory
        self._reading = reading
        self._reader = reader
        self._show = show
        self._last_time: Micros = 0
        self._one_at_a_time = asyncio.Lock()

    async def close(self) -> None:
        """Give the producer up."""
        await self.transactor.close()

    async def commit(self, draft: Draft) -> Committed:
        """A transaction of nobody's. Its counts are nobody's either. One that is cancelled goes on by itself."""
        return await to_its_end(self._commit(draft))

    async def _commit(self, draft: Draft) -> Committed:
        async with self._one_at_a_time:
            targets = await self.targets(draft)
            appends = [(*target, events) for target, (_, _, events) in zip(targets, draft.appends, strict=True)]
            job = Job(self.commit_time(), appends)
            if any(events.num_rows for _, _, events in appends):
                await self._submit(job)
            for events in draft.shown:
                self._show(events)
        return Committed(job.time, await self.first_offsets(job))

    async def first_offsets(self, job: Job) -> tuple[int, ...]:
        """What is committed: the first offset of each append; of one without events, that of what will come next."""
        for index, first in job.firsts.items():
            topic, number, events = job.appends[index]
            self._reader.written[topic, number] = first + int(events.num_rows)
        return tuple(
            [
                job.firsts[index] if index in job.firsts else (await self._reading.range(topic, number))[1]
                for index, (topic, number, _) in enumerate(job.appends)
            ]
        )

    async def targets(self, draft: Draft) -> list[tuple[str, int]]:
        """The topic and partition of each append. `UnknownStreamError`."""
        return [(await self._directory.topic(stream, partition), partition) for stream, partition, _ in draft.appends]

    async def append_ticks(self, places: Sequence[Place]) -> None:
        """Let the time be known in places, as far as they are still there."""
        async with self._one_at_a_time:
            there = self._directory.known
            ticks = [(self._names.topic(stream), number) for stream, number in places if stream in there]
            await self._submit(Job(self.commit_time(), ticks=ticks))

    async def _submit(self, job: Job) -> None:
        """Commit what belongs to no group: nothing tells later what has become of it."""
        unknown = await self.transactor.commit(job)
        if unknown is not None:
            raise LogUnavailableError(unknown)

    def commit_time(self) -> Micros:
        """Now, in the milliseconds of Kafka; never before what was told earlier."""
        self._last_time = max(self._last_time, self._clock.now() // 1000 * 1000)
        return self._last_time
