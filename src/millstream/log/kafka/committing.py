"""A member's commits: what it has in its partitions, checked, packed, and in one transaction of Kafka.

The offset of each touched number's partition of the state topic counts the transactions for it. When the outcome of one
is unknown, because the brokers have gone, it is looked up there when they are back: so a commit ends as done or as not
done, and whoever waits for it needs to know nothing of this. Unless another member has committed meanwhile, which its
name there tells: then it cannot be known, and the member is told that it is one no longer.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import pyarrow as pa
from confluent_kafka import TopicPartition

from millstream.clock import Micros
from millstream.errors import FencedError, LogError, LogUnavailableError
from millstream.log.contract import Committed, Position
from millstream.log.draft import Draft
from millstream.log.kafka.calls import to_its_end
from millstream.log.kafka.fetcher import Fetcher, Place
from millstream.log.kafka.membership import Membership
from millstream.log.kafka.names import Names
from millstream.log.kafka.offsets import COUNTS_CHUNK, Counts, pack
from millstream.log.kafka.positions import Held, Numbered
from millstream.log.kafka.producing import Job
from millstream.log.kafka.transactor import Transactor

_RETRY_SECONDS = 0.5  # between looks whether the brokers are back

_log = logging.getLogger(__name__)


class Backend(Protocol):
    """What committing asks of its log."""

    names: Names
    show: Callable[[pa.RecordBatch], None]

    async def targets(self, draft: Draft) -> list[tuple[str, int]]:
        """The topic and partition of each append. `UnknownStreamError`."""
        ...

    async def end(self, place: Place) -> int:
        """The offset after everything that is committed."""
        ...

    async def first_offsets(self, job: Job) -> tuple[int, ...]:
        """The first offset of each append."""
        ...

    async def numbered(self, group: str, number: int) -> Numbered:
        """What is committed for a partition number, when no open transaction is about to change it."""
        ...

    def commit_time(self) -> Micros: ...

    def committed(self, group: str, number: int, serial: int) -> None:
        """The transaction of this number is the last that was committed for a partition number of a group."""
        ...

    def wait(self, reason: str | None) -> None:
        """Commits wait for the brokers; None: they do no longer."""
        ...


class Committing:
    """`held` are the positions in places that the member owns; `due` is called with what a commit asks for."""

    def __init__(
        self,
        group: str,
        backend: Backend,
        transactor: Transactor,
        due: Callable[[Place, Micros | None], None],
    ) -> None:
        self.held: dict[Place, Held] = {}
        self._group = group
        self._backend = backend
        self._state = backend.names.state(group)
        self._transactor = transactor
        self._due = due
        self._numbers: dict[int, Numbered] = {}
        self._writer = secrets.token_hex(4)
        self._one_at_a_time = asyncio.Lock()
        self._closed = False

    def take_over(self, number: int, numbered: Numbered) -> None:
        """The number is ours, with what is committed for it."""
        self._numbers[number] = numbered

    def give_up(self, number: int) -> None:
        """The number is somebody else's."""
        self._numbers.pop(number, None)
        for place in [place for place in self.held if place[1] == number]:
            del self.held[place]

    async def finish(self) -> None:
        """Let a commit that is under way end; a new one is refused."""
        self._closed = True
        async with self._one_at_a_time:
            pass

    async def close(self) -> None:
        """Give the producer up."""
        await self._transactor.close()

    async def commit(self, draft: Draft, membership: Membership, fetcher: Fetcher) -> Committed:
        """See the contract. One that is cancelled goes on by itself, so that its outcome is known to the next."""
        return await to_its_end(self._commit(draft, membership, fetcher))

    async def _commit(self, draft: Draft, membership: Membership, fetcher: Fetcher) -> Committed:
        async with self._one_at_a_time:
            numbers = self._owned(draft, membership)
            targets = await self._backend.targets(draft)
            held = await self._moved(draft, fetcher)
            numbers = self._owned(draft, membership)  # it may have changed meanwhile
            job, after = self._job(draft, numbers, targets, held)
            job.member = membership.metadata
            job.check = lambda: self._check(draft, membership, numbers)
            await self._run(job, after)
            self.held.update({place: value for place, value in held.items() if place in self.held})
            self._numbers.update({number: value for number, value in after.items() if number in self._numbers})
            for number, numbered in after.items():
                self._backend.committed(self._group, number, numbered.serial)
            for place, at in draft.dues.items():
                if place in self.held:
                    self._due(place, at)
            for events in draft.shown:
                self._backend.show(events)
            return Committed(job.time, await self._backend.first_offsets(job))

    # --- checking

    def _owned(self, draft: Draft, membership: Membership) -> list[int]:
        """The numbers that a draft touches; one at least, where its counts go."""
        numbers = sorted(draft.owned)
        self._check(draft, membership, numbers)
        if not numbers:
            numbers = [min(draft.epochs, default=-1)]
            if numbers[0] not in self._numbers or membership.owned.get(numbers[0]) != draft.epochs[numbers[0]]:
                numbers = sorted(number for number in self._numbers if number in membership.owned)[:1]
            if not numbers:
                raise FencedError(f"group {self._group!r}: the member owns no partition; poll again")
        return numbers

    def _check(self, draft: Draft, membership: Membership, numbers: list[int]) -> None:
        if self._closed or membership.is_over:
            raise FencedError(
                f"group {self._group!r}: the membership is over; join again, and go on from what is committed"
            )
        for number in numbers:
            epoch = membership.owned.get(number)
            if (
                epoch is None
                or number not in self._numbers
                or (number in draft.owned and draft.epochs.get(number) != epoch)
            ):
                raise FencedError(
                    f"group {self._group!r}: partition {number} has gone to another member; forget it, and poll again"
                )

    async def _moved(self, draft: Draft, fetcher: Fetcher) -> dict[Place, Held]:
        """What the draft makes of the positions it touches."""
        held: dict[Place, Held] = {}
        for place, position in draft.positions.items():
            before = self._held(place)
            await self._check_position(place, before.position, position, fetcher)
            held[place] = replace(before, position=position)
        for place, at in draft.dues.items():
            held[place] = replace(held.get(place) or self._held(place), due=at)
        return held

    def _held(self, place: Place) -> Held:
        try:
            return self.held[place]
        except KeyError:
            raise LogError(f"group {self._group!r} does not read partition {place[1]} of stream {place[0]!r}") from None

    async def _check_position(self, place: Place, before: Position, position: Position, fetcher: Fetcher) -> None:
        stream, number = place
        if position.low < before.low:
            raise LogError(
                f"group {self._group!r} cannot move its position in partition {number} of stream {stream!r} "
                f"back from {before.low} to {position.low}"
            )
        if position.low > fetcher.next_offset(place) and position.low > (end := await self._backend.end(place)):
            raise LogError(
                f"group {self._group!r} cannot move its position in partition {number} of stream {stream!r} "
                f"to {position.low}, which is beyond the end at {end}"
            )

    # --- packing

    def _job(
        self, draft: Draft, numbers: list[int], targets: list[tuple[str, int]], held: Mapping[Place, Held]
    ) -> tuple[Job, dict[int, Numbered]]:
        """The work, and what stands for the numbers after it."""
        chunks = [(number, name, data) for (number, name), data in draft.states.items()]
        offsets: list[TopicPartition] = []
        hidden: dict[int, set[str]] = {number: set(self._numbers[number].hidden) for number in numbers}
        for (stream, number), value in held.items():
            offset, (name, chunk) = value.to_offset(self._backend.names.topic(stream), number, stream)
            offsets.append(offset)
            _hide(chunks, hidden[number], number, name, chunk)
        after: dict[int, Numbered] = {}
        for number in numbers:
            before = self._numbers[number]
            counts = Counter(before.counts)
            if number == numbers[0]:
                counts.update(draft.counts)
            metadata, chunk = pack(Counts(dict(counts), self._writer))
            _hide(chunks, hidden[number], number, COUNTS_CHUNK, chunk)
            offsets.append(TopicPartition(self._state, number, before.serial + 1, metadata))
            after[number] = Numbered(before.held, before.serial + 1, counts, frozenset(hidden[number]), self._writer)
        appends = [(*target, events) for target, (_, _, events) in zip(targets, draft.appends, strict=True)]
        return Job(self._backend.commit_time(), appends, (), self._state, chunks, offsets, source=self._group), after

    async def _run(self, job: Job, after: Mapping[int, Numbered]) -> None:
        number, numbered = next(iter(after.items()))
        while True:
            try:
                unknown = await self._transactor.commit(job)
                if unknown is None:
                    break
                self._backend.wait(unknown)
                if await self._is_committed(number, numbered):
                    break
            except FencedError:
                raise
            except LogUnavailableError as error:  # nothing is done
                self._backend.wait(str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                self._backend.wait(str(error))
            job.check()
        self._backend.wait(None)

    async def _is_committed(self, number: int, ours: Numbered) -> bool:
        """Look the outcome up, as soon as there are brokers that tell it. `FencedError`: it cannot be told any more."""
        while not self._closed:
            try:
                await self._transactor.settle()
                found = await self._backend.numbered(self._group, number)
            except LogUnavailableError as error:
                self._backend.wait(str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if found.serial < ours.serial:
                return False
            if found.writer == ours.writer:
                return True
            raise FencedError(
                f"group {self._group!r}: another member has committed for partition {number} while the outcome of a "
                "commit was unknown; join again, and go on from what is committed"
            )
        raise LogUnavailableError(f"group {self._group!r}: the log was closed before a commit had an outcome")


def _hide(
    chunks: list[tuple[int, str, bytes | None]], hidden: set[str], number: int, name: str, chunk: bytes | None
) -> None:
    """Save a hidden chunk, or drop the one that is not needed any more."""
    if chunk is not None:
        chunks.append((number, name, chunk))
        hidden.add(name)
    elif name in hidden:
        chunks.append((number, name, None))
        hidden.discard(name)
