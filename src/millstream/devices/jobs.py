"""The registry's jobs: what there is, which devices each has, and what became of them, with the events about it.

A device is marked as running before anything is done to it. So a server that dies leaves it as unknown, and nothing
happens to it twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from millstream.actor import By, name_of
from millstream.clock import Micros, to_text
from millstream.devices import job_store as store
from millstream.devices.job import Job, JobDevice, JobGiven, JobOutcome, JobStatus
from millstream.devices.lifecycle import JOBS
from millstream.devices.name import Name
from millstream.devices.query import translate
from millstream.devices.registry import Registry
from millstream.devices.work import Work
from millstream.errors import DeviceError, UnknownJobError

_AT_ONCE = 1_000  # devices that are chosen in a transaction
_MOST_UNFINISHED = 100


class Jobs:
    """Those of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def make(self, given: JobGiven, by: By = None) -> Job:
        """A new job; nothing runs yet. `DeviceError` or `QueryError`: it is impossible."""
        given.check()
        if given.query is not None:
            translate(given.query, self._registry.database.dialect)

        def write(work: Work) -> Job:
            if len(store.unfinished_jobs(work.connection)) >= _MOST_UNFINISHED:
                raise DeviceError(f"{_MOST_UNFINISHED} jobs are not finished, and there may be no more; cancel one")
            job_id, who = secrets.token_hex(8), name_of(by)
            job = Job(id=job_id, given=given, status=JobStatus.SCHEDULED, by=who, created=work.now)
            store.add_job(work.connection, job)
            _tell(work, job.id, "created", {"query": given.query, "action": _action(given)})
            return job

        return await self._registry.transact([], by, write)

    async def get(self, job_id: str) -> Job:
        """One, with the counts of its devices. `UnknownJobError`."""
        found = await self._registry.database.read(lambda connection: store.find_job(connection, job_id))
        if found is None:
            raise _unknown(job_id)
        return found

    async def page(self, before: Micros | None = None, limit: int = 100) -> list[Job]:
        """The latest ones first, without counts."""
        return await self._registry.database.read(lambda connection: store.page_of_jobs(connection, before, limit))

    async def unfinished(self) -> list[Job]:
        """Those that go on."""
        return await self._registry.database.read(store.unfinished_jobs)

    async def devices(
        self, job_id: str, outcome: JobOutcome | None = None, after: str = "", limit: int = 100
    ) -> list[JobDevice]:
        """Some of its devices, by id, behind one. `UnknownJobError`."""
        await self.get(job_id)
        return await self._registry.database.read(
            lambda connection: store.page_of_devices(connection, job_id, outcome, after, limit)
        )

    async def begin(self, job: Job) -> None:
        """Choose its devices, as they are now, or go on with a job that a server has left: what was under way then is
        unknown."""
        if job.ended is not None:
            return
        if job.status is JobStatus.RUNNING:
            await self._write(
                lambda connection: store.turn_outcomes(connection, job.id, JobOutcome.RUNNING, JobOutcome.UNKNOWN)
            )
            return
        await self._write(lambda connection: store.forget_devices(connection, job.id))
        after = Name("")
        while page := await self._registry.page(job.given.query, after, _AT_ONCE):
            await self._add(job.id, [device.name for device in page])
            after = page[-1].name
        await self._write(lambda connection: _set_running(connection, job.id))

    async def note(self, job_id: str, those: Sequence[JobDevice]) -> None:
        """What becomes of some of its devices."""
        await self._write(lambda connection: store.set_outcomes(connection, job_id, those))

    async def finish(self, job_id: str) -> None:
        """Everything is done."""
        await self._registry.transact([], None, lambda work: _end(work, job_id, JobStatus.FINISHED))

    async def cancel(self, job_id: str, by: By = None) -> Job:
        """Do nothing more for those that wait. `UnknownJobError`; nothing happens to one that has ended."""
        await self._registry.transact([], by, lambda work: _end(work, job_id, JobStatus.CANCELLED))
        return await self.get(job_id)

    async def delete(self, job_id: str, by: By = None) -> None:
        """Forget one that has ended. `UnknownJobError`. `DeviceError`: it goes on."""

        def write(work: Work) -> None:
            if _find(work.connection, job_id).ended is None:
                raise DeviceError(f"job {job_id!r} goes on; cancel it first")
            store.delete_job(work.connection, job_id)
            work.mark({"job": job_id})

        await self._registry.transact([], by, write)

    async def _add(self, job_id: str, names: list[Name]) -> None:
        await self._write(lambda connection: store.add_devices(connection, job_id, names))

    async def _write(self, act: Any) -> None:
        await self._registry.database.write(act)


def _set_running(connection: Connection, job_id: str) -> None:
    """Unless it was cancelled while its devices were chosen."""
    if _find(connection, job_id).ended is None:
        store.set_status(connection, job_id, JobStatus.RUNNING)
    else:
        store.turn_outcomes(connection, job_id, JobOutcome.WAITING, JobOutcome.CANCELLED)


def _end(work: Work, job_id: str, status: JobStatus) -> None:
    job = _find(work.connection, job_id)
    if job.ended is not None:
        return
    if status is JobStatus.CANCELLED:
        store.turn_outcomes(work.connection, job_id, JobOutcome.WAITING, JobOutcome.CANCELLED)
    store.set_status(work.connection, job_id, status, work.now)
    _tell(work, job_id, status.value, {"outcomes": _find(work.connection, job_id).counts})


def _find(connection: Connection, job_id: str) -> Job:
    found = store.find_job(connection, job_id)
    if found is None:
        raise _unknown(job_id)
    return found


def _tell(work: Work, job_id: str, what: str, more: dict[str, Any]) -> None:
    data = {"job": job_id, "time": to_text(work.now), **more, **work.details}
    work.tell(f"{JOBS.name}/{job_id}/{what}", f"millstream.job.{what}", data)


def _action(given: JobGiven) -> str:
    return next(name for name in ("method", "twin", "command") if getattr(given, name) is not None)


def _unknown(job_id: str) -> UnknownJobError:
    return UnknownJobError(f"there is no job {job_id!r}")
