"""Runs jobs: so many devices at a time, each marked before anything is done to it, and its outcome written after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from millstream.actor import By
from millstream.clock import SECOND, Clock, to_micros
from millstream.devices import Commands, Name, Twins
from millstream.devices.gathered import Gathered
from millstream.devices.job import Job, JobDevice, JobGiven, JobOutcome
from millstream.devices.jobs import Jobs
from millstream.errors import (
    DeviceOfflineError,
    DiskFullError,
    MillstreamError,
    OverloadError,
    RegistryUnavailableError,
)
from millstream.gateway.devices.methods import Call, Methods

_log = logging.getLogger(__name__)

_PAGE = 500  # devices that are at hand
_RETRY_SECONDS = 5.0  # while the registry does not answer
_MOST_DETAIL = 500  # characters

Note = Gathered[JobDevice, None]


class JobRunner:
    """Runs from `start` to `close`; what is not finished then goes on after the next start."""

    def __init__(self, jobs: Jobs, methods: Methods, twins: Twins, commands: Commands, clock: Clock) -> None:
        self._jobs = jobs
        self._methods = methods
        self._twins = twins
        self._commands = commands
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()  # of those that run

    async def start(self) -> None:
        """Go on with what an earlier server has left."""
        for job in await self._jobs.unfinished():
            self._run_soon(job)

    async def close(self) -> None:
        """Stop where they are."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def make(self, given: JobGiven, by: By) -> Job:
        """A new job, which runs at once. See `Jobs.make`."""
        job = await self._jobs.make(given, by)
        self._run_soon(job)
        return job

    async def cancel(self, job_id: str, by: By) -> Job:
        """Do nothing more for devices that wait; those under way come to their end."""
        cancelled = await self._jobs.cancel(job_id, by)
        if job_id in self._running:
            self._cancelled.add(job_id)
            start = cancelled.given.start
            if start is not None and to_micros(start) > self._clock.now():
                self._running[job_id].cancel()  # it only waits for its time
        return cancelled

    def _run_soon(self, job: Job) -> None:
        task = self._running[job.id] = asyncio.get_running_loop().create_task(self._run(job))
        task.add_done_callback(lambda done: self._ended(job.id))

    def _ended(self, job_id: str) -> None:
        del self._running[job_id]
        self._cancelled.discard(job_id)

    async def _run(self, job: Job) -> None:
        if job.given.start is not None:
            await self._clock.sleep((to_micros(job.given.start) - self._clock.now()) / SECOND)
        while job.id not in self._cancelled:
            try:
                await self._jobs.begin(job)
                await self._work(job)
                await self._jobs.finish(job.id)
                return
            except (RegistryUnavailableError, DiskFullError) as error:
                _log.error("job %s waits: %s", job.id, error)
                await self._clock.sleep(_RETRY_SECONDS)
                job = await self._again(job)
            except Exception:
                _log.exception("job %s has failed, and goes on after the next start", job.id)
                return

    async def _again(self, job: Job) -> Job:
        try:
            return await self._jobs.get(job.id)
        except MillstreamError:
            return job

    async def _work(self, job: Job) -> None:
        """Page by page; who is done is not waiting any more, so the next page begins behind the last device."""
        note: Note = Gathered(self._noting(job.id), 2 * _PAGE)
        room = asyncio.Semaphore(job.given.concurrency)
        after = ""
        under_way: set[asyncio.Task[None]] = set()
        try:
            while job.id not in self._cancelled and (
                page := await self._jobs.devices(job.id, JobOutcome.WAITING, after, _PAGE)
            ):
                for device in page:
                    await room.acquire()
                    _raise_failed(under_way)
                    task = asyncio.get_running_loop().create_task(self._do(job, device.name, note, room))
                    under_way.add(task)
                after = page[-1].name.device
            await asyncio.gather(*under_way)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _do(self, job: Job, name: Name, note: Note, room: asyncio.Semaphore) -> None:
        try:
            if job.id in self._cancelled:
                return
            await note.do(JobDevice(name=name, outcome=JobOutcome.RUNNING))
            try:
                detail = await self._attempt(job, name)
                outcome = JobDevice(name=name, outcome=JobOutcome.DONE, detail=detail)
            except (RegistryUnavailableError, DiskFullError):
                raise
            except MillstreamError as error:
                outcome = JobDevice(name=name, outcome=JobOutcome.FAILED, detail=str(error)[:_MOST_DETAIL])
            await note.do(outcome)
        finally:
            room.release()

    async def _attempt(self, job: Job, name: Name) -> str | None:
        """Whether it was there is known for sure, so calling again does nothing twice."""
        for _ in range(job.given.attempts - 1):
            try:
                return await self._act(job, name)
            except (DeviceOfflineError, OverloadError):
                await self._clock.sleep(job.given.retry_seconds)
        return await self._act(job, name)

    async def _act(self, job: Job, name: Name) -> str | None:
        its, by = job.given, f"job {job.id}"
        if its.method is not None:
            payload = msgspec.json.encode(its.method.payload)
            times = (its.method.connect_timeout, its.method.response_timeout)
            answer = await self._methods.call(Call(name, its.method.name, payload, *times, by))
            return msgspec.json.encode(answer).decode()[:_MOST_DETAIL]
        if its.twin is not None:
            return f"desired version {(await self._twins.change(name, its.twin, by)).sides.desired.version}"
        assert its.command is not None
        payload = msgspec.json.encode(its.command.payload)
        return f"command {(await self._commands.queue(name, payload, its.command.ttl, by)).id}"

    def _noting(self, job_id: str) -> Callable[[Sequence[JobDevice]], Awaitable[Sequence[Exception | None]]]:
        async def note(those: Sequence[JobDevice]) -> list[Exception | None]:
            await self._jobs.note(job_id, those)
            return [None] * len(those)

        return note


def _raise_failed(tasks: set[asyncio.Task[None]]) -> None:
    """Let go of those that have ended, and raise what one has failed with."""
    for task in [each for each in tasks if each.done()]:
        tasks.discard(task)
        task.result()
