"""The audit log: who changed what and who was refused, from where; bounded, whoever comes how often."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.devices import auth, connect
from tests.support.gateway import Plant
from tests.support.http import client_of
from tests.support.mqtt import PATIENCE

from millstream.actor import Actor
from millstream.clock import VirtualClock
from millstream.devices import Registry
from millstream.gateway.devices.auditor import BURST, Auditor
from millstream.mqtt import Version
from millstream.mqtt import packet as p


async def entries(site: Plant, clock: VirtualClock, count: int) -> list[dict[str, Any]]:
    """The entries, once there are so many."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await clock.advance(1)
            told = await site.read("$audit") if "$audit" in await site.log.streams() else []
            if len(told) >= count:
                return [event.data for event in told]


async def test_a_change_has_an_entry(site: Plant, clock: VirtualClock) -> None:
    async with client_of(site, auth=auth("ann")) as http:
        await http.put("/devices/press-2", json={"tags": {"site": "a"}})
        await http.put("/devices/press-2", json={"tags": {"site": "a"}})  # which changes nothing
        await http.patch("/devices/press-2/twin", json={"desired": {"speed": 3}})
        await http.put("/enrollments/line-3", json={})
        job = await http.post("/jobs", json={"command": {"payload": 1}})
        await http.delete("/devices/press-2")
    told = await entries(site, clock, 5)
    assert [each["action"] for each in told] == [
        "PUT /devices/press-2",
        "PATCH /devices/press-2/twin",
        "PUT /enrollments/line-3",
        "POST /jobs",
        "DELETE /devices/press-2",
    ]
    assert job.status_code == 201
    for each in told:
        assert (each["outcome"], each["by"], each["from"]) == ("done", "ann", "127.0.0.1")
        assert each["changes"] >= 1 and each["time"]


async def test_looking_at_secrets_has_an_entry_and_at_other_things_none(site: Plant, clock: VirtualClock) -> None:
    async with client_of(site, auth=auth("ann")) as http:
        await http.get("/devices")
        await http.get("/devices/press-1")
        await http.get("/devices/press-1/keys")
        await http.get("/devices", params={"secrets": "true"})
    told = await entries(site, clock, 2)
    assert [each["action"] for each in told] == ["GET /devices/press-1/keys", "GET /devices"]


async def test_who_is_refused_has_an_entry(site: Plant, clock: VirtualClock) -> None:
    async with client_of(site) as http:
        await http.put("/devices/press-2")
        await http.put("/devices/press-2", auth=auth("ann", "wrong"))
        await http.put("/devices/press-2", auth=auth("bob"))
        await http.delete("/devices/press-9", auth=auth("ann"))
        await http.put("/devices/press-1", auth=auth("ann"), headers={"If-None-Match": "*"})
        await http.get("/devices/press-9", auth=auth("ann"))  # a look that finds nothing is no attempt
    told = await entries(site, clock, 5)
    assert [(each["by"], each["code"]) for each in told] == [
        (None, "unauthorized"),
        ("ann", "unauthorized"),
        ("bob", "forbidden"),
        ("ann", "not_found"),
        ("ann", "precondition_failed"),
    ]
    assert all(each["outcome"] == "refused" and each["reason"] for each in told)


async def test_who_is_refused_by_mqtt_has_an_entry(site: Plant, clock: VirtualClock) -> None:
    client = await site.open(Version.V5)
    client.send(p.Connect(version=Version.V5, client_id="x", user_name="press-1", password=b"wrong"))
    await client.rest()
    (told,) = await entries(site, clock, 1)
    assert (told["by"], told["action"], told["from"]) == ("press-1", "MQTT CONNECT", "127.0.0.1")
    assert told["code"] == "unauthorized"


async def test_a_flood_costs_a_few_entries_and_is_counted(site: Plant, clock: VirtualClock) -> None:
    press = await connect(site)
    async with client_of(site) as http:
        for _ in range(90):
            await http.get("/devices", headers={"Authorization": "Bearer msk_a_b"})
    await press.publish("device/press-1/telemetry")  # goes on
    told = await entries(site, clock, BURST + 1)
    assert sum(each["outcome"] == "refused" for each in told) == BURST
    assert sum(each.get("count", 0) for each in told) == 90 - BURST


async def test_what_waits_is_bounded_and_written_at_the_end(registry: Registry, clock: VirtualClock) -> None:
    auditor = Auditor(registry, clock)
    for n in range(5_000):
        auditor.refuse(Actor("x" * 10_000, "y" * 10_000, f"192.0.{n // 250}.{n % 250}"), "unauthorized", "z" * 10_000)
    assert auditor.refused == {"unauthorized": 5_000}
    await auditor.close()
    from millstream.devices.lifecycle import waiting

    found = await registry.database.read(lambda connection: waiting(connection, registry.id, 0, 10_000))
    entries = [event.data for _, event in found if event.topic.startswith("$audit/")]
    assert [each["outcome"] for each in entries] == ["refused"] * 1_000 + ["omitted"]
    assert entries[-1]["count"] == 4_000
    assert max(len(event.payload) for _, event in found) < 2_000
