"""Trace contexts on their way into the log: HTTP headers, CloudEvents attributes, MQTT 5 user properties."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.support.gateway import Plant

from millstream.mqtt import Properties
from millstream.mqtt.packet import Publish

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-1111111111111111-00"
TRACE = {"traceparent": PARENT, "tracestate": "v=1"}


def cloud_event(**more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": more.pop("id", "1"), "source": "/s", "type": "t", "data": 1, **more}


@pytest.mark.parametrize(
    ("media_type", "body"),
    {
        "application/json": "1",
        "application/x-ndjson": "1\n",
        "application/cloudevents+json": json.dumps(cloud_event()),
        "application/cloudevents-batch+json": json.dumps([cloud_event()]),
    }.items(),
)
async def test_the_context_of_a_request_is_its_events(plant: Plant, media_type: str, body: str) -> None:
    await plant.start(http="127.0.0.1:0")
    assert plant.gateway.http_address is not None
    host, port = plant.gateway.http_address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        response = await client.post("/topics/a", content=body, headers={"Content-Type": media_type, **TRACE})
    assert response.status_code == 200
    (event,) = await plant.read("events")
    assert {name: event.headers.get(name) for name in TRACE} == TRACE


async def test_an_events_own_context_comes_first(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    assert plant.gateway.http_address is not None
    host, port = plant.gateway.http_address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        await client.post("/topics/a", content="1", headers={**TRACE, "ce-traceparent": OTHER})
        body = json.dumps([cloud_event(traceparent=OTHER), cloud_event(id="2")])
        headers = {**TRACE, "Content-Type": "application/cloudevents-batch+json"}
        await client.post("/topics/a", content=body, headers=headers)
    assert [event.headers["traceparent"] for event in await plant.read("events")] == [OTHER, OTHER, PARENT]


async def test_mqtt_5_carries_it_both_ways(plant: Plant) -> None:
    await plant.start()
    device, viewer = await plant.connect("press-1"), await plant.connect("viewer")
    await viewer.subscribe("a")
    await device.publish("a", b"1", properties=Properties(user_properties=tuple(TRACE.items())))
    message = await viewer.read(Publish)
    assert dict(message.properties.user_properties) == TRACE
    (event,) = await plant.read("events")
    assert event.headers == TRACE
