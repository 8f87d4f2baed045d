"""Runs everything that an app declares: one processor for each handler and query, and its subscriptions."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from millstream.app import App, Query
from millstream.clock import Clock
from millstream.log import Log
from millstream.settings import Settings
from millstream.worker.context import Context
from millstream.worker.handler import HandlerProcessor
from millstream.worker.query import QueryProcessor
from millstream.worker.subscriber import Subscriber
from millstream.worker.tasks import cancel
from millstream.worker.topics import Topics
from millstream.worker.watch import Watch

if TYPE_CHECKING:
    from millstream.engine import TumblingPlan


class _Processor(Protocol):
    name: str

    async def join(self) -> None: ...

    async def run(self) -> None: ...

    def stop(self, drain_seconds: float) -> None: ...


class Worker:
    """One instance of an app. Others, in other processes, share its work.

    `start` makes the app's streams, joins all its groups and begins to process; `run` returns when the worker has been
    stopped, and raises what it cannot go on after; `stop` finishes what is under way, commits it and leaves. As a
    context manager it is started, and stopped at the end. `watch` is told what its processors do.
    """

    def __init__(
        self, app: App, log: Log, topics: Topics, clock: Clock, settings: Settings, watch: Watch | None = None
    ) -> None:
        self._app = app
        self._settings = settings
        self._context = Context(log, topics, clock, app.streams, watch or Watch())
        self._processors: list[_Processor] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when every processor has joined its group: what is published from now on, it gets.

        `AppError` with everything that is wrong in the app; `StreamMismatchError` where a stream exists with another
        key or another number of partitions."""
        plans = self._app.plan()
        await self._context.prepare()
        self._processors = [
            *(HandlerProcessor(handler, self._context) for handler in self._app.handlers),
            *(self._query(query, plans[query.name]) for query in self._app.queries),
            *(Subscriber(subscription, self._context) for subscription in self._app.subscriptions),
        ]
        joined: list[_Processor] = []
        try:
            for processor in self._processors:
                await processor.join()
                joined.append(processor)
        except BaseException:
            await _leave(joined)
            raise
        self._tasks = [asyncio.create_task(processor.run(), name=processor.name) for processor in self._processors]

    async def run(self) -> None:
        """Return when the worker has been stopped. Raises what ends a processor: a fault of the disk, a closed log."""
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await cancel(self._tasks)

    async def stop(self, drain: timedelta | None = None) -> None:
        """Begin nothing more, wait for what is under way (by default as long as the settings say), commit, leave."""
        seconds = (self._settings.drain_timeout if drain is None else drain).total_seconds()
        for processor in self._processors:
            processor.stop(seconds)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _query(self, query: Query, plan: TumblingPlan) -> QueryProcessor:
        from millstream.engine import TumblingQuery  # an app without queries does not need DuckDB

        return QueryProcessor(query, [plan.stream], TumblingQuery(plan), self._context)

    async def __aenter__(self) -> Worker:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        await self.run()


async def _leave(processors: list[_Processor]) -> None:
    """Leave the groups that were joined, without processing anything."""
    for processor in processors:
        processor.stop(0)
        await processor.run()
