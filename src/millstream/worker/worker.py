"""Runs everything that an app declares: one processor for each handler and query, and its subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from millstream.app import App, Query
from millstream.clock import Clock
from millstream.cores import usable_cores
from millstream.log import Log
from millstream.settings import Settings
from millstream.worker.context import Context
from millstream.worker.devices import Fleet
from millstream.worker.handler import HandlerProcessor
from millstream.worker.measures import Measures
from millstream.worker.query import QueryProcessor
from millstream.worker.references import Histories, ReferenceProcessor, histories_of
from millstream.worker.resources import Resources
from millstream.worker.subscriber import Subscriber
from millstream.worker.tasks import cancel
from millstream.worker.topics import Topics
from millstream.worker.turns import Turns
from millstream.worker.watch import Watch

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from millstream.engine import Parsing, WindowPlan
    from millstream.engine.scratch import Room
    from millstream.worker.traces import Traces


class _Processor(Protocol):
    name: str

    async def join(self) -> None: ...

    async def run(self) -> None: ...

    def stop(self, drain_seconds: float) -> None: ...


class Worker:
    """One instance of an app. Others, in other processes, share its work.

    `start` makes the app's streams, joins all its groups and begins to process; `run` returns when the worker has been
    stopped, and raises what it cannot go on after; `stop` finishes what is under way, commits it and leaves. As a
    context manager it is started, and stopped at the end. `watch` is told what its processors do; `measures` are those
    of the process, which outlive it; without a `tracer`, nothing is traced.

    `resources` are the app's, open; without them the worker opens its own, and closes them when `run` ends. `devices`
    is then its way to devices.
    """

    def __init__(
        self,
        app: App,
        log: Log,
        topics: Topics,
        clock: Clock,
        settings: Settings,
        *,
        resources: Resources | None = None,
        devices: Fleet | None = None,
        watch: Watch | None = None,
        measures: Measures | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._resources = resources or Resources(app, clock, devices)
        self._owned = AsyncExitStack()
        self._is_owner = resources is None
        self._context = Context(
            log,
            topics,
            clock,
            app.streams,
            self._resources,
            watch or Watch(),
            measures or Measures(),
            _traces_with(tracer),
        )
        cores = usable_cores()
        self._turns = Turns(cores if len(app.queries) > cores else None)
        self._processors: list[_Processor] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Returns when every processor has joined its group: what is published from now on, it gets.

        `AppError` with everything that is wrong in the app, or with what fails in its lifespan;
        `StreamMismatchError` where a stream exists with another key or another number of partitions."""
        plans = self._app.plan()
        self._context.want(spec for plan in plans.values() if (spec := plan.internal) is not None)
        await self._context.prepare()
        async with AsyncExitStack() as undo:
            if self._is_owner:
                await undo.enter_async_context(self._resources)
            self._processors = self._make_processors(plans)
            await self._join()
            self._owned = undo.pop_all()
        self._tasks = [asyncio.create_task(processor.run(), name=processor.name) for processor in self._processors]

    async def run(self) -> None:
        """Return when the worker has been stopped. Raises what ends a processor: a fault of the disk, a closed log."""
        async with self._owned:
            try:
                await asyncio.gather(*self._tasks)
                if not self._tasks:  # an app that only answers when it is asked
                    await self._stopped.wait()
            finally:
                await cancel(self._tasks)

    async def stop(self, drain: timedelta | None = None) -> None:
        """Begin nothing more, wait for what is under way (by default as long as the settings say), commit, leave."""
        seconds = (self._settings.drain_timeout if drain is None else drain).total_seconds()
        self._stopped.set()
        for processor in self._processors:
            processor.stop(seconds)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _make_processors(self, plans: Mapping[str, WindowPlan]) -> list[_Processor]:
        handlers, subscriptions = self._app.processors()
        references = self._app.references
        histories = histories_of(self._context.log, references)
        made: list[_Processor] = []
        if references:  # before the queries, which look up what is recorded
            made.append(ReferenceProcessor(references.values(), plans.values(), self._context, histories))
        return [
            *made,
            *(HandlerProcessor(handler, self._context) for handler in handlers),
            *self._make_queries(plans, histories),
            *(Subscriber(subscription, self._context) for subscription in subscriptions),
        ]

    async def _join(self) -> None:
        joined: list[_Processor] = []
        try:
            for processor in self._processors:
                await processor.join()
                joined.append(processor)
        except BaseException:
            await _leave(joined)
            raise

    def _make_queries(self, plans: Mapping[str, WindowPlan], histories: Histories) -> list[QueryProcessor]:
        if not self._app.queries:
            return []
        from millstream.engine import parsings  # an app without queries does not need DuckDB
        from millstream.engine.scratch import Room, Scratch

        folder = self._settings.data if self._settings.data.is_dir() else None
        scratch = Scratch(self._settings.state_memory, folder)
        shared = parsings(plans[query.name] for query in self._app.queries)
        return [
            self._query(query, plans[query.name], histories, shared.get(query.name), Room(scratch))
            for query in self._app.queries
        ]

    def _query(
        self, query: Query, plan: WindowPlan, histories: Histories, parsing: Parsing | None, room: Room
    ) -> QueryProcessor:
        from millstream.engine import processor_of

        self._context.measures.of(query.name).room = room
        processor = processor_of(plan, parsing, room)
        number = len(self._app.queries)
        return QueryProcessor(
            query,
            plan.reads,
            processor,
            self._context,
            plan.lookups,
            histories,
            plan.looks_at,
            queries=number,
            turns=self._turns,
        )

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


def _traces_with(tracer: Tracer | None) -> Traces | None:
    if tracer is None:
        return None
    from millstream.worker.traces import Traces

    return Traces(tracer)
