"""The calls of a handler that are under way: takes events from the lanes, and settles what became of each.

An event that was handled is completed. One that failed is tried again when its delay is over, and its key waits
with it; after the last try it is completed as a dead letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from millstream.app import Handler
from millstream.clock import Clock
from millstream.errors import PayloadError
from millstream.worker.alarms import Alarms
from millstream.worker.arguments import event_of
from millstream.worker.bisect import Failure
from millstream.worker.call import Caller, Ran
from millstream.worker.committer import Committer
from millstream.worker.complaints import Complaints
from millstream.worker.deadletter import dead_letter
from millstream.worker.lanes import Lanes, Take
from millstream.worker.measures import ProcessorMeasures
from millstream.worker.patience import Patience, Verdict
from millstream.worker.segment import Item, Segment, caused_by
from millstream.worker.tasks import cancel, first_of

_YIELD_EVERY = 16  # calls in the event loop, until others have their turn


class Calls:
    """As many at a time as the caller allows. `failed` is told of an error that is not the handler's."""

    def __init__(
        self,
        handler: Handler,
        caller: Caller,
        committer: Committer,
        alarms: Alarms,
        complaints: Complaints,
        clock: Clock,
        measures: ProcessorMeasures,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._handler = handler
        self._caller = caller
        self._committer = committer
        self._alarms = alarms
        self._complaints = complaints
        self._clock = clock
        self._measures = measures
        self._failed = failed
        self._lanes = Lanes()
        self._patience = Patience(handler.retry)
        self._running: dict[asyncio.Task[None], Take | None] = {}
        self._settled = asyncio.Event()  # a call has ended
        self._closed = False

    def add(self, segment: Segment) -> None:
        """Events that were read."""
        self._lanes.add(segment)

    def start(self) -> None:
        """Call the handler with what waits, as far as it may run now."""
        while self.have_room:
            take = self._take()
            if take is None:
                return
            task = asyncio.create_task(self._work(take))
            self._running[task] = take
            task.add_done_callback(self._ended)

    @property
    def have_room(self) -> bool:
        """Whether one more could begin now."""
        return len(self._running) < self._caller.at_a_time

    def drop(self) -> None:
        """Forget the events of closed segments, except those that are called with now."""
        self._lanes.drop()
        self._patience.drop()

    async def finish(self, partitions: frozenset[int], seconds: float) -> None:
        """Wait until no call has events of these partitions. After a time, cancel those that have no others: what comes
        of the rest is thrown away as far as it is of these partitions."""
        await first_of(self._until_none_concerns(partitions), self._clock.sleep(seconds))
        await cancel([task for task, take in self._running.items() if take and take.concerns_only(partitions)])

    async def close(self, seconds: float) -> None:
        """Begin no more calls, and wait for those under way; after a time, cancel them."""
        self._closed = True
        if tasks := list(self._running):
            await first_of(asyncio.wait(tasks), self._clock.sleep(seconds))
            await cancel(tasks)

    async def abandon(self) -> None:
        """Cancel all calls. Their events were dropped before."""
        await cancel(self._running)
        self.drop()

    def _take(self) -> Take | None:
        if self._closed or not self._committer.has_room_for_outputs:
            return None
        return self._lanes.take(self._caller.limit)

    async def _work(self, first: Take) -> None:
        take: Take | None = first
        task = asyncio.current_task()
        assert task is not None
        turns = 0
        while take is not None:
            self._running[task] = take
            began = self._clock.monotonic()
            ran = await self._caller.run(take.items, last_try=self._patience.is_last_try(take.items))
            self._measure(take, ran, self._clock.monotonic() - began)
            self._settle(take, ran)
            self._running[task] = None
            self._settled.set()
            turns += 1
            if turns % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            take = self._take()
        del self._running[task]  # at once: whoever brings more events starts another task

    def _measure(self, take: Take, ran: Ran, seconds: float) -> None:
        events = len(take.items) - len(ran.left)
        self._measures.called(seconds, events, 1 if self._handler.signature.per_batch else events)
        for failure in ran.failures:
            self._measures.errors += len(failure.items)

    def _settle(self, take: Take, ran: Ran) -> None:
        self._committer.complete((item for item in ran.done if not item[0].dropped), "processed")
        for item, events in ran.outputs:
            if not item[0].dropped:
                self._committer.publish(events if self._handler.signature.per_batch else caused_by(item, events))
        self._patience.succeeded(ran.done)
        again: list[Item] = []
        for failure in ran.failures:
            again += self._settle_failure(failure)
        self._lanes.finish(take, again=again, left=ran.left)

    def _settle_failure(self, failure: Failure) -> list[Item]:
        """The events that are to be tried again."""
        by_verdict: dict[Verdict, list[Item]] = {}
        for item in failure.items:
            if not item[0].dropped:
                verdict = self._patience.failed(item, final=failure.final)
                by_verdict.setdefault(verdict, []).append(item)
        again = []
        for verdict, items in by_verdict.items():
            if verdict.seconds is None:
                self._give_up(items, failure.error, verdict.attempt)
            else:
                self._try_later(items, failure.error, verdict.attempt, verdict.seconds)
                again += items
        return again

    def _give_up(self, items: list[Item], error: BaseException, attempt: int) -> None:
        tries = "1 try" if attempt == 1 else f"{attempt} tries"
        what = "not woken" if items[0][0].is_wake else "kept in the dead letters"
        self._complaints.failed(_where(items), error, f"{what} after {tries}")
        reason = str(error) if isinstance(error, PayloadError) else f"the handler failed after {tries}"
        for item in items:
            if item[0].is_wake:
                self._committer.give_up(item)
                continue
            self._committer.bury(
                dead_letter(event_of(item), group=self._handler.group, reason=reason, error=error, attempts=attempt)
            )
        self._committer.complete(items, "dead-lettered")

    def _try_later(self, items: list[Item], error: BaseException, attempt: int, seconds: float) -> None:
        what = f"tried again in {seconds:g} s (try {attempt} of {self._handler.retry.attempts})"
        self._complaints.failed(_where(items), error, what)
        self._measures.retries += len(items)
        self._alarms.after(seconds, partial(self._again, items))

    def _again(self, items: list[Item]) -> None:
        for item in items:
            self._lanes.retry(item)
        self.start()

    async def _until_none_concerns(self, partitions: frozenset[int]) -> None:
        """A task goes on with other events after a call, so it is not for the end of the task that this waits."""
        while any(take.concerns(partitions) for take in self._running.values() if take):
            self._settled.clear()
            await self._settled.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        take = self._running.pop(task, None)
        self._settled.set()
        if take is not None:  # it was cancelled, and whatever it had is closed
            self._lanes.finish(take)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)


def _where(items: list[Item]) -> str:
    first = event_of(items[0]).position
    return first if len(items) == 1 else f"{first} and {len(items) - 1} more events"
