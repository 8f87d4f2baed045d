"""Runs a query: reads its streams, steps the engine, commits everything that a step came to.

One step after the other, each on whatever has come since the last one; while it runs and commits, the next batches are
read. What a step publishes, its state, its ticks, its positions and its counts are one transaction, so the results
are as if every event had been processed once. Events that a query rejects are dead letters, and count as what the
engine calls them; the engine's counts balance.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from millstream.app import Query
from millstream.engine.step import Processor, Rejected, Step
from millstream.errors import MillstreamError, PayloadError
from millstream.event import Batch, Event
from millstream.log import Poll, Position, Transaction
from millstream.worker.context import Context, Outputs
from millstream.worker.deadletter import dead_letter
from millstream.worker.membership import Membership
from millstream.worker.tasks import cancel, first_of, unless
from millstream.worker.threads import Threads
from millstream.worker.watch import Failure

logger = logging.getLogger("millstream.worker")

_POLL_BYTES = 16 << 20  # payload a step: large enough that the engine's fixed costs vanish


class StepFailedError(MillstreamError):
    """The engine could not process a batch, which is its bug or its lack of memory. The batch is read again."""


class QueryProcessor:
    """One query in one worker."""

    def __init__(self, query: Query, streams: Sequence[str], processor: Processor, context: Context) -> None:
        self.name = query.name
        self._processor = processor
        self._context = context
        self._membership = Membership(context, query.name, streams, query.start, also=(StepFailedError,))
        self._threads = Threads(1, f"millstream-{query.name}", context.under_way(query.name))
        self._partitions: set[int] = set()
        self._poll_bytes = _POLL_BYTES
        self._drain_seconds = 0.0

    async def join(self) -> None:
        """Returns when the group has a position in every partition."""
        await self._membership.join()

    async def run(self) -> None:
        """Process events until `stop`. Raises what cannot be mended by joining again."""
        try:
            await self._membership.keep(self._session)
        finally:
            self._threads.close()

    def stop(self, drain_seconds: float) -> None:
        """Let `run` end, when the step under way is committed, or that time is over."""
        self._drain_seconds = drain_seconds
        self._membership.stopping.set()

    async def _session(self) -> None:
        await self._threads.run(self._forget, frozenset(self._partitions))  # of a session that failed
        await first_of(self._process(), self._drained())

    async def _drained(self) -> None:
        await self._membership.stopping.wait()
        await self._context.clock.sleep(self._drain_seconds)

    async def _process(self) -> None:
        reading = asyncio.ensure_future(self._poll())
        try:
            while (poll := await reading) is not None:
                await self._change_hands(poll)
                transaction = self._membership.group.transaction()  # of the grants that `poll` was read under
                reading = asyncio.ensure_future(self._poll())
                if poll.batches or poll.expired:
                    await self._step(poll, transaction)
        finally:
            await cancel((reading,))

    async def _poll(self) -> Poll | None:
        """The next poll; None when the worker stops."""
        return await unless(self._membership.group.poll(self._poll_bytes), self._membership.stopping)

    async def _change_hands(self, poll: Poll) -> None:
        """Nothing is under way here, so what is lost can go at once."""
        if poll.lost:
            await self._threads.run(self._forget, poll.lost)
            await self._membership.group.release(poll.lost)
        for partition in poll.gained:
            self._partitions.add(partition)
            chunks = await self._membership.group.state(partition)
            await self._threads.run(self._processor.restore, partition, chunks)

    def _forget(self, partitions: frozenset[int]) -> None:
        for partition in partitions & self._partitions:
            self._processor.forget(partition)
        self._partitions -= partitions

    async def _step(self, poll: Poll, transaction: Transaction) -> None:
        try:
            step = await self._threads.run(self._processor.step, poll.batches)
        except Exception as error:
            logger.exception("%s failed at %s; it begins again with smaller batches", self.name, _places(poll.batches))
            again = "begins again with smaller batches"
            self._context.watch.failed(Failure(self.name, _places(poll.batches), error, again))
            self._poll_bytes = max(1, self._poll_bytes // 8)
            raise StepFailedError(f"{type(error).__name__}: {error}") from error
        await self._commit(poll, step, transaction)
        self._poll_bytes = min(_POLL_BYTES, 2 * self._poll_bytes)
        self._membership.works()

    async def _commit(self, poll: Poll, step: Step, transaction: Transaction) -> None:
        rejected = _rejected(poll, step)
        outputs = Outputs(
            [events for events in (step.outputs, step.late) if events is not None and events.num_rows],
            [dead_letter(event, group=self.name, reason=reason, attempts=1) for event, reason in rejected],
        )
        self._context.append(transaction, outputs)
        for partition, chunks in step.save.items():
            for name, chunk in chunks.items():
                transaction.save(partition, name, chunk)
        for partition, names in step.drop.items():
            for name in names:
                transaction.drop(partition, name)
        for batch in poll.batches:
            transaction.position(batch.stream, batch.partition, Position(batch.next_offset))
        for (stream, partition), at in step.due.items():
            transaction.due(stream, partition, at)
        for name, n in {**step.counts, **step.notes, "expired": sum(poll.expired.values())}.items():
            if n:
                transaction.count(name, n)
        await self._context.commit(transaction, self.name)
        for event, reason in rejected:
            kept = "kept in the dead letters"
            self._context.watch.failed(Failure(self.name, event.position, PayloadError(reason), kept))
        self._context.publish(outputs.events)


def _rejected(poll: Poll, step: Step) -> list[tuple[Event, str]]:
    """Every rejected event and the reason."""
    by_batch: dict[int, list[Rejected]] = {}
    for rejected in step.rejected:
        by_batch.setdefault(rejected.batch, []).append(rejected)
    found = []
    for number, rejections in by_batch.items():
        batch = poll.batches[number]
        rows = batch.events.take([rejected.row for rejected in rejections])
        events = Batch(batch.stream, batch.partition, rows, batch.next_offset)
        found += [(event, rejected.reason) for event, rejected in zip(events, rejections, strict=True)]
    return found


def _places(batches: Sequence[Batch]) -> str:
    return ", ".join(f"{batch.stream}:{batch.partition} before {batch.next_offset}" for batch in batches)
