"""A member of a consumer group: what it owns, reads and commits.

`Membership` tells what is whose, `Handover` what of it was told, `Fetcher` reads, `Committing` commits; here these
become the contract's polls.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from confluent_kafka import TopicPartition

from millstream.clock import Clock, Micros
from millstream.errors import LogClosedError, LogError, LogUnavailableError
from millstream.log.contract import Committed, Poll, Position
from millstream.log.draft import Draft
from millstream.log.kafka import committing
from millstream.log.kafka.catalog import Stream
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.committing import Committing
from millstream.log.kafka.fetcher import Fetcher, Place, Taken
from millstream.log.kafka.handover import Handover
from millstream.log.kafka.membership import Membership
from millstream.log.kafka.offsets import visible
from millstream.log.kafka.positions import Held, Numbered
from millstream.log.kafka.transactor import Transactor
from millstream.log.waiting import Waiters

JOIN_SECONDS = 60.0
"""For the group to let a member in: another one may have to release first, or to be found dead."""

_CHANGED = "changed"  # the key of those who wait in a poll


class Backend(committing.Backend, Protocol):
    """What a member asks of its log."""

    clock: Clock

    @property
    def known_streams(self) -> Mapping[str, Stream]: ...

    async def first_offset(self, stream: str, number: int) -> int: ...

    async def chunks(self, group: str, number: int) -> dict[str, bytes]: ...

    def tick_read(self, member: Member, place: Place, time: Micros) -> None: ...

    def tick_wanted(self, member: Member, place: Place, at: Micros | None) -> None: ...

    def forget(self, member: Member) -> None: ...


class Member:
    """See `millstream.log.contract.Group`."""

    def __init__(
        self,
        name: str,
        streams: Sequence[str],
        backend: Backend,
        cluster: Cluster,
        *,
        sparse: bool = False,
    ) -> None:
        """`sparse`: its batches need no more of events than `BARE`."""
        self.name = name
        self._names_of_streams = tuple(streams)
        self._backend = backend
        names = backend.names
        self.transactor = Transactor(cluster, f"{names.group(name)}-{secrets.token_hex(8)}")
        self._membership = Membership(cluster, names.group(name), names.state(name), self.changed)
        self._fetcher = Fetcher(cluster, self.changed, sparse=sparse)
        self._committing = Committing(name, backend, self.transactor, partial(backend.tick_wanted, self))
        self._waiters = Waiters(backend.clock)
        self._handover = Handover(self._membership, backend.clock, self._wake)
        self._left = False

    async def joined(self) -> None:
        """Return when the group knows the member."""
        joined = asyncio.ensure_future(self._membership.joined.wait())
        try:
            await asyncio.wait([joined], timeout=JOIN_SECONDS)
            if not joined.done():
                raise LogUnavailableError(f"Kafka: group {self.name!r}: nobody lets us in; see what the brokers say")
        finally:
            joined.cancel()
        self._check()

    async def give_positions(self, offsets: list[TopicPartition]) -> None:
        """Commit first positions of the group, which has other members."""
        await self._membership.commit(offsets)

    async def poll(self, limit_bytes: int, timeout: float | None = None, pause: bool = False) -> Poll:
        """See the contract."""
        clock = self._backend.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        while True:
            self._check()
            gained = await self._look_up(self._handover.new)
            found = self._take(gained, limit_bytes, pause)
            if found != Poll():
                return found
            left = None if deadline is None else deadline - clock.monotonic()
            if left is not None and left <= 0:
                return found
            if not self._handover.new and (pause or not self._has_more()):
                await self._waiters.wait([_CHANGED], left)

    async def state(self, partition: int) -> Mapping[str, bytes]:
        """See the contract."""
        self._check()
        return visible(await self._backend.chunks(self.name, partition))

    def transaction(self) -> Draft:
        """See the contract. It is bound to what the member owns now: what it gains later takes another one."""
        return Draft(self._commit, self.name, dict(self._handover.told))

    async def release(self, partitions: frozenset[int]) -> None:
        """See the contract."""
        is_leaving = self._handover.release(partitions)
        for number in partitions:
            self._stop_reading(number)
            self._committing.give_up(number)
        if is_leaving:  # not asked for: the member is on its way out, and gets nothing back
            await self._membership.leave()
        else:
            self._membership.release(partitions)

    async def leave(self) -> None:
        """See the contract."""
        if not self._left:
            self._left = True
            self._waiters.fail(LogError(f"this member of group {self.name!r} has left; join again"))
            self._backend.forget(self)
            await self._committing.finish()
            await self._membership.leave()
            await self._handover.close()
            await self._fetcher.close()
            await self._committing.close()

    async def close(self) -> None:
        """The log is closed."""
        self._waiters.fail(LogClosedError("the log was closed"))
        await self.leave()

    # --- what happens

    def changed(self) -> None:
        """The ownership has changed, or something was read."""
        self._handover.membership_changed()
        self._wake()

    def streams_changed(self) -> None:
        """Forget the places in streams that are gone; begin those that are made again from their beginning."""
        streams = self._backend.known_streams
        for number in self._handover.told:
            for name in self._names_of_streams:
                held = self._committing.held.get((name, number))
                stream = streams.get(name)
                if held is not None and (stream is None or stream.id != held.stream_id):
                    self._fetcher.stop((name, number))
                    del self._committing.held[name, number]
                if (
                    stream is not None
                    and number < stream.spec.partitions
                    and (name, number) not in self._committing.held
                ):
                    self._begin(name, number, Held(stream.id, Position(0)))
        self._wake()

    # --- gaining and losing

    async def _look_up(self, new: Mapping[int, int]) -> dict[int, tuple[int, Numbered, dict[str, int]]]:
        """What is committed in numbers that are newly ours, with the first offsets that are left of their streams."""
        found: dict[int, tuple[int, Numbered, dict[str, int]]] = {}
        for number, epoch in new.items():
            numbered = await self._backend.numbered(self.name, number)
            firsts = {name: await self._backend.first_offset(name, number) for name in self._mine(numbered)}
            found[number] = (epoch, numbered, firsts)
        return found

    def _mine(self, numbered: Numbered) -> list[str]:
        return [name for name in self._names_of_streams if name in numbered.held]

    def _take(self, gained: dict[int, tuple[int, Numbered, dict[str, int]]], limit_bytes: int, pause: bool) -> Poll:
        """What was found, told and made ours in one go, without a pause in which a caller could be cancelled."""
        lost = self._handover.lose()
        for number in lost:
            self._stop_reading(number)
        expired: dict[Place, int] = {}
        told: dict[int, dict[str, Position]] = {}
        for number, (epoch, numbered, firsts) in gained.items():
            if not self._handover.has(number, epoch):
                continue  # it has gone again meanwhile
            self._handover.gain(number, epoch)
            self._committing.take_over(number, numbered)
            told[number] = {}
            for name in self._mine(numbered):
                held = numbered.held[name]
                told[number][name] = held.position
                if (gone := _gone(held.position, firsts[name])) > 0:
                    expired[name, number] = gone
                self._begin(name, number, held, firsts[name])
        taken = Taken() if pause else self._fetcher.take(limit_bytes)
        for batch in taken.batches:
            if batch.ticks:
                self._backend.tick_read(self, (batch.stream, batch.partition), batch.ticks[-1].time)
        for place, events in taken.expired.items():
            expired[place] = expired.get(place, 0) + events
        return Poll(lost, told, expired, tuple(taken.batches))

    def _begin(self, name: str, number: int, held: Held, first: int = 0) -> None:
        self._committing.held[name, number] = held
        topic = self._backend.names.topic(name)
        self._fetcher.start(name, number, topic, max(held.position.low, first), held.position.done)
        if held.due is not None:
            self._backend.tick_wanted(self, (name, number), held.due)

    def _stop_reading(self, number: int) -> None:
        for name in self._names_of_streams:
            self._fetcher.stop((name, number))
            self._backend.tick_wanted(self, (name, number), None)

    def _has_more(self) -> bool:
        return any(cursor.pieces for cursor in self._fetcher.places.values())

    def _wake(self) -> None:
        self._waiters.wake([_CHANGED])

    # --- committing

    async def _commit(self, draft: Draft) -> Committed:
        return await self._committing.commit(draft, self._membership, self._fetcher)

    def _check(self) -> None:
        if self._left:
            raise LogError(f"this member of group {self.name!r} has left; join again")
        if self._membership.failed is not None:
            raise self._membership.failed


def _gone(position: Position, first: int) -> int:
    """How many offsets retention has taken before the group had read them."""
    return max(0, first - position.low) - sum(1 for offset in position.done if offset < first)
