"""Jobs by HTTP: the same for all devices of a query."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from tests.support.devices import PRESS, SECRET, auth, change, connect
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of
from tests.support.mqtt import PATIENCE, RawClient

from millstream.clock import VirtualClock
from millstream.devices import Commands, Name, Registry, TwinChange, Twins
from millstream.devices.job import JobGiven
from millstream.devices.jobs import Jobs
from millstream.mqtt import packet as p


@pytest.fixture
async def http(site: Plant) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(site, auth=auth("ann")) as client:
        yield client


async def made(http: httpx.AsyncClient, **said: Any) -> str:
    response = await http.post("/jobs", json=said)
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/jobs/{response.json()['id']}"
    return str(response.json()["id"])


async def until(http: httpx.AsyncClient, job: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            found: dict[str, Any] = (await http.get(f"/jobs/{job}")).json()
            if holds(found):
                return found


async def finished(http: httpx.AsyncClient, job: str) -> dict[str, Any]:
    return await until(http, job, lambda its: its["status"] == "finished")


async def details(http: httpx.AsyncClient, job: str) -> dict[str, str]:
    found = (await http.get(f"/jobs/{job}/devices")).json()["devices"]
    return {each["device"]: each["detail"] for each in found}


async def serving(client: RawClient, status: int) -> None:
    """A device that answers every call."""
    while True:
        packet = await client.read_any()
        if isinstance(packet, p.Publish):
            await client.publish_and_forget(f"{packet.topic}/answer", b'{"status": %d}' % status)


async def test_a_method_is_called_on_all_devices_of_a_query(
    site: Plant, http: httpx.AsyncClient, registry: Registry
) -> None:
    for name in ("a", "b", "c", "d"):
        await registry.put(Name(name), SECRET)
    devices = [await connect(site, Name(name), client_id=name) for name in ("a", "b", "c")]
    for name, client in zip("abc", devices, strict=True):
        await client.subscribe(f"device/{name}/methods/+/+")
    answering = [asyncio.create_task(serving(client, 200 + number)) for number, client in enumerate(devices)]
    job = await made(http, query="id IN ('a', 'b', 'c', 'd')", method={"name": "reboot", "payload": {"delay": 5}})
    its = await finished(http, job)
    assert (its["devices"], its["outcomes"]) == (4, {"done": 3, "failed": 1})
    assert (its["by"], its["method"]["payload"]) == ("ann", {"delay": 5})
    told = await details(http, job)
    assert told["b"] == '{"status":201,"payload":null}'
    assert "not connected" in told["d"]
    (failed,) = (await http.get(f"/jobs/{job}/devices?outcome=failed&limit=1")).json()["devices"]
    assert failed["device"] == "d"
    assert [each["id"] for each in (await http.get("/jobs")).json()["jobs"]] == [job]
    for task in answering:
        task.cancel()
    await asyncio.gather(*answering, return_exceptions=True)


async def test_a_device_that_is_away_is_called_again(
    site: Plant, http: httpx.AsyncClient, registry: Registry, clock: VirtualClock
) -> None:
    job = await made(http, query="id = 'press-1'", method={"name": "reboot"}, attempts=3, retry_seconds=30)
    await until(http, job, lambda its: its["outcomes"] == {"running": 1})
    client = await connect(site)
    await client.subscribe("device/press-1/methods/+/+")
    answering = asyncio.create_task(serving(client, 200))
    while (await http.get(f"/jobs/{job}")).json()["status"] != "finished":
        await clock.advance(1)
    assert (await finished(http, job))["outcomes"] == {"done": 1}
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)


async def test_twins_are_changed_and_commands_queued(http: httpx.AsyncClient, registry: Registry) -> None:
    await registry.put(Name("away"), change())
    job = await made(http, twin={"desired": {"speed": 3}, "tags": {"batch": 7}}, concurrency=1)
    assert (await finished(http, job))["outcomes"] == {"done": 2}, "devices, and not their modules"
    twin = await Twins(registry).get(Name("away"))
    assert (twin.sides.desired.content, twin.device.tags) == ({"speed": 3}, {"batch": 7})
    job = await made(http, query="tags.batch = 7 AND id = 'away'", command={"payload": [1], "ttl": 60})
    assert (await finished(http, job))["devices"] == 1
    assert [each.payload for each in await Commands(registry).waiting(Name("away"))] == [b"[1]"]


async def test_a_job_waits_for_its_time_and_is_cancelled(
    http: httpx.AsyncClient, registry: Registry, clock: VirtualClock
) -> None:
    job = await made(http, twin={"desired": {"a": 1}}, start="2026-01-01T01:00:00Z")
    assert (await http.get(f"/jobs/{job}")).json()["status"] == "scheduled"
    other = await made(http, twin={"desired": {"b": 1}}, start="2026-01-01T01:00:00Z")
    cancelled = await http.post(f"/jobs/{other}/cancel")
    assert cancelled.json()["status"] == "cancelled"
    while (await http.get(f"/jobs/{job}")).json()["status"] != "finished":
        await clock.advance(60)
    assert (await Twins(registry).get(PRESS)).sides.desired.content == {"a": 1}
    assert (await http.delete(f"/jobs/{other}")).status_code == 204
    assert error_of(await http.get(f"/jobs/{other}"))[:2] == (404, "not_found")


async def test_a_cancelled_job_goes_no_further(
    site: Plant, http: httpx.AsyncClient, registry: Registry, clock: VirtualClock
) -> None:
    for number in range(5):
        await registry.put(Name(f"d{number}"), SECRET)
    client = await connect(site, Name("d0"))
    await client.subscribe("device/d0/methods/+/+")
    job = await made(http, query="starts_with(id, 'd')", method={"name": "slow"}, concurrency=1)
    call = await client.read(p.Publish)
    await http.post(f"/jobs/{job}/cancel")
    await client.publish_and_forget(f"{call.topic}/answer", b'{"status": 200}')
    its = await until(http, job, lambda its: "running" not in its["outcomes"])
    assert its["outcomes"] == {"cancelled": 4, "done": 1}


async def test_a_gateway_goes_on_with_what_another_one_has_left(plant: Plant, registry: Registry) -> None:
    jobs = Jobs(registry)
    job = await jobs.make(JobGiven(twin=TwinChange(desired={"speed": 3})))
    await plant.start()
    async with asyncio.timeout(PATIENCE):
        while (await jobs.get(job.id)).ended is None:
            pass
    assert (await Twins(registry).get(PRESS)).sides.desired.content == {"speed": 3}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"twin": {}, "query": "site = 1"},
        {"twin": {}, "start": "2026-01-01T01:00:00"},
        {"twin": {}, "start": "soon"},
        {"twin": {"reported": {}}},
        {"x": 1},
    ],
)
async def test_wrong_jobs_are_told(http: httpx.AsyncClient, said: dict[str, Any]) -> None:
    assert error_of(await http.post("/jobs", json=said))[0] == 400
    assert error_of(await http.get("/jobs/x/devices?outcome=fine"))[0] == 400
    assert error_of(await http.get("/jobs/x"))[0] == 404


@pytest.mark.parametrize("who", ["bob", "press-1"])
async def test_only_who_may_manage_has_jobs(http: httpx.AsyncClient, who: str) -> None:
    for method, path in [
        ("GET", "/jobs"),
        ("POST", "/jobs"),
        ("GET", "/jobs/x"),
        ("GET", "/jobs/x/devices"),
        ("POST", "/jobs/x/cancel"),
        ("DELETE", "/jobs/x"),
    ]:
        assert error_of(await http.request(method, path, auth=auth(who)))[0] == 403
