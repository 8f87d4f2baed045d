"""Jobs as rows, within a transaction of somebody's."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, select, update

from millstream.clock import Micros
from millstream.devices.job import Job, JobDevice, JobGiven, JobOutcome, JobStatus
from millstream.devices.name import Name
from millstream.devices.tables import job_devices, jobs

_its = jobs.c
_of = job_devices.c


def add_job(connection: Connection, job: Job) -> None:
    """One that is not there."""
    row = {"id": job.id, "given": msgspec.json.encode(job.given), "status": job.status.value, "by": job.by}
    connection.execute(insert(jobs), {**row, "created": job.created})


def find_job(connection: Connection, job_id: str) -> Job | None:
    """One of them, with its counts."""
    row = connection.execute(select(jobs).where(_its.id == job_id)).mappings().first()
    if row is None:
        return None
    counting = select(_of.outcome, func.count()).where(_of.job == job_id).group_by(_of.outcome).order_by(_of.outcome)
    return _job(row, {outcome: int(count) for outcome, count in connection.execute(counting)})


def page_of_jobs(connection: Connection, before: Micros | None, limit: int) -> list[Job]:
    """The latest ones first, without counts."""
    query = select(jobs).order_by(_its.created.desc(), _its.id).limit(limit)
    if before is not None:
        query = query.where(_its.created < before)
    return [_job(row, {}) for row in connection.execute(query).mappings()]


def unfinished_jobs(connection: Connection) -> list[Job]:
    """Those that go on."""
    going = [JobStatus.SCHEDULED.value, JobStatus.RUNNING.value]
    query = select(jobs).where(_its.status.in_(going)).order_by(_its.created)
    return [_job(row, {}) for row in connection.execute(query).mappings()]


def set_status(connection: Connection, job_id: str, status: JobStatus, ended: Micros | None = None) -> None:
    """How far it is."""
    connection.execute(update(jobs).where(_its.id == job_id).values(status=status.value, ended=ended))


def delete_job(connection: Connection, job_id: str) -> None:
    """With what is known of its devices."""
    connection.execute(delete(job_devices).where(_of.job == job_id))
    connection.execute(delete(jobs).where(_its.id == job_id))


def add_devices(connection: Connection, job_id: str, names: Sequence[Name]) -> None:
    """They wait."""
    if names:
        outcome = JobOutcome.WAITING.value
        connection.execute(
            insert(job_devices), [{"job": job_id, "device": each.device, "outcome": outcome} for each in names]
        )


def forget_devices(connection: Connection, job_id: str) -> None:
    """They are chosen anew."""
    connection.execute(delete(job_devices).where(_of.job == job_id))


def page_of_devices(
    connection: Connection, job_id: str, outcome: JobOutcome | None, after: str, limit: int
) -> list[JobDevice]:
    """Some of its devices, by id, behind one."""
    query = select(job_devices).where(_of.job == job_id, _of.device > after).order_by(_of.device).limit(limit)
    if outcome is not None:
        query = query.where(_of.outcome == outcome.value)
    return [
        JobDevice(name=Name(row["device"]), outcome=JobOutcome(row["outcome"]), detail=row["detail"])
        for row in connection.execute(query).mappings()
    ]


def set_outcomes(connection: Connection, job_id: str, those: Sequence[JobDevice]) -> None:
    """What became of some."""
    change = (
        update(job_devices)
        .where(_of.job == job_id, _of.device == bindparam("d"))
        .values(outcome=bindparam("o"), detail=bindparam("t"))
    )
    if those:
        rows = [{"d": each.name.device, "o": each.outcome.value, "t": each.detail} for each in those]
        connection.execute(change, rows)


def turn_outcomes(connection: Connection, job_id: str, before: JobOutcome, after: JobOutcome) -> None:
    """All devices that have one outcome get another."""
    change = update(job_devices).where(_of.job == job_id, _of.outcome == before.value)
    connection.execute(change.values(outcome=after.value))


def _job(row: RowMapping, counts: dict[str, int]) -> Job:
    return Job(
        id=row["id"],
        given=msgspec.json.decode(row["given"], type=JobGiven),
        status=JobStatus(row["status"]),
        by=row["by"],
        created=row["created"],
        ended=row["ended"],
        counts=counts,
    )
