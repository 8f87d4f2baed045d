"""The log on Apache Kafka, or any server of its protocol."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import pyarrow as pa
from confluent_kafka import Message, TopicPartition

from millstream.clock import Clock, Micros
from millstream.errors import LogClosedError, LogError, LogUnavailableError, UnknownStreamError
from millstream.event import Batch
from millstream.log.contract import LATEST, Accounts, Bounds, Commits, Committed, GroupStatus, Start, StreamSpec
from millstream.log.draft import Draft
from millstream.log.kafka.accounts import View, read_accounts, read_groups
from millstream.log.kafka.admin import Admin
from millstream.log.kafka.arrivals import Arrivals
from millstream.log.kafka.calls import Calls
from millstream.log.kafka.catalog import Catalog, Stream
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.fetcher import Place
from millstream.log.kafka.member import Member
from millstream.log.kafka.names import Names
from millstream.log.kafka.offsets import visible
from millstream.log.kafka.positions import Numbered, first_offsets, needs_chunks, read_number
from millstream.log.kafka.reader import Reader
from millstream.log.kafka.record import decode
from millstream.log.kafka.streams import Streams
from millstream.log.kafka.ticker import Ticker
from millstream.log.kafka.transactor import Job, Transactor
from millstream.log.records import NO_EVENTS
from millstream.topic import Filter

T = TypeVar("T")

_log = logging.getLogger(__name__)


class KafkaLog:
    """See `millstream.log.contract.Log`. Made by `open`; every process has its own."""

    commits = Commits.REPLICAS

    def __init__(
        self, cluster: Cluster, clock: Clock, admin: Admin, reader: Reader, calls: tuple[Calls, Calls]
    ) -> None:
        self.clock = clock
        self.names = Names(cluster.prefix)
        self._cluster = cluster
        self._admin = admin
        self._reader = reader
        self._admin_calls, self._reader_calls = calls
        self.show: Callable[[pa.RecordBatch], None] = lambda events: None
        self._seen: Mapping[str, Stream] = {}
        self._catalog = Catalog(cluster, self.names.catalog, self._streams_changed)
        self._streams = Streams(cluster, self.names, admin)
        self._arrivals = Arrivals(cluster)
        self._ticker = Ticker(clock, self._append_ticks)
        self._transactor = Transactor(cluster, f"{cluster.prefix}millstream-{secrets.token_hex(8)}")
        self._watchers: list[Callable[[Mapping[str, StreamSpec]], None]] = []
        self._members: list[Member] = []
        self._last_time: Micros = 0
        self._gaps: dict[tuple[str, int, int, int], int] = {}
        self._one_at_a_time = asyncio.Lock()
        self.waiting: str | None = None  # why commits wait for the brokers, if they do
        self._closed = False

    @classmethod
    async def open(cls, cluster: Cluster, clock: Clock) -> KafkaLog:
        """Connect, and learn which streams there are. `LogUnavailableError`: the brokers do not answer."""
        calls = Calls("kafka-admin"), Calls("kafka-reader")
        try:
            admin = await calls[0].run(Admin, cluster)
            await calls[0].run(admin.check)
            await calls[0].run(Streams.make_catalog, admin, Names(cluster.prefix))
            reader = await calls[1].run(Reader, cluster)
        except BaseException:
            for one in calls:
                await one.close()
            raise
        log = cls(cluster, clock, admin, reader, calls)
        await log._sync()
        return log

    async def close(self) -> None:
        """Leave all groups and close. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._ticker.close()
        await asyncio.gather(*(member.close() for member in list(self._members)))
        await self._transactor.close()
        await self._arrivals.close()
        await self._catalog.close()
        await self._reader_calls.close(self._reader.close)
        await self._admin_calls.close(self._streams.close)

    def on_show(self, show: Callable[[pa.RecordBatch], None]) -> None:
        """Who is given, in the event loop, what transactions of this process show (see `Transaction.show`)."""
        self.show = show

    # --- streams

    @property
    def known_streams(self) -> Mapping[str, Stream]:
        """The streams, as far as this process was told."""
        return self._catalog.streams

    async def create(self, spec: StreamSpec) -> None:
        await self._sync()
        end = await self._admin_calls.run(self._streams.create, spec, dict(self._catalog.streams))
        if end is not None:
            await self._catalog.reach(end)

    async def drop(self, name: str) -> None:
        await self._sync()
        self._catalog.stream(name)  # raises if there is none
        end = await self._admin_calls.run(self._streams.drop, name)
        await self._catalog.reach(end)

    async def streams(self) -> Mapping[str, StreamSpec]:
        await self._sync()
        return self._catalog.specs

    def watch_streams(self, changed: Callable[[Mapping[str, StreamSpec]], None]) -> None:
        self._watchers.append(changed)
        asyncio.get_running_loop().call_soon(changed, self._catalog.specs)

    async def stream(self, name: str) -> Stream:
        """A stream as it is now. `UnknownStreamError`."""
        if name not in self._catalog.streams:
            await self._sync()
        return self._catalog.stream(name)

    async def _sync(self) -> None:
        """Return when all changes of the streams until now are known."""
        self._check()
        _, end = await self._reader_calls.run(self._reader.range, self.names.catalog, 0)
        await self._catalog.reach(end)

    def _streams_changed(self) -> None:
        specs = self._catalog.specs
        kept = {
            self.names.topic(name) for name, stream in self._catalog.streams.items() if stream == self._seen.get(name)
        }
        for place in [place for place in self._reader.written if place[0] not in kept]:
            del self._reader.written[place]
        self._seen = self._catalog.streams
        for changed in self._watchers:
            changed(specs)
        for member in self._members:
            member.streams_changed()
        self._arrivals.wake_all()

    # --- records

    async def read(
        self, stream: str, partition: int, offset: int, *, limit_bytes: int = 1 << 20, wait: float | None = 0.0
    ) -> Batch:
        deadline = None if wait is None else self.clock.monotonic() + wait
        while True:
            topic = await self._topic(stream, partition)
            messages, next_offset = await self._read(topic, stream, partition, offset, limit_bytes)
            records = decode(stream, messages) if messages else None
            if records is not None and (len(records) or len(records.tick_offsets)):
                return Batch(stream, partition, records.events, next_offset, records.ticks)
            left = None if deadline is None else deadline - self.clock.monotonic()
            if next_offset > offset or (left is not None and left <= 0):
                return Batch(stream, partition, NO_EVENTS, next_offset)
            await self._beyond((topic, partition), offset, left)

    async def bounds(self, stream: str, partition: int) -> Bounds:
        topic = await self._topic(stream, partition)
        return await self._reader_calls.run(self._reader.bounds, topic, partition)

    async def offset_at(self, stream: str, partition: int, time: Micros) -> int:
        topic = await self._topic(stream, partition)
        return await self._reader_calls.run(self._reader.offset_at, topic, partition, time)

    async def _read(
        self, topic: str, stream: str, partition: int, offset: int, limit_bytes: int
    ) -> tuple[list[Message], int]:
        try:
            return await self._reader_calls.run(self._reader.read, topic, partition, offset, limit_bytes)
        except UnknownStreamError:  # dropped by another process a moment ago
            await self._sync()
            self._catalog.stream(stream)
            raise

    async def _topic(self, stream: str, partition: int) -> str:
        self._check()
        found = await self.stream(stream)
        if not 0 <= partition < found.spec.partitions:
            raise LogError(
                f"stream {stream!r} has the partitions 0 to {found.spec.partitions - 1}; there is no {partition}"
            )
        return self.names.topic(stream)

    async def _beyond(self, place: tuple[str, int], offset: int, timeout: float | None) -> None:
        """Wait until there may be a record at an offset or after it."""
        woken = self._arrivals.watch(place, offset)
        timer = None if timeout is None else asyncio.ensure_future(self.clock.sleep(timeout))
        try:
            await asyncio.wait([woken] if timer is None else [woken, timer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            if timer is not None:
                timer.cancel()
        self._check()

    # --- transactions

    def transaction(self) -> Draft:
        return Draft(self._commit)

    async def _commit(self, draft: Draft) -> Committed:
        """A transaction of nobody's. Its counts are nobody's either. One that is cancelled goes on by itself."""
        return await asyncio.shield(asyncio.ensure_future(self._commit_now(draft)))

    async def _commit_now(self, draft: Draft) -> Committed:
        async with self._one_at_a_time:
            targets = await self.targets(draft)
            appends = [(*target, events) for target, (_, _, events) in zip(targets, draft.appends, strict=True)]
            job = Job(self.commit_time(), appends)
            if any(events.num_rows for _, _, events in appends):
                await self._submit(job)
            for events in draft.shown:
                self.show(events)
        return Committed(job.time, await self.first_offsets(job))

    async def first_offsets(self, job: Job) -> tuple[int, ...]:
        """What is committed: the first offset of each append; of one without events, that of what will come next."""
        for index, first in job.firsts.items():
            topic, number, events = job.appends[index]
            self._reader.written[topic, number] = first + int(events.num_rows)
        return tuple(
            [
                job.firsts[index] if index in job.firsts else await self._end_of(topic, number)
                for index, (topic, number, _) in enumerate(job.appends)
            ]
        )

    async def targets(self, draft: Draft) -> list[tuple[str, int]]:
        """The topic and partition of each append. `UnknownStreamError`."""
        return [(await self._topic(stream, partition), partition) for stream, partition, _ in draft.appends]

    async def _append_ticks(self, places: list[Place]) -> None:
        async with self._one_at_a_time:
            ticks = [(self.names.topic(stream), number) for stream, number in places if stream in self._catalog.streams]
            await self._submit(Job(self.commit_time(), ticks=ticks))

    async def _submit(self, job: Job) -> None:
        """Commit what belongs to no group: nothing tells later what has become of it."""
        unknown = await self._transactor.commit(job)
        if unknown is not None:
            raise LogUnavailableError(unknown)

    def commit_time(self) -> Micros:
        """Now, in the milliseconds of Kafka; never before what was told earlier."""
        self._last_time = max(self._last_time, self.clock.now() // 1000 * 1000)
        return self._last_time

    # --- groups

    async def join(
        self, group: str, streams: Sequence[str], *, start: Start = LATEST, topics: Filter | None = None
    ) -> Member:
        """See the contract. A topic of Kafka is read as a whole, whatever `topics` wants."""
        if not group:
            raise LogError("a group needs a name")
        found = [await self.stream(name) for name in streams]
        count = max((stream.spec.partitions for stream in found), default=1)
        await self._admin_calls.run(self._streams.make_state, group, count)
        missing = await self._admin_calls.run(first_offsets, self._admin, self.names, found, group, start)
        given = await self._admin_calls.run(self._alter, group, missing)
        member = self._make_member(group, streams)
        await member.joined()
        if not given:
            await member.give_positions(missing)
        return member

    def _alter(self, group: str, missing: list[TopicPartition]) -> bool:
        return not missing or self._admin.alter_offsets(self.names.group(group), missing)

    def _make_member(self, group: str, streams: Sequence[str]) -> Member:
        member = Member(group, streams, self, self._cluster)
        self._members.append(member)
        return member

    def wait(self, reason: str | None) -> None:
        """Commits wait for the brokers; None: they do no longer."""
        if (reason is None) != (self.waiting is None):
            _log.warning("the brokers answer again" if reason is None else f"commits wait: {reason}")
        self.waiting = reason

    async def end(self, place: Place) -> int:
        """The offset after everything that is committed."""
        return await self._end_of(self.names.topic(place[0]), place[1])

    async def _end_of(self, topic: str, number: int) -> int:
        _, end = await self._reader_calls.run(self._reader.range, topic, number)
        return end

    async def numbered(self, group: str, number: int) -> Numbered:
        """What is committed for a partition number, when no open transaction is about to change it."""
        state, streams = self.names.state(group), self._catalog.streams
        topics = [self.names.topic(name) for name, stream in streams.items() if number < stream.spec.partitions]
        places = [(topic, number) for topic in (*topics, state)]
        offsets = await self._admin_calls.run(self._admin.offsets, self.names.group(group), places)
        chunks = await self.chunks(group, number) if needs_chunks(offsets, topics, state, number) else {}
        return read_number(offsets, streams, self.names, state, number, chunks)

    async def first_offset(self, stream: str, number: int) -> int:
        """The lowest offset that is left of a partition."""
        low, _ = await self._reader_calls.run(self._reader.range, self.names.topic(stream), number)
        return low

    async def chunks(self, group: str, number: int) -> dict[str, bytes]:
        """The state chunks of a partition number, hidden ones too."""
        return await self._reader_calls.run(self._read_chunks, self._reader, group, number)

    def _read_chunks(self, reader: Reader, group: str, number: int) -> dict[str, bytes]:
        topic = self.names.state(group)
        # The end is also that of transactions that have no outcome yet: they are waited for.
        ends = self._admin.ends([(topic, number)], committed=False)
        chunks: dict[str, bytes] = {}
        if (topic, number) not in ends:  # no such group
            return chunks
        for message in reader.everything(topic, number, ends[topic, number]):
            name, chunk = (message.key() or b"").decode(), message.value()
            if chunk is None:
                chunks.pop(name, None)
            else:
                chunks[name] = chunk
        return chunks

    def tick_read(self, member: Member, place: Place, time: Micros) -> None:
        """A member has read a tick."""
        self._ticker.heard(member, place, time)

    def tick_wanted(self, member: Member, place: Place, at: Micros | None) -> None:
        """A member wants a tick, or none any more."""
        self._ticker.ask(member, place, at)

    def forget(self, member: Member) -> None:
        """A member has left."""
        self._ticker.forget(member)
        if member in self._members:
            self._members.remove(member)

    async def state(self, group: str, partition: int) -> Mapping[str, bytes]:
        return visible(await self.chunks(group, partition))

    async def groups(self) -> Sequence[GroupStatus]:
        return await self._look(read_groups)

    async def accounts(self) -> Accounts:
        return await self._look(read_accounts)

    async def _look(self, look: Callable[[Admin, View], T]) -> T:
        """With a reader of its own, in the administrator's thread: it may take long."""
        await self._sync()
        streams = self._catalog.streams

        def run() -> T:
            reader = Reader(self._cluster)
            try:
                return look(
                    self._admin, View(streams, self.names, reader.read, partial(self._read_chunks, reader), self._gaps)
                )
            finally:
                reader.close()

        return await self._admin_calls.run(run)

    def _check(self) -> None:
        if self._closed:
            raise LogClosedError("the log is closed")
