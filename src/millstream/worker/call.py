"""Calls a handler with events it has taken, and says what became of each.

One way for each kind of handler: `async` ones run in the event loop, others in a thread. In a thread many events are
called in one go, because the way there and back costs more than most handlers do; after a time limit the rest
is handed back, so that what is done can be committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from millstream.app.outbox import Outbox, current
from millstream.errors import PayloadError
from millstream.event import Event
from millstream.worker.batches import BatchArguments
from millstream.worker.bisect import Failure, Found, bisect
from millstream.worker.function import Function
from millstream.worker.segment import Item, key_of
from millstream.worker.threads import Threads
from millstream.worker.watch import UnderWay

_MOST_IN_A_GO = 1024  # the way to a thread and back is then less than a tenth of a microsecond an event
_GO_SECONDS = 0.010  # of many handlers' calls in a thread, until those that are done are reported
_MOST_IN_A_BATCH = 10_000  # events a call of a batch handler that does not say


@dataclass(slots=True)
class Ran:
    """What became of events that were taken: those that were handled, what they publish (by one of their events), those
    that failed, and those that were not begun or have to wait for one of their key that failed."""

    done: list[Item] = field(default_factory=list)
    outputs: list[tuple[Item, list[Event]]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left: list[Item] = field(default_factory=list)


class Caller(Protocol):
    """One way to call a handler."""

    at_a_time: int
    """How many `run`s may go on."""

    limit: int
    """How many events to take for the next one."""

    async def run(self, items: list[Item], *, last_try: bool) -> Ran:
        """Call the handler with events, in order. `last_try`: some of them are not tried again if they fail."""
        ...


class ThreadedEvents:
    """A function that is called for each event, in a thread. With a concurrency of 1 the thread takes many events in a
    go; with more, each goes its own way, so that none waits behind another key's slow call."""

    def __init__(
        self, function: Function[Item], threads: Threads, monotonic: Callable[[], float], concurrency: int = 1
    ) -> None:
        self.at_a_time = concurrency
        self._function = function
        self._threads = threads
        self._monotonic = monotonic
        self._most = _MOST_IN_A_GO if concurrency == 1 else 1
        self.limit = self._most

    async def run(self, items: list[Item], *, last_try: bool) -> Ran:
        ran = await self._threads.run(self._run, items)
        self.limit = max(1, len(items) - len(ran.left)) if ran.left else min(self._most, 2 * self.limit)
        return ran

    def _run(self, items: list[Item]) -> Ran:
        ran, outbox, blocked = Ran(), Outbox(), set[str]()
        current.set(outbox)
        call, done = self._function.call, ran.done.append
        until = self._monotonic() + _GO_SECONDS
        for number, item in enumerate(items):
            if blocked and key_of(item) in blocked:
                ran.left.append(item)
                continue
            try:
                events = call(item)
                if events or outbox.events:
                    ran.outputs.append((item, [*outbox.events, *events]))
                    outbox.events = []
            except PayloadError as error:
                outbox.events = []
                ran.failures.append(_failure([item], error))
            except (Exception, SystemExit) as error:
                outbox.events = []
                ran.failures.append(_failure([item], error))
                blocked.add(key_of(item))
            else:
                done(item)
            if self._monotonic() >= until:
                ran.left += items[number + 1 :]
                break
        outbox.closed = True
        return ran


class AsyncEvents:
    """A coroutine function, or an asynchronous generator, that is called for each event."""

    limit = 1

    def __init__(self, function: Function[Item], concurrency: int = 1, under_way: UnderWay = nullcontext) -> None:
        self.at_a_time = concurrency
        self._function = function
        self._under_way = under_way

    async def run(self, items: list[Item], *, last_try: bool) -> Ran:
        ran, (item,) = Ran(), items
        outbox = Outbox()
        current.set(outbox)
        try:
            with self._under_way():
                events = await self._function.call_in_loop(item)
            if events or outbox.events:
                ran.outputs.append((item, [*outbox.events, *events]))
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            ran.failures.append(_failure(items, _not_our_cancellation(error)))
        else:
            ran.done.append(item)
        finally:
            outbox.closed = True
        return ran


class Batches:
    """A function that is called for many events of a partition at once, in a thread unless it is a coroutine function.
    It takes whatever has come, and calls with up to `concurrency` partitions of it at a time."""

    at_a_time = 1

    def __init__(
        self,
        function: Function[list[Item]],
        arguments: BatchArguments,
        threads: Threads,
        most: int | None,
        concurrency: int,
        under_way: UnderWay = nullcontext,
    ) -> None:
        self._function = function
        self._arguments = arguments
        self._threads = threads
        self._under_way = under_way
        self._calls = asyncio.Semaphore(concurrency)
        self.limit = most or _MOST_IN_A_BATCH

    async def run(self, items: list[Item], *, last_try: bool) -> Ran:
        ran = Ran()
        by_partition: dict[int, list[Item]] = {}
        for item in items:
            by_partition.setdefault(item[0].partition, []).append(item)
        async with asyncio.TaskGroup() as group:
            for part in by_partition.values():
                group.create_task(self._run_partition(part, last_try, ran))
        if ran.failures:
            handled = {item for failure in ran.failures for item in failure.items}.union(ran.done)
            ran.left = [item for item in items if item not in handled]
        return ran

    async def _run_partition(self, items: list[Item], last_try: bool, ran: Ran) -> None:
        # As they stand in the partition; events of a key that waited come before others that were read earlier.
        items.sort(key=lambda item: item[0].offsets[item[1]])
        fit = self._fitting(items, ran)
        if not fit:
            return
        async with self._calls:
            found = await self._search(bisect(fit, thorough=last_try), ran)
        ran.done += found.done
        ran.failures += found.failures

    async def _search(self, search: Generator[list[Item], BaseException | None, Found], ran: Ran) -> Found:
        piece = next(search)
        while True:
            error = await self._call(piece, ran)
            try:
                piece = search.send(error)
            except StopIteration as stop:
                found: Found = stop.value
                return found

    def _fitting(self, items: list[Item], ran: Ran) -> list[Item]:
        fit = []
        for item in items:
            try:
                self._arguments.check(item)
                fit.append(item)
            except PayloadError as error:
                ran.failures.append(_failure([item], error))
        return fit

    async def _call(self, items: list[Item], ran: Ran) -> BaseException | None:
        outbox = Outbox()
        try:
            if self._function.is_async:
                current.set(outbox)
                with self._under_way():
                    events = await self._function.call_in_loop(items)
            else:
                events = await self._threads.run(self._call_in_thread, items, outbox)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            return _not_our_cancellation(error)
        finally:
            outbox.closed = True
        if outbox.events or events:
            ran.outputs.append((items[0], [*outbox.events, *events]))
        return None

    def _call_in_thread(self, items: list[Item], outbox: Outbox) -> list[Event]:
        current.set(outbox)
        return self._function.call(items)


def _failure(items: list[Item], error: BaseException) -> Failure:
    return Failure(items, error, final=isinstance(error, PayloadError))


def _not_our_cancellation(error: BaseException) -> BaseException:
    """A handler may fail because something that it awaited was cancelled. Our own cancellation goes on."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    return error
