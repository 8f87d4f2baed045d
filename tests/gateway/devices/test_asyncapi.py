"""The AsyncAPI document of the native dialect is one by the specification's own parser, and says what devices do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
from tests.app.test_asyncapi import needs_parser, parse
from tests.gateway.devices.test_provisioning import applying
from tests.support.devices import KEY, auth, connect
from tests.support.gateway import Plant
from tests.support.http import client_of
from tests.support.mqtt import RawClient

from millstream.clock import VirtualClock
from millstream.gateway.devices.asyncapi import CHANNELS, asyncapi
from millstream.mqtt import packet as p
from millstream.topic import Filter


class Described:
    """A client, of which every message has to be in the document."""

    def __init__(self, client: RawClient, used: set[str]) -> None:
        self._client = client
        self._used = used

    async def send(self, topic: str, payload: bytes = b"null") -> None:
        self._check("send", topic, payload)
        await self._client.publish(topic, payload)

    async def read(self) -> p.Publish:
        message = await self._client.read(p.Publish)
        if message.qos:
            self._client.send(p.Puback(packet_id=message.packet_id))
        self._check("receive", message.topic, message.payload)
        return message

    def _check(self, action: str, topic: str, payload: bytes) -> None:
        (name,) = [
            name for name, its in CHANNELS.items() if its.action == action and Filter.parse(its.address).matches(topic)
        ]
        jsonschema.validate(json.loads(payload), CHANNELS[name].payload)
        self._used.add(name)


async def test_all_that_a_device_says_and_hears_is_in_the_document(site: Plant, clock: VirtualClock) -> None:
    used: set[str] = set()
    async with client_of(site, auth=auth("ann")) as http:
        await _registers(site, http, clock, used)
        client = await connect(site)
        device = Described(client, used)
        await client.subscribe("device/press-1/twin/answer/+")
        await device.send("device/press-1/telemetry", b'{"celsius": 91}')
        for topic, payload in (("get/1", b"null"), ("reported/2", b'{"speed": 3}'), ("reported/3", b'{"a.b": 3}')):
            await device.send(f"device/press-1/twin/{topic}", payload)
            await device.read()
        await http.patch("/devices/press-1/twin", json={"desired": {"speed": 4}})
        await client.subscribe("device/press-1/twin/desired")
        await device.read()
        await client.subscribe("device/press-1/methods/+/+")
        calling = asyncio.create_task(http.post("/devices/press-1/methods/reboot", json={"delay": 5}))
        call = await device.read()
        await device.send(f"{call.topic}/answer", b'{"status": 200, "payload": [1]}')
        assert (await calling).json() == {"status": 200, "payload": [1]}
        for _ in range(2):
            await http.post("/devices/press-1/commands", json={"open": True})
        await client.subscribe("device/press-1/commands/+")
        commands = [await device.read() for _ in range(2)]
        for command, end in zip(commands, ("done", "reject"), strict=True):
            await device.send(f"{command.topic}/{end}", b'"hot"')
    assert used == set(CHANNELS)


async def _registers(site: Plant, http: httpx.AsyncClient, clock: VirtualClock, used: set[str]) -> None:
    await http.put("/enrollments/line-3", json={"keys": {"primary": KEY}})
    client = await applying(site, clock, "new-1")
    await client.subscribe("registrations/new-1/answer/+")
    device = Described(client, used)
    await device.send("registrations/new-1/register/1")
    await device.read()


def test_everything_in_the_document_leads_somewhere() -> None:
    document = asyncapi()
    for name, its in document["operations"].items():
        assert _found(document, its["channel"]["$ref"])["address"] == CHANNELS[name].address
        (message,) = its["messages"]
        assert "payload" in _found(document, _found(document, message["$ref"])["$ref"])


def _found(document: Any, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


@needs_parser
def test_official_parser_finds_nothing_wrong_with_it() -> None:
    assert parse(asyncapi()) == []
