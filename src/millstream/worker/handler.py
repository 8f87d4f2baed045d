"""Runs a handler: reads its stream, calls it in order per key, commits what is completed.

Three things go on at a time, in one event loop. The *reader* polls, and puts events in lanes, until so many are under
way that it pauses. The *calls* take events from the lanes, and settle what became of each. The *committer* gathers what
is completed while the last commit runs, and commits it as one: positions, outputs, dead letters, counts.

Where no further call can begin, or a commit is under way, the reader waits for the end of the commit before it polls
again, and so finds everything that has come meanwhile in one go. A poll costs much by itself and little by the event:
three steps that each take at once what the one before has left would spend their time on an event or two.
"""

from __future__ import annotations

import asyncio
import contextlib

from millstream.app import Handler
from millstream.errors import FencedError
from millstream.event import Batch
from millstream.log import Poll
from millstream.worker.addressed import Addressed, addressed
from millstream.worker.alarms import Alarms
from millstream.worker.arguments import Levels
from millstream.worker.batches import BatchArguments
from millstream.worker.call import AsyncEvents, Batches, Caller, ThreadedEvents
from millstream.worker.calls import Calls
from millstream.worker.committer import Committer
from millstream.worker.complaints import Complaints
from millstream.worker.context import Context
from millstream.worker.function import function_of_batches, function_of_events
from millstream.worker.membership import Membership
from millstream.worker.results import Results
from millstream.worker.segment import Segment
from millstream.worker.states import StatefulFunction, States
from millstream.worker.tasks import Signal, cancel, unless
from millstream.worker.threads import Threads

_POLL_BYTES = 4 << 20  # payload a poll; small enough for the first results to be committed soon
_TURN_SECONDS = 0.010  # that the reader waits for a commit at most: slow calls may take much longer
_RELEASE_SECONDS = 5.0  # that calls have to end in when their partition goes to another member


class HandlerProcessor:
    """One handler in one worker."""

    def __init__(self, handler: Handler, context: Context) -> None:
        self.name = handler.group
        self._handler = handler
        self._context = context
        self._threads = Threads(handler.concurrency, f"millstream-{handler.group}", context.under_way(handler.group))
        self._alarms = Alarms(context.clock)
        self._room = Signal()
        self._turn = asyncio.Event()
        topics = handler.topics if handler.wake is None else None  # what is selected by topics comes without ticks
        self._membership = Membership(context, handler.group, [handler.stream], handler.start, topics=topics)
        kept = handler.signature.state
        self._states = None if kept is None else States(kept, wake=handler.wake is not None)
        self._committer = Committer(
            context, handler.stream, self._membership, self._alarms, self._states, self._committed
        )
        self._calls = Calls(
            handler,
            context.traced(
                make_caller(handler, context, self._threads, self._states),
                handler.group,
                per_batch=handler.signature.per_batch,
            ),
            self._committer,
            self._alarms,
            Complaints(context.clock, handler.group, context.watch),
            context.clock,
            context.measures.of(handler.group),
            self._failed,
        )
        self._fault: asyncio.Future[None]
        self._drain_seconds = 0.0

    async def join(self) -> None:
        """Returns when the group has a position in every partition."""
        await self._membership.join()

    async def run(self) -> None:
        """Handle events until `stop`. Raises what cannot be mended by joining again."""
        try:
            await self._membership.keep(self._session)
        finally:
            self._threads.close()

    def stop(self, drain_seconds: float) -> None:
        """Let `run` end, when the calls under way have ended and are committed, or that time is over."""
        self._drain_seconds = drain_seconds
        self._membership.stopping.set()

    async def _session(self) -> None:
        self._fault = asyncio.get_running_loop().create_future()
        parts: list[asyncio.Future[None]] = [
            *(asyncio.ensure_future(part) for part in (self._read(), self._committer.run(), self._alarms.run())),
            self._fault,
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
            await self._calls.close(self._drain_seconds)  # the reader has ended, for it was asked to
            await self._committer.flush()
        finally:
            await cancel(parts)
            self._committer.forget()
            self._alarms.clear()
            await self._calls.abandon()

    async def _read(self) -> None:
        while (poll := await self._poll()) is not None:
            if poll.lost & poll.gained.keys():
                # Lost to a fence, and granted again since. What is under way was begun under the earlier grant, and a
                # transaction that is begun now would commit it under the new one.
                raise FencedError(f"partitions {sorted(poll.lost & poll.gained.keys())} were somebody else's meanwhile")
            if poll.lost:
                await self._hand_over(poll.lost)
            for partition, positions in poll.gained.items():
                if self._states is not None:
                    self._states.restore(partition, await self._membership.group.state(partition))
                self._committer.gain(partition, positions[self._handler.stream])
            for (_, partition), n in poll.expired.items():
                self._committer.expire(partition, n)
            for batch in poll.batches:
                segment = Segment(batch, self._handler.topics, self._addressed(batch))
                self._committer.read(segment)
                self._calls.add(segment)
                if self._states is not None and (woken := self._states.ring(batch)) is not None:
                    self._calls.add(woken)
            self._turn.clear()
            self._calls.start()
            if self._committer.is_committing or not self._calls.have_room:
                await self._turn_comes()

    def _addressed(self, batch: Batch) -> Addressed | None:
        its = addressed(batch, self.name)
        return its.without_resets() if its is not None and self._states is None else its

    async def _turn_comes(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TURN_SECONDS):
                await self._turn.wait()

    async def _poll(self) -> Poll | None:
        """The next poll; None when the worker stops."""
        group, stopping = self._membership.group, self._membership.stopping
        while self._committer.is_full and not stopping.is_set:
            self._room.clear()
            poll = await unless(group.poll(_POLL_BYTES, pause=True), self._room, stopping)
            if poll is not None:
                return poll
        return await unless(group.poll(_POLL_BYTES), stopping)

    async def _hand_over(self, lost: frozenset[int]) -> None:
        """Another member waits for these partitions: commit what was begun, and release them."""
        self._committer.close(lost)
        self._calls.drop()
        await self._calls.finish(lost, _RELEASE_SECONDS)
        await self._committer.flush()
        self._committer.drop(lost)
        await self._membership.group.release(lost)

    def _committed(self) -> None:
        self._turn.set()
        if not self._committer.is_full:
            self._room.set()
        self._calls.start()

    def _failed(self, error: BaseException) -> None:
        if not self._fault.done():
            self._fault.set_exception(error)


def make_caller(handler: Handler, context: Context, threads: Threads, states: States | None = None) -> Caller:
    """The way to call this handler. `states`: what it keeps of keys, if it does."""
    signature, levels, given = handler.signature, Levels(handler.levels), context.resources.given(handler.group)
    results = Results(handler.group, handler.into, levels)
    under_way = context.under_way(handler.group)
    if signature.per_batch:
        arguments = BatchArguments(signature, levels, given)
        whole = function_of_batches(signature, levels, results, given, threads)
        return Batches(whole, arguments, threads, handler.batch, handler.concurrency, under_way)
    state = None if states is None else states.begin
    function = function_of_events(signature, levels, results, given, threads, state)
    if states is not None:
        wake = handler.wake
        woken = None if wake is None else function_of_events(wake, levels, results, given, threads, state)
        function = StatefulFunction(function, woken, states)
    if signature.is_async:
        return AsyncEvents(function, handler.concurrency, under_way)
    return ThreadedEvents(function, threads, context.clock.monotonic, handler.concurrency)
