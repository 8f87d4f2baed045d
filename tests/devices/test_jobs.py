"""Jobs in the registry, over every database."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from tests.devices.conftest import OpenRegistry
from tests.devices.test_registry import change

from millstream.devices import Definition, Name, Registry, lifecycle
from millstream.devices.job import JobDevice, JobGiven, JobOutcome, JobStatus
from millstream.devices.jobs import Jobs
from millstream.errors import DeviceError, QueryError, UnknownJobError


def given(**said: Any) -> JobGiven:
    return msgspec.convert(said, JobGiven)


REBOOT = given(query="tags.site = 'a'", method={"name": "reboot"})


@pytest.fixture
async def jobs(registry: Registry) -> Jobs:
    """Of a registry with 1,500 devices at one site and one elsewhere."""
    those = [Definition(Name(f"d{n:04}"), change(tags={"site": "a"})) for n in range(1_500)]
    await registry.put_many([*those, Definition(Name("other"), change())])
    return Jobs(registry)


async def test_a_job_has_the_devices_of_its_query(jobs: Jobs, registry: Registry) -> None:
    job = await jobs.make(REBOOT, by="ann")
    assert (job.status, job.counts, job.by) == (JobStatus.SCHEDULED, {}, "ann")
    await jobs.begin(job)
    job = await jobs.get(job.id)
    assert (job.status, job.counts, job.given) == (JobStatus.RUNNING, {"waiting": 1_500}, REBOOT)
    page = await jobs.devices(job.id, JobOutcome.WAITING, "d0998", 2)
    assert [str(each.name) for each in page] == ["d0999", "d1000"]
    done = [JobDevice(name=each.name, outcome=JobOutcome.DONE, detail="ok") for each in page]
    await jobs.note(job.id, done)
    assert await jobs.devices(job.id, JobOutcome.DONE) == done
    await jobs.finish(job.id)
    assert [each.status for each in await jobs.page()] == [JobStatus.FINISHED]
    assert await jobs.unfinished() == []
    waiting = await registry.database.read(lambda connection: lifecycle.waiting(connection, registry.id, 1_501, 10))
    (created, ended) = [event for _, event in waiting]
    assert (created.topic, ended.topic) == (f"$jobs/{job.id}/created", f"$jobs/{job.id}/finished")
    assert (created.data["by"], created.data["action"]) == ("ann", "method")
    assert ended.data["outcomes"] == {"done": 2, "waiting": 1_498}


async def test_what_was_under_way_when_a_server_died_is_unknown(jobs: Jobs, open_registry: OpenRegistry) -> None:
    job = await jobs.make(REBOOT)
    await jobs.begin(job)
    await jobs.note(job.id, [JobDevice(name=Name("d0000"), outcome=JobOutcome.RUNNING)])
    again = Jobs(await open_registry())
    (found,) = await again.unfinished()
    assert found.given == job.given
    await again.begin(found)
    assert (await again.get(job.id)).counts == {"unknown": 1, "waiting": 1_499}


async def test_devices_that_were_half_chosen_are_chosen_anew(jobs: Jobs) -> None:
    job = await jobs.make(REBOOT)
    await jobs.begin(job)
    await jobs.begin(job)  # as one that a server has left before it ran
    assert (await jobs.get(job.id)).counts == {"waiting": 1_500}


async def test_a_job_that_is_cancelled_while_its_devices_are_chosen_stays_so(jobs: Jobs) -> None:
    job = await jobs.make(REBOOT)
    await asyncio.gather(jobs.begin(job), jobs.cancel(job.id))
    found = await jobs.get(job.id)
    assert (found.status, found.counts) == (JobStatus.CANCELLED, {"cancelled": 1_500})


async def test_a_job_is_cancelled_and_deleted(jobs: Jobs) -> None:
    job = await jobs.make(REBOOT)
    await jobs.begin(job)
    with pytest.raises(DeviceError, match="cancel it first"):
        await jobs.delete(job.id)
    cancelled = await jobs.cancel(job.id, "ann")
    assert (cancelled.status, cancelled.counts) == (JobStatus.CANCELLED, {"cancelled": 1_500})
    assert await jobs.cancel(job.id) == cancelled
    await jobs.finish(job.id)
    assert await jobs.get(job.id) == cancelled, "it has ended before"
    await jobs.delete(job.id)
    for attempt in (jobs.get(job.id), jobs.cancel(job.id), jobs.delete(job.id), jobs.devices(job.id)):
        with pytest.raises(UnknownJobError):
            await attempt


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, "one of method, twin and command"),
        ({"method": {"name": "a"}, "twin": {}}, "one of method"),
        ({"method": {"name": "a/b"}}, "method id"),
        ({"method": {"name": "a", "response_timeout": 301}}, "0 to 300"),
        ({"command": {"payload": "x" * 70_000}}, "payload"),
        ({"command": {"ttl": 0}}, "lives for"),
        ({"twin": {"desired": {"a b": 1}}}, "names have no"),
        ({"twin": {"tags": {"a": "x" * 9_000}}}, "tags of"),
        ({"twin": {}, "concurrency": 0}, "concurrency"),
        ({"twin": {}, "attempts": 21}, "attempts"),
        ({"twin": {}, "retry_seconds": 0}, "retry_seconds"),
    ],
)
async def test_impossible_jobs_are_told(registry: Registry, said: dict[str, Any], told: str) -> None:
    with pytest.raises(DeviceError, match=told):
        await Jobs(registry).make(given(**said))


async def test_a_wrong_query_is_told_at_once(registry: Registry) -> None:
    with pytest.raises(QueryError, match="no field"):
        await Jobs(registry).make(given(query="site = 'a'", twin={}))
