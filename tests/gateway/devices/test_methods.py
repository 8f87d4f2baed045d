"""Direct methods: by HTTP to devices on MQTT and back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.support.devices import VISION, auth, connect
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of
from tests.support.mqtt import PATIENCE, RawClient

from millstream.clock import VirtualClock
from millstream.devices import Registry
from millstream.errors import RegistryUnavailableError
from millstream.mqtt import Properties, Version
from millstream.mqtt import packet as p

Calling = asyncio.Task[httpx.Response]


@pytest.fixture
async def http(site: Plant) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(site, auth=auth("ann")) as client:
        yield client


def calling(http: httpx.AsyncClient, path: str = "/devices/press-1/methods/reboot", **asked: Any) -> Calling:
    return asyncio.create_task(http.post(path, **asked))


async def called(client: RawClient) -> p.Publish:
    """The next call."""
    return await client.read(p.Publish)


async def answer(client: RawClient, call: p.Publish, content: Any) -> None:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    await client.publish(f"{call.topic}/answer", payload)


async def log(site: Plant, count: int) -> list[dict[str, Any]]:
    """The first events of `$commands`."""
    async with asyncio.timeout(PATIENCE):
        while True:
            told = await site.read("$commands") if "$commands" in await site.log.streams() else []
            if len(told) >= count:
                return [event.data for event in told]
            await asyncio.sleep(0)


@pytest.mark.parametrize("version", list(Version))
async def test_a_call_and_its_answer(site: Plant, http: httpx.AsyncClient, version: Version) -> None:
    client = await site.connect("c", version, user_name="press-1", password=b"secret")
    await client.subscribe("device/press-1/methods/+/+")
    calls = calling(http, json={"delay": 5})
    call = await called(client)
    assert call.topic.startswith("device/press-1/methods/reboot/")
    assert (call.payload, call.qos) == (b'{"delay":5}', 0)
    await answer(client, call, {"status": 207, "payload": {"at": [1, None]}})
    answered = await calls
    assert (answered.status_code, answered.json()) == (200, {"status": 207, "payload": {"at": [1, None]}})
    (told,) = await log(site, 1)
    its = {name: told[name] for name in ("device", "method", "outcome", "status", "by", "call")}
    number = call.topic.rpartition("/")[2]
    assert its == {"device": "press-1", "method": "reboot", "outcome": "answered", "status": 207, "by": "ann"} | {
        "call": number
    }


async def test_calls_are_answered_in_any_order(site: Plant, http: httpx.AsyncClient) -> None:
    client = await connect(site)
    await client.subscribe("device/press-1/methods/+/+")
    calls = [calling(http, json=number) for number in range(10)]
    got = [await called(client) for _ in calls]
    for call in reversed(got):
        client.send(
            p.Publish(topic=f"{call.topic}/answer", payload=b'{"status": 200, "payload": ' + call.payload + b"}")
        )
    assert [(await each).json()["payload"] for each in calls] == list(range(10))


async def test_a_device_that_is_not_there_is_not_called(site: Plant, http: httpx.AsyncClient) -> None:
    status, code, message = error_of(await calling(http))
    assert (status, code) == (409, "conflict")
    assert "not connected" in message
    client = await connect(site)
    await client.subscribe("device/press-1/twin/desired")
    assert error_of(await calling(http))[0] == 409, "it takes no calls"
    assert await client.is_silent()
    assert [told["outcome"] for told in await log(site, 2)] == ["offline", "offline"]


async def test_a_call_waits_for_a_device_that_comes(site: Plant, http: httpx.AsyncClient, clock: VirtualClock) -> None:
    calls = calling(http, path="/devices/press-1/methods/reboot?connect_timeout=60")
    await site.until(lambda: clock.next_due is not None)
    client = await connect(site)
    await client.subscribe("device/press-1/methods/+/+")
    await answer(client, await called(client), {"status": 200})
    assert (await calls).json() == {"status": 200, "payload": None}


async def due(site: Plant, clock: VirtualClock, seconds: float) -> None:
    """Until something waits for the clock for so long."""
    await site.until(lambda: clock.next_due is not None)
    await clock.advance(seconds)


async def test_nobody_waits_for_ever(site: Plant, http: httpx.AsyncClient, clock: VirtualClock) -> None:
    calls = calling(http, path="/devices/press-1/methods/reboot?connect_timeout=60")
    await due(site, clock, 61)
    assert error_of(await calls)[0] == 409
    client = await connect(site)
    await client.subscribe("device/press-1/methods/+/+")
    calls = calling(http, path="/devices/press-1/methods/reboot?response_timeout=20")
    call = await called(client)
    await clock.advance(21)
    status, code, message = error_of(await calls)
    assert (status, code) == (504, "timeout")
    assert "within 20 s" in message
    await answer(client, call, {"status": 200})  # too late
    assert await client.is_silent(), "and it was not called twice"
    assert [told["outcome"] for told in await log(site, 2)] == ["offline", "timeout"]


async def test_a_call_is_never_kept_for_later(site: Plant, http: httpx.AsyncClient, clock: VirtualClock) -> None:
    kept: dict[str, Any] = {"clean_start": False, "properties": Properties(session_expiry_interval=3_600)}
    asked = {"user_name": "press-1", "password": b"secret", **kept}
    client = await site.connect("c", **asked)
    await client.subscribe("device/press-1/methods/+/+")
    calls = calling(http)
    await answer(client, await called(client), {"status": 200})
    assert (await calls).status_code == 200
    await client.close()
    await site.until(lambda: site.statistics["connections"] == 0)
    assert error_of(await calling(http))[0] == 409
    again = await site.connect("c", **asked)
    assert await again.is_silent()
    calls = calling(http)  # its session has kept the subscription
    await answer(again, await called(again), {"status": 201})
    assert (await calls).json()["status"] == 201


@pytest.mark.parametrize("wrong", [b"", b"200", b"{}", b'{"status": "fine"}', b'{"status": 200, "x": 1}', b"\xff"])
async def test_an_answer_that_is_none_is_told(site: Plant, http: httpx.AsyncClient, wrong: bytes) -> None:
    client = await connect(site)
    await client.subscribe("device/press-1/methods/+/+")
    calls = calling(http)
    await answer(client, await called(client), wrong)
    assert error_of(await calls)[:2] == (502, "bad_answer")


async def test_only_the_device_that_was_called_answers(site: Plant, http: httpx.AsyncClient) -> None:
    device, module = await connect(site), await connect(site, VISION, client_id="m")
    await device.subscribe("device/press-1/methods/+/+")
    await module.subscribe("device/press-1/modules/vision/methods/+/+")
    calls = calling(http)
    call = await called(device)
    await answer(module, call, {"status": 500})  # a module may publish there
    await answer(device, call, {"status": 200})
    assert (await calls).json()["status"] == 200
    calls = calling(http, path="/devices/press-1/modules/vision/methods/look")
    await answer(module, await called(module), {"status": 204})
    assert (await calls).json()["status"] == 204


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/devices/nobody/methods/reboot", "", 404),
        ("/devices/press-1/methods/a%23", "", 400),
        ("/devices/press-1/methods/" + "x" * 129, "", 400),
        ("/devices/press-1/methods/reboot", "{", 400),
        ("/devices/press-1/methods/reboot", '"' + "x" * 140_000 + '"', 400),
        ("/devices/press-1/methods/reboot?response_timeout=301", "", 400),
        ("/devices/press-1/methods/reboot?connect_timeout=-1", "", 400),
        ("/devices/press-1/methods/reboot?timeout=1", "", 400),
    ],
)
async def test_wrong_calls_are_told(http: httpx.AsyncClient, path: str, body: str, status: int) -> None:
    assert error_of(await calling(http, path, content=body))[0] == status


async def test_only_who_may_manage_calls(site: Plant, http: httpx.AsyncClient) -> None:
    for who in ("bob", "press-1"):
        assert error_of(await calling(http, auth=auth(who)))[0] == 403


async def test_who_called_is_told_also_when_that_cannot_be_recorded(
    site: Plant, http: httpx.AsyncClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await connect(site)
    await client.subscribe("device/press-1/methods/+/+")
    note = registry.note

    async def away(*those: Any) -> None:
        raise RegistryUnavailableError("the registry does not answer")

    monkeypatch.setattr(registry, "note", away)
    calls = calling(http)
    await answer(client, await called(client), {"status": 200})
    assert (await calls).status_code == 200
    monkeypatch.setattr(registry, "note", note)
