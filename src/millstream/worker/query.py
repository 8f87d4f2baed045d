"""Runs a query: reads its streams, steps the engine, commits everything that a step came to.

One step after the other, each on whatever has come since the last one, while the step before it is committed. A query
that is behind also reads the next batches while a step runs; one that keeps up reads after it, because what is read
early is little, and all that comes after it has to wait one step longer. What a step publishes, its state, its ticks,
its positions and its counts are one transaction, and transactions are committed in the order of their steps, so the
results are as if every event had been processed once. When a commit fails, the step that was begun on top of it is
forgotten as well. Events that the engine rejects are dead letters; its counts balance.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Collection, Sequence
from typing import TypeVar

from millstream.app import Query
from millstream.engine.lookup import Lookup
from millstream.engine.step import Processor, Rejected, Step
from millstream.errors import MillstreamError, PayloadError, ScratchError
from millstream.event import Batch, Event
from millstream.ledger.names import DEAD_LETTERED, EXPIRED, PROCESSED, SKIPPED
from millstream.log import Poll, Position, Transaction
from millstream.worker.addressed import Piece, in_pieces
from millstream.worker.context import Context, Outputs
from millstream.worker.deadletter import dead_letter
from millstream.worker.membership import Membership
from millstream.worker.references import Histories, versions_for
from millstream.worker.tasks import cancel, first_of, unless
from millstream.worker.threads import Threads
from millstream.worker.turns import Turns
from millstream.worker.watch import Failure
from millstream.worker.whole import whole_events, whole_late

T = TypeVar("T")

logger = logging.getLogger("millstream.worker")

_POLL_BYTES = 32 << 20  # payload a step: large enough that the fixed costs of steps and commits vanish
_LEAST_POLL_BYTES = 4 << 20  # where the queries of a worker share what one may take, which bounds its memory

_BEHIND_EVENTS = 8_192  # in a step: more wait by then than could be read sooner to any use

_NAMES = {"rejected": DEAD_LETTERED}
"""What the engine's counts are called in the ledger."""

_HELD = (
    "nothing is lost or passed over: it begins again with smaller batches, and waits at this place until they succeed. "
    "If they never do, give the worker more memory if it had too little, and report this; a query under another name "
    "and with start='latest' goes on behind the place"
)


class StepFailedError(MillstreamError):
    """The engine could not process a batch, which is its bug or its lack of memory. The batch is read again."""


class QueryProcessor:
    """One query in one worker."""

    def __init__(
        self,
        query: Query,
        streams: Sequence[str],
        processor: Processor,
        context: Context,
        lookups: Sequence[Lookup] = (),
        histories: Histories | None = None,
        columns: Collection[str] | None = None,
        *,
        queries: int = 1,
        turns: Turns | None = None,
    ) -> None:
        """`columns` are those of events that the processor looks at (None: all). `queries` is how many the worker
        has, which take `turns`."""
        self.name = query.name
        self._processor = processor
        self._lookups = lookups
        self._histories = histories or {}
        self._context = context
        self._measures = context.measures.of(query.name)
        wanted = None if context.is_traced else columns  # traces are in headers
        self._membership = Membership(
            context, query.name, streams, query.start, (StepFailedError, ScratchError), columns=wanted
        )
        self._threads = Threads(1, f"millstream-{query.name}", context.under_way(query.name))
        self._turn = (turns or Turns()).one()
        self._partitions: set[int] = set()
        self._most_bytes = max(_POLL_BYTES // queries, min(_POLL_BYTES, _LEAST_POLL_BYTES))
        self._poll_bytes = self._most_bytes
        self._expired: Counter[tuple[str, int]] = Counter()  # taken by retention before what will be read next
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
        self._expired.clear()
        await first_of(self._process(), self._drained())

    async def _drained(self) -> None:
        await self._membership.stopping.wait()
        await self._context.clock.sleep(self._drain_seconds)

    async def _process(self) -> None:
        reading = asyncio.ensure_future(self._poll())
        committing = asyncio.ensure_future(asyncio.sleep(0))
        try:
            while (poll := await _unless_failed(reading, committing)) is not None:
                if poll.lost or poll.gained:
                    await committing
                    await self._change_hands(poll)
                pieces = in_pieces(poll.batches, self.name) if poll.batches else []
                grants = self._membership.group  # the transactions are of the grants that `poll` was read under
                transactions = [grants.transaction() for _ in pieces]
                is_behind = sum(map(len, poll.batches)) >= _BEHIND_EVENTS and not self._turn.is_shared
                if is_behind:
                    reading = asyncio.ensure_future(self._poll())
                self._expired.update(poll.expired)
                for piece, transaction in zip(pieces, transactions, strict=True):
                    passed_over = self._passed_over(piece)
                    step = await self._step(piece, committing)
                    self._turn.give()
                    await committing
                    committing = asyncio.ensure_future(self._commit(piece.batches, step, passed_over, transaction))
                if not is_behind:
                    reading = asyncio.ensure_future(self._poll())
            await committing
        finally:
            await cancel((reading, committing))
            self._turn.give()

    async def _poll(self) -> Poll | None:
        """The next poll; None when the worker stops."""
        return await unless(self._read(), self._membership.stopping)

    async def _read(self) -> Poll:
        """What has happened, when it is this query's turn."""
        group = self._membership.group
        if self._turn.is_shared:
            await self._turn.take()
            poll = await group.poll(self._poll_bytes, 0)
            if poll != Poll():
                return poll
            self._turn.give()
        return await group.poll(self._poll_bytes)

    async def _change_hands(self, poll: Poll) -> None:
        """Everything is committed here, so what is lost can go at once."""
        if poll.lost:
            await self._threads.run(self._forget, poll.lost)
            await self._membership.group.release(poll.lost)
        for partition in poll.gained:
            self._partitions.add(partition)
            chunks = await self._membership.group.state(partition)
            await self._threads.run(self._processor.restore, partition, chunks)
        self._expired = Counter({place: n for place, n in self._expired.items() if place[1] not in poll.lost})

    def _forget(self, partitions: frozenset[int]) -> None:
        for partition in partitions & self._partitions:
            self._processor.forget(partition)
        self._partitions -= partitions

    def _passed_over(self, piece: Piece) -> Counter[str]:
        """What the engine does not get: events for other groups, those that retention took before, and a reset."""
        expired = sum(self._expired.pop((batch.stream, batch.partition), 0) for batch in piece.batches)
        return Counter({SKIPPED: piece.skipped, EXPIRED: expired, PROCESSED: int(piece.resets is not None)})

    async def _step(self, piece: Piece, committing: Awaitable[None]) -> Step:
        """What the engine makes of a piece. Raises `StepFailedError` when the step before it is committed."""
        batches = piece.batches
        began = self._context.clock.monotonic()
        if self._lookups:
            self._turn.give()  # a version may be waited for
        versions = await versions_for(self._lookups, self._histories, batches)
        await self._turn.take()
        try:
            if versions is not None:
                await self._threads.run(self._processor.refer, versions)
            if piece.resets is not None:
                logger.info("query %s: the key %r begins anew at %s", self.name, piece.resets, _places(batches))
                return await self._threads.run(self._processor.reset, batches[0].partition, piece.resets)
            with self._context.traced_step(self.name, batches):
                step = await self._threads.run(self._processor.step, batches)
        except Exception as error:
            logger.exception("query %s failed at %s; %s", self.name, _places(batches), _HELD)
            self._context.watch.failed(Failure(self.name, _places(batches), error, "begins again with smaller batches"))
            self._measures.errors += 1
            self._measures.retries += 1
            await committing
            self._poll_bytes = max(1, self._poll_bytes // 8)
            raise StepFailedError(f"{type(error).__name__}: {error}") from error
        self._measures.step_seconds.observe(self._context.clock.monotonic() - began)
        return step

    async def _commit(
        self, batches: Sequence[Batch], step: Step, passed_over: Counter[str], transaction: Transaction
    ) -> None:
        late, rejected = step.late, _rejected(batches, step)
        if any(batch.is_sparse for batch in batches):
            events = await whole_events(self._context.log, [event for event, _ in rejected])
            rejected = [(event, reason) for event, (_, reason) in zip(events, rejected, strict=True)]
            late = None if late is None else await whole_late(self._context.log, late)
        outputs = Outputs(
            [events for events in (step.outputs, late) if events is not None and events.num_rows],
            [dead_letter(event, group=self.name, reason=reason, attempts=1) for event, reason in rejected],
        )
        self._context.append(transaction, outputs)
        for partition, chunks in step.save.items():
            for name, chunk in chunks.items():
                transaction.save(partition, name, chunk)
        for partition, names in step.drop.items():
            for name in names:
                transaction.drop(partition, name)
        for batch in batches:
            transaction.position(batch.stream, batch.partition, Position(batch.next_offset))
        del batches  # which are large: what is read while this is committed takes their place
        for (stream, partition), at in step.due.items():
            transaction.due(stream, partition, at)
        passed_over.update(step.counts)
        passed_over.update(step.notes)
        for name, n in passed_over.items():
            if n:
                transaction.count(_NAMES.get(name, name), n)
        await self._context.commit(transaction, self.name, sum(step.counts.values()))
        self._measures.stepped_to(step.watermark, self._context.clock.now())
        for event, reason in rejected:
            kept = "kept in the dead letters"
            self._context.watch.failed(Failure(self.name, event.position, PayloadError(reason), kept))
        self._poll_bytes = min(self._most_bytes, 2 * self._poll_bytes)
        self._membership.works()


async def _unless_failed(reading: asyncio.Future[T], committing: asyncio.Future[None]) -> T:
    """What is read. Raises at once if the commit fails meanwhile: nothing more may ever come."""
    if not reading.done():  # else the step begins before the commit does what it can do meanwhile
        await asyncio.wait((reading, committing), return_when=asyncio.FIRST_COMPLETED)
    if committing.done():
        committing.result()
    return await reading


def _rejected(batches: Sequence[Batch], step: Step) -> list[tuple[Event, str]]:
    """Every rejected event and the reason."""
    by_batch: dict[int, list[Rejected]] = {}
    for rejected in step.rejected:
        by_batch.setdefault(rejected.batch, []).append(rejected)
    found = []
    for number, rejections in by_batch.items():
        batch = batches[number]
        rows = batch.events.take([rejected.row for rejected in rejections])
        events = Batch(batch.stream, batch.partition, rows, batch.next_offset)
        found += [(event, rejected.reason) for event, rejected in zip(events, rejections, strict=True)]
    return found


def _places(batches: Sequence[Batch]) -> str:
    return ", ".join(f"{batch.stream}:{batch.partition} before {batch.next_offset}" for batch in batches)
