"""The thread that writes.

It takes whatever transactions wait and commits them together: while one fsync runs, the next group gathers. So a quiet
system commits at once, and a busy one in large groups, with nothing to set. Between commits it runs what others
want from the writing connection, in the order of their coming.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import apsw

from millstream.errors import DiskFaultError, DiskFullError, LogClosedError
from millstream.log.contract import Committed
from millstream.log.sqlite.changes import Changes
from millstream.log.sqlite.schema import read_error
from millstream.log.sqlite.stage import Stage
from millstream.log.sqlite.store import Store

GROUP = 512  # transactions in a commit; more wait for the next one, so that acknowledgements keep coming

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Commit:
    changes: Callable[[], Changes]
    result: asyncio.Future[Committed]


@dataclass(slots=True)
class _Call:
    function: Callable[[Store], Any]
    result: asyncio.Future[Any]


_Job = _Commit | _Call


class Writer:
    """Commits and calls, one after the other. `committed` is called in the event loop with what each group commit
    changed, `fault` when the disk has failed; `full` is called in the thread when there is no room on the disk."""

    def __init__(
        self,
        store: Store,
        committed: Callable[[Stage], None],
        full: Callable[[], None],
        fault: Callable[[DiskFaultError], None],
    ) -> None:
        self._store = store
        self._committed = committed
        self._full = full
        self._on_fault = fault
        self._fault: DiskFaultError | None = None
        self._closed = False
        self._pending = 0
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """How many commits and calls have no outcome yet."""
        return self._pending

    def commit(self, changes: Callable[[], Changes]) -> asyncio.Future[Committed]:
        """Commit what `changes`, called in the thread, gives."""
        result: asyncio.Future[Committed] = self._loop.create_future()
        self._submit(_Commit(changes, result))
        return result

    def call(self, function: Callable[[Store], T]) -> asyncio.Future[T]:
        """Call a function in the thread, after everything that was submitted before."""
        result: asyncio.Future[T] = self._loop.create_future()
        self._submit(_Call(function, result))
        return result

    async def close(self) -> None:
        """Finish what was submitted, and end the thread."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _submit(self, job: _Job) -> None:
        if self._closed:
            raise LogClosedError("the log is closed")
        if self._fault is not None:
            raise self._fault
        self._pending += 1
        self._jobs.put(job)

    # --- in the thread

    def _run(self) -> None:
        while (jobs := self._take()) is not None:
            for kind, group in itertools.groupby(jobs, type):
                if kind is _Commit:
                    self._commit([job for job in group if isinstance(job, _Commit)])
                else:
                    self._call([job for job in group if isinstance(job, _Call)])

    def _take(self) -> list[_Job] | None:
        """What waits; None at the end."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        with suppress(queue.Empty):
            while job is not None:
                jobs.append(job)
                if len(jobs) == GROUP:
                    return jobs
                job = self._jobs.get_nowait()
            if jobs:
                self._jobs.put(None)  # see it again when these are done
        return jobs or None

    def _commit(self, jobs: Sequence[_Commit]) -> None:
        results: list[tuple[asyncio.Future[Any], Any]] = []
        waiting: list[asyncio.Future[Committed]] = []
        changes: list[Changes] = []
        stage = None
        for job in jobs:
            try:
                changes.append(job.changes())
                waiting.append(job.result)
            except Exception as error:
                results.append((job.result, error))
        try:
            if self._fault is not None:
                raise self._fault
            outcomes, stage = self._store.commit(changes)
            results.extend(zip(waiting, outcomes, strict=True))
        except Exception as error:
            self._note(error)
            results.extend((each, error) for each in waiting)
        self._deliver(results, stage)
        if stage is not None:
            self._checkpoint()

    def _call(self, jobs: Sequence[_Call]) -> None:
        for job in jobs:
            try:
                if self._fault is not None:
                    raise self._fault
                outcome = job.function(self._store)
            except apsw.Error as error:  # a write's are told by the store
                outcome = read_error("the log", error)
            except Exception as error:
                self._note(error)
                outcome = error
            self._deliver([(job.result, outcome)], None)

    def _checkpoint(self) -> None:
        try:
            self._store.checkpointer.run()
        except (DiskFullError, DiskFaultError) as error:
            self._note(error)

    def _note(self, error: Exception) -> None:
        if isinstance(error, DiskFullError):
            self._full()
        elif isinstance(error, DiskFaultError) and self._fault is None:
            _log.critical("%s", error)
            self._fault = error
            self._soon(self._on_fault, error)

    def _deliver(self, results: list[tuple[asyncio.Future[Any], Any]], stage: Stage | None) -> None:
        self._soon(self._resolve, results, stage)

    def _soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    # --- in the event loop

    def _resolve(self, results: list[tuple[asyncio.Future[Any], Any]], stage: Stage | None) -> None:
        self._pending -= len(results)
        for future, outcome in results:
            if future.done():  # who waited was cancelled
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        if stage is not None:
            self._committed(stage)
