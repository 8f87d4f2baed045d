"""`/metrics` over HTTP: what the gateway tells, and to whom."""

from __future__ import annotations

import asyncio

import httpx
from prometheus_client.parser import text_string_to_metric_families
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE

from millstream.errors import DiskFullError, LogUnavailableError
from millstream.gateway import hash_password
from millstream.metrics import Reading
from millstream.settings import MetricsSettings


def client_of(plant: Plant) -> httpx.AsyncClient:
    assert plant.gateway.http_address is not None
    host, port = plant.gateway.http_address
    return httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=PATIENCE)


def samples(text: str) -> dict[str, float]:
    """Values by name, and by the one label's value where there is a label."""
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_gateways_counts(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    device = await plant.connect()
    async with client_of(plant) as client:
        await client.post("/topics/a", content=b"1", headers={"ce-id": "7"})
        await client.post("/topics/a", content=b"1", headers={"ce-id": "7"})
        await client.post("/topics/a/+", content=b"1")
        response = await client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        told = samples(response.text)
        await device.close()
        await plant.until(lambda: not plant.statistics["connections"])
        later = samples((await client.get("/metrics")).text)
    assert told["millstream_gateway_received_events_total"] == 3
    assert told["millstream_gateway_committed_events_total"] == 1
    assert told["millstream_gateway_duplicate_events_total"] == 1
    assert told["millstream_gateway_rejected_events_total bad_request"] == 1
    assert told["millstream_gateway_commit_events_count"] == 1
    assert told["millstream_gateway_commit_events_bucket 1.0"] == 1
    assert told["millstream_gateway_commit_seconds_bucket +Inf"] == 1
    assert (told["millstream_gateway_connections"], later["millstream_gateway_connections"]) == (1, 0)
    assert sum(n for name, n in later.items() if name.startswith("millstream_gateway_ended_connections_total")) == 1
    assert told["millstream_ready"] == 1


async def test_who_accepts_openmetrics_gets_it(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        response = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")


async def test_a_commit_that_waits_for_the_disk_shows_in_its_time(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    plant.log.errors.append(DiskFullError("the disk is full"))
    async with client_of(plant) as client:
        waiting = asyncio.create_task(client.post("/topics/a", content=b"1"))
        await plant.until(lambda: plant.gateway.unready() is not None)
        assert samples((await client.get("/metrics")).text)["millstream_ready"] == 0
        await plant.clock.advance(1)
        await waiting
        told = samples((await client.get("/metrics")).text)
    assert told["millstream_ready"] == 1
    assert told["millstream_gateway_commit_seconds_sum"] == 0.25  # as it was put off so long


async def test_it_takes_a_user_unless_the_settings_say_otherwise(plant: Plant) -> None:
    users = {"ann": {"password": hash_password("secret"), "observe": True}}
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users)
    async with client_of(plant) as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", auth=("ann", "secret"))).status_code == 200
    await plant.gateway.stop()
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users, metrics=MetricsSettings(anonymous=True))
    async with client_of(plant) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/status")).status_code == 401


async def test_a_log_that_cannot_tell_is_an_error_of_the_usual_shape(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")

    async def broken(reading: Reading) -> None:
        raise LogUnavailableError("the log is closed")

    plant.gateway.sources.add(broken)
    async with client_of(plant) as client:
        response = await client.get("/metrics")
    assert response.status_code == 503
    assert response.json() == {"error": {"code": "unavailable", "message": "the log is closed"}}
