"""Queued commands by MQTT and HTTP: a device gets them when it comes, and says what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import httpx
import pytest
from tests.support.devices import PRESS, auth, connect
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of
from tests.support.mqtt import PATIENCE, RawClient

from millstream.clock import VirtualClock
from millstream.devices import Commands, Registry
from millstream.mqtt import Version
from millstream.mqtt import packet as p

T = TypeVar("T")

PATH = "/devices/press-1/commands"


@pytest.fixture
async def http(site: Plant) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(site, auth=auth("ann")) as client:
        yield client


async def listening(site: Plant, client_id: str = "c", version: Version = Version.V5) -> RawClient:
    client = await site.connect(client_id, version, user_name="press-1", password=b"secret")
    await client.subscribe("device/press-1/commands/+")
    return client


async def got(client: RawClient, count: int) -> list[p.Publish]:
    return [await client.read(p.Publish) for _ in range(count)]


async def log(site: Plant, what: str, count: int = 1) -> list[dict[str, Any]]:
    """The first events of a kind in `$commands`."""
    async with asyncio.timeout(PATIENCE):
        while True:
            told = await site.read("$commands") if "$commands" in await site.log.streams() else []
            found = [event.data for event in told if event.topic.endswith(f"/{what}")]
            if len(found) >= count:
                return found
            await asyncio.sleep(0)


async def meanwhile(waiting: Coroutine[Any, Any, T] | asyncio.Task[T], clock: VirtualClock) -> T:
    """What somebody waits for, while time passes."""
    task = asyncio.ensure_future(waiting)
    while not task.done():
        await clock.advance(1)
    return task.result()


@pytest.mark.parametrize("version", list(Version))
async def test_a_device_gets_what_was_queued_while_it_was_away(
    site: Plant, http: httpx.AsyncClient, registry: Registry, version: Version
) -> None:
    for number in range(3):
        queued = await http.post(PATH, json={"n": number})
        assert (queued.status_code, queued.json()["payload"]) == (202, {"n": number})
    client = await listening(site, version=version)
    messages = await got(client, 3)
    assert [message.payload for message in messages] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    for message in messages[:2]:
        await client.publish(f"{message.topic}/done")
    await client.publish(f"{messages[2].topic}/reject", b'{"because": "hot"}')
    (rejected,) = await log(site, "rejected")
    assert (rejected["reason"], len(await log(site, "delivered", 2))) == ({"because": "hot"}, 2)
    assert (await http.get(PATH)).json() == {"commands": []}
    await http.post(PATH, json=4)
    assert [message.payload for message in await got(client, 1)] == [b"4"]


async def test_what_a_connection_took_along_comes_again_by_the_next_one(site: Plant, http: httpx.AsyncClient) -> None:
    client = await listening(site)
    await http.post(PATH, json=1)
    (message,) = await got(client, 1)
    await client.close()
    again = await listening(site, "d")
    (other,) = await got(again, 1)
    assert other.topic == message.topic
    (waiting,) = (await http.get(PATH)).json()["commands"]
    assert (waiting["deliveries"], waiting["command"]) == (2, message.topic.rpartition("/")[2])


async def test_what_is_not_settled_in_time_is_sent_again(
    site: Plant, http: httpx.AsyncClient, registry: Registry, clock: VirtualClock
) -> None:
    client = await listening(site)
    await http.post(PATH, json=1)
    (message,) = await got(client, 1)
    (again,) = await meanwhile(got(client, 1), clock)
    assert again.topic == message.topic
    await client.publish(f"{message.topic}/done")
    await log(site, "delivered")


async def test_commands_expire_by_themselves(
    site: Plant, http: httpx.AsyncClient, registry: Registry, clock: VirtualClock
) -> None:
    await http.post(f"{PATH}?ttl=3", json=1)
    await clock.advance(60)
    (expired,) = await log(site, "expired")
    assert (expired["device"], expired["deliveries"]) == ("press-1", 0)
    client = await listening(site)
    assert await client.is_silent()


async def test_a_gateway_looks_after_what_another_one_has_left(
    plant: Plant, registry: Registry, clock: VirtualClock
) -> None:
    await Commands(registry).queue(PRESS, b"1", 10)
    await plant.start()
    await clock.advance(60)
    assert len(await log(plant, "expired")) == 1


async def test_only_the_device_itself_takes_and_settles(site: Plant, http: httpx.AsyncClient) -> None:
    command = (await http.post(PATH, json=1)).json()["command"]
    other = await site.connect("m", user_name="press-1/vision", password=b"secret")
    await other.publish(f"device/press-1/commands/{command}/done")
    for who in ("bob", "press-1/vision"):
        for method, path in [("GET", PATH), ("POST", PATH), ("DELETE", PATH), ("POST", f"{PATH}/{command}/done")]:
            assert error_of(await http.request(method, path, auth=auth(who)))[0] == 403
    assert error_of(await http.post(f"{PATH}/{command}/done"))[0] == 403
    assert len((await http.get(PATH)).json()["commands"]) == 1


async def test_a_device_polls_by_http(site: Plant, http: httpx.AsyncClient, clock: VirtualClock) -> None:
    async with client_of(site, auth=auth("press-1")) as device:
        assert (await device.get(PATH)).json() == {"commands": []}
        polling = asyncio.create_task(device.get(f"{PATH}?wait=30"))
        await site.until(lambda: clock.next_due is not None)
        await http.post(PATH, json={"speed": 3})
        (command,) = (await polling).json()["commands"]
        assert (command["payload"], command["deliveries"]) == ({"speed": 3}, 1)
        assert (await device.get(PATH)).json() == {"commands": []}, "it has it"
        settled = await device.post(f"{PATH}/{command['command']}/reject", content="too hot")
        assert settled.status_code == 204
        assert error_of(await device.post(f"{PATH}/{command['command']}/done"))[:2] == (404, "not_found")
        assert error_of(await device.post(f"{PATH}/{command['command']}/forget"))[0] == 404
        assert error_of(await device.get(f"{PATH}?wait=61"))[0] == 400
    (rejected,) = await log(site, "rejected")
    assert rejected["reason"] == "too hot"


async def test_a_poll_ends_in_time(site: Plant, registry: Registry, clock: VirtualClock) -> None:
    async with client_of(site, auth=auth("press-1")) as device:
        polling = asyncio.create_task(device.get(f"{PATH}?wait=30"))
        assert (await meanwhile(polling, clock)).json() == {"commands": []}


async def test_operators_purge(site: Plant, http: httpx.AsyncClient) -> None:
    await http.post(PATH, json=1)
    assert (await http.delete(PATH)).json() == {"purged": 1}
    client = await connect(site)
    await client.subscribe("device/press-1/commands/+")
    assert await client.is_silent()
    assert [event["by"] for event in await log(site, "purged")] == ["ann"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/devices/nobody/commands", "1", 404),
        (PATH, "{", 400),
        (f"{PATH}?ttl=0", "1", 400),
        (f"{PATH}?ttl=99999999", "1", 400),
        (f"{PATH}?x=1", "1", 400),
    ],
)
async def test_wrong_commands_are_told(http: httpx.AsyncClient, path: str, body: str, status: int) -> None:
    assert error_of(await http.post(path, content=body))[0] == status
