"""Health: ready tells whether events can be taken now, for every reason that they cannot."""

from __future__ import annotations

import asyncio

import httpx
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE

from millstream.errors import DiskFaultError, DiskFullError


def client_of(plant: Plant) -> httpx.AsyncClient:
    assert plant.gateway.http_address is not None
    host, port = plant.gateway.http_address
    return httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=PATIENCE)


async def told(client: httpx.AsyncClient) -> tuple[int, str]:
    """What `/health/ready` says; `/health/live` says in any case that it is alive."""
    assert (await client.get("/health/live")).json() == {"live": True}
    response = await client.get("/health/ready")
    if response.status_code == 200:
        assert response.json() == {"ready": True}
        return 200, ""
    assert response.headers["retry-after"] == "1"
    return response.status_code, response.json()["error"]["message"]


async def test_ready_as_long_as_commits_are_quick(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        assert await told(client) == (200, "")
        plant.log.gate.clear()
        waiting = asyncio.create_task(client.post("/topics/a", content=b"1"))
        await plant.log.waiting.wait()
        await plant.clock.advance(9)
        assert await told(client) == (200, "")
        await plant.clock.advance(3)
        assert await told(client) == (503, "a commit has been under way for 12 s; is the log well?")
        plant.log.gate.set()
        await waiting
        assert await told(client) == (200, "")


async def test_not_ready_while_the_disk_is_full_however_long_it_takes(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        plant.log.errors += [DiskFullError("the disk is full")] * 4
        waiting = asyncio.create_task(client.post("/topics/a", content=b"1"))
        await plant.until(lambda: plant.gateway.unready() is not None)
        for _ in range(3):
            assert await told(client) == (503, "the disk is full")
            before = len(plant.log.errors)
            while len(plant.log.errors) == before:
                await plant.clock.advance(0.25)
        assert await told(client) == (503, "the disk is full")
        await plant.clock.advance(8)
        assert (await waiting).status_code == 200
        assert await told(client) == (200, "")


async def test_not_ready_when_the_log_has_failed(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        plant.log.errors.append(DiskFaultError("fsync failed"))
        assert (await client.post("/topics/a", content=b"1")).status_code == 503
        assert await told(client) == (503, "the gateway is not running")
