"""The log on Apache Kafka, or any server of its protocol: put together here of its parts.

`Directory` knows the streams, `Reading` reads them, `Appending` commits what is nobody's, and a `Member` is a group's;
`Looking` looks for an operator. The clients block, so each has a thread (`Calls`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

import pyarrow as pa
from confluent_kafka import TopicPartition

from millstream.clock import Clock, Micros
from millstream.errors import LogError
from millstream.event import Batch
from millstream.log.contract import LATEST, Accounts, Bounds, Commits, GroupStatus, Start, StreamSpec
from millstream.log.draft import Draft
from millstream.log.kafka.accounts import View, read_accounts, read_groups
from millstream.log.kafka.admin import Admin
from millstream.log.kafka.appending import Appending
from millstream.log.kafka.arrivals import Arrivals
from millstream.log.kafka.calls import Calls
from millstream.log.kafka.catalog import Stream
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.decoding import BARE
from millstream.log.kafka.directory import Directory
from millstream.log.kafka.fetcher import Place
from millstream.log.kafka.looking import Looking, read_chunks
from millstream.log.kafka.member import Member
from millstream.log.kafka.names import Names
from millstream.log.kafka.offsets import visible
from millstream.log.kafka.patience import Patience
from millstream.log.kafka.positions import Numbered, first_offsets, needs_chunks, read_number
from millstream.log.kafka.producing import Job
from millstream.log.kafka.reader import Reader
from millstream.log.kafka.reading import Reading
from millstream.log.kafka.streams import Streams
from millstream.log.kafka.ticker import Ticker
from millstream.topic import Filter

T = TypeVar("T")


class KafkaLog:
    """See `millstream.log.contract.Log`. Made by `open`; every process has its own."""

    commits = Commits.REPLICAS

    def __init__(
        self, cluster: Cluster, clock: Clock, admin: Admin, reader: Reader, calls: tuple[Calls, Calls]
    ) -> None:
        self.clock = clock
        self.names = Names(cluster.prefix)
        self.patience = Patience(lambda: [self._appending.transactor, *(one.transactor for one in self._members)])
        self.show: Callable[[pa.RecordBatch], None] = lambda events: None
        self._cluster = cluster
        self._admin, self._admin_calls = admin, calls[0]
        self._reader, self._reader_calls = reader, calls[1]
        self.directory = Directory(
            cluster,
            self.names,
            (admin, calls[0]),
            (reader, calls[1]),
            self._streams_changed,
            self.patience.answered,
        )
        self._arrivals = Arrivals(cluster)
        self._reading = Reading(clock, self.directory, self._arrivals, (reader, calls[1]))
        self._appending = Appending(
            cluster, clock, self.names, self.directory, self._reading, reader, lambda events: self.show(events)
        )
        self._looking = Looking(cluster, self.names)
        self._ticker = Ticker(clock, self._appending.append_ticks)
        self._members: list[Member] = []
        self._unseen: dict[tuple[str, int], int] = {}  # commits that no look at the groups has seen

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
        await log.directory.sync()
        return log

    async def close(self) -> None:
        """Leave all groups and close. Idempotent."""
        if self.directory.is_closed:
            return
        self.directory.is_closed = True
        await self._ticker.close()
        await asyncio.gather(*(member.close() for member in list(self._members)))
        await self._appending.close()
        await self._arrivals.close()
        await self.directory.close()
        await self._looking.close()
        await self._reader_calls.close(self._reader.close)
        await self._admin_calls.close()

    def on_show(self, show: Callable[[pa.RecordBatch], None]) -> None:
        """Who is given, in the event loop, what transactions of this process show (see `Transaction.show`)."""
        self.show = show

    # --- streams

    @property
    def known_streams(self) -> Mapping[str, Stream]:
        """The streams, as far as this process was told."""
        return self.directory.known

    async def create(self, spec: StreamSpec) -> None:
        await self.directory.create(spec)

    async def drop(self, name: str) -> None:
        await self.directory.drop(name)

    async def streams(self) -> Mapping[str, StreamSpec]:
        await self.directory.sync()
        return self.directory.specs

    def watch_streams(self, changed: Callable[[Mapping[str, StreamSpec]], None]) -> None:
        self.directory.watch(changed)

    def _streams_changed(self, same: set[str]) -> None:
        for place in [place for place in self._reader.written if place[0] not in same]:
            del self._reader.written[place]
        for member in self._members:
            member.streams_changed()
        self._arrivals.wake_all()

    # --- records

    async def read(
        self, stream: str, partition: int, offset: int, *, limit_bytes: int = 1 << 20, wait: float | None = 0.0
    ) -> Batch:
        return await self._reading.read(stream, partition, offset, limit_bytes, wait)

    async def bounds(self, stream: str, partition: int) -> Bounds:
        return await self._reading.bounds(stream, partition)

    async def offset_at(self, stream: str, partition: int, time: Micros) -> int:
        return await self._reading.offset_at(stream, partition, time)

    def transaction(self) -> Draft:
        return Draft(self._appending.commit)

    # --- groups

    async def join(
        self,
        group: str,
        streams: Sequence[str],
        *,
        start: Start = LATEST,
        topics: Filter | None = None,
        columns: Collection[str] | None = None,
    ) -> Member:
        """See the contract. A topic of Kafka is read as a whole, whatever `topics` wants; headers are dear."""
        if not group:
            raise LogError("a group needs a name")
        found = [await self.directory.stream(name) for name in streams]
        count = max((stream.spec.partitions for stream in found), default=1)
        await self.directory.make_state(group, count)
        missing = await self._admin_calls.run(first_offsets, self._admin, self.names, found, group, start)
        given = await self._admin_calls.run(self._alter, group, missing)
        member = self._make_member(group, streams, columns)
        await member.joined()
        if not given:
            await member.give_positions(missing)
        return member

    def _alter(self, group: str, missing: list[TopicPartition]) -> bool:
        return not missing or self._admin.alter_offsets(self.names.group(group), missing)

    def _make_member(self, group: str, streams: Sequence[str], columns: Collection[str] | None) -> Member:
        sparse = columns is not None and BARE.issuperset(columns)
        member = Member(group, streams, self, self._cluster, sparse=sparse)
        self._members.append(member)
        return member

    async def state(self, group: str, partition: int) -> Mapping[str, bytes]:
        return visible(await self.chunks(group, partition))

    async def groups(self) -> Sequence[GroupStatus]:
        unseen, self._unseen = self._unseen, {}
        return await self._look(partial(read_groups, committed=unseen))

    async def accounts(self) -> Accounts:
        return await self._look(read_accounts)

    async def _look(self, look: Callable[[View], T]) -> T:
        await self.directory.sync()
        return await self._looking.look(look, self.known_streams)

    @property
    def waiting(self) -> str | None:
        """Why the log waits for the brokers; None if it does not."""
        return self.patience.reason

    # --- what members ask of their log

    async def targets(self, draft: Draft) -> list[tuple[str, int]]:
        """The topic and partition of each append. `UnknownStreamError`."""
        return await self._appending.targets(draft)

    async def first_offsets(self, job: Job) -> tuple[int, ...]:
        """What is committed: the first offset of each append."""
        return await self._appending.first_offsets(job)

    def commit_time(self) -> Micros:
        """Now; never before what was told earlier."""
        return self._appending.commit_time()

    def committed(self, group: str, number: int, serial: int) -> None:
        """The transaction of this number is the last that was committed for a partition number of a group."""
        self._unseen[group, number] = serial

    def wait(self, reason: str | None) -> None:
        """Commits wait for the brokers; None: they do no longer."""
        self.patience.wait(reason)

    async def end(self, place: Place) -> int:
        """The offset after everything that is committed."""
        return (await self._reading.range(self.names.topic(place[0]), place[1]))[1]

    async def numbered(self, group: str, number: int) -> Numbered:
        """What is committed for a partition number, when no open transaction is about to change it."""
        state, streams = self.names.state(group), self.known_streams
        topics = [self.names.topic(name) for name, stream in streams.items() if number < stream.spec.partitions]
        places = [(topic, number) for topic in (*topics, state)]
        offsets = await self._admin_calls.run(self._admin.offsets, self.names.group(group), places)
        chunks = await self.chunks(group, number) if needs_chunks(offsets, topics, state, number) else {}
        return read_number(offsets, streams, self.names, state, number, chunks)

    async def first_offset(self, stream: str, number: int) -> int:
        """The lowest offset that is left of a partition."""
        return (await self._reading.range(self.names.topic(stream), number))[0]

    async def chunks(self, group: str, number: int) -> dict[str, bytes]:
        """The state chunks of a partition number, hidden ones too."""
        return await self._reader_calls.run(read_chunks, self._admin, self._reader, self.names, group, number)

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
