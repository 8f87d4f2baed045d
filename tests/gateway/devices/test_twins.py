"""Twins by MQTT and HTTP, as devices and operators have them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.support.devices import PRESS, SECRET, VISION, auth, connect, seen
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of
from tests.support.mqtt import RawClient
from tests.support.streams import eventually

from millstream.devices import Name, Registry, TwinChange, Twins
from millstream.errors import RegistryUnavailableError
from millstream.event import Event
from millstream.mqtt import Properties, Version
from millstream.mqtt import packet as p


def said(**members: Any) -> TwinChange:
    return msgspec.convert(members, TwinChange)


async def told(client: RawClient) -> tuple[str, Any]:
    """The next message: its topic below `device/`, and what it says. It is acknowledged."""
    message = await client.read(p.Publish)
    if message.qos:
        client.send(p.Puback(packet_id=message.packet_id))
    return message.topic.removeprefix("device/"), json.loads(message.payload)


async def changes(site: Plant) -> list[Event]:
    """What stands in `$twins`, if it is there yet."""
    return await site.read("$twins") if "$twins" in await site.log.streams() else []


async def ask(client: RawClient, topic: str, payload: bytes = b"") -> tuple[str, Any]:
    await client.publish_and_forget(f"device/{topic}", payload)
    return await told(client)


@pytest.mark.parametrize("version", list(Version))
async def test_a_device_gets_its_twin_and_reports(site: Plant, registry: Registry, version: Version) -> None:
    client = await site.connect("c", version, user_name="press-1", password=b"secret")
    await client.subscribe("device/press-1/twin/answer/#")
    empty = {"status": 200, "desired": {}, "desired_version": 0, "reported": {}, "reported_version": 0}
    assert await ask(client, "press-1/twin/get/7") == ("press-1/twin/answer/7", empty)
    assert await ask(client, "press-1/twin/get") == ("press-1/twin/answer", empty)
    report = b'{"firmware": "1.9", "old": null}'
    assert await ask(client, "press-1/twin/reported/8", report) == (
        "press-1/twin/answer/8",
        {"status": 200, "version": 1},
    )
    twin = await Twins(registry).get(PRESS)
    assert twin.sides.reported.content == {"firmware": "1.9"}
    async with client_of(site, auth=auth("ann")) as http:
        found = await http.get("/devices", params={"query": "reported.firmware < '2.0'"})
        assert [device["id"] for device in found.json()["devices"]] == ["press-1"]
    await eventually(lambda: changes(site))  # the relay follows the registry
    assert [event.data["patch"] for event in await changes(site)] == [{"firmware": "1.9"}]


async def test_wrong_reports_are_told(site: Plant, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await connect(site)
    await client.subscribe("device/press-1/twin/answer/#")
    for wrong, message in [
        (b"", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b"\xff", "no JSON object"),
        (b'{"a b": 1}', "names have no"),
        (b'{"a": "' + b"x" * 33_000 + b'"}', "there may be 32768"),
        (b"[" * 5_000, "no JSON object"),
    ]:
        _, answer = await ask(client, "press-1/twin/reported/1", wrong)
        assert (answer["status"], answer["error"]["code"]) == (400, "bad_request")
        assert message in answer["error"]["message"]

    async def away(*those: Any) -> Any:
        raise RegistryUnavailableError("the registry does not answer")

    monkeypatch.setattr(registry, "transact", away)
    _, answer = await ask(client, "press-1/twin/reported/1", b"{}")
    assert (answer["status"], answer["error"]["code"]) == (503, "unavailable")


async def test_only_the_device_itself_speaks_for_it(site: Plant, registry: Registry) -> None:
    """Whatever rights others have on its topics: also a device whose id is a level of them."""
    for name in (Name("device"), Name("twin")):
        await registry.put(name, SECRET)
    for who in ("device", "press-1/vision", "twin"):
        client = await site.connect(who, user_name=who, password=b"secret")
        await client.publish("device/press-1/twin/reported/1", b'{"a": 1}')
    async with client_of(site) as http:
        await http.post("/topics/device/press-1/twin/reported/1", content='{"a": 1}', auth=auth("press-1"))
    own = await connect(site)
    await own.subscribe("device/press-1/twin/answer/#")
    _, answer = await ask(own, "press-1/twin/get")
    assert answer["reported_version"] == 0


async def test_a_module_has_a_twin_of_its_own(site: Plant, registry: Registry) -> None:
    client = await connect(site, VISION)
    await client.subscribe("device/press-1/modules/vision/twin/answer/+")
    topic, answer = await ask(client, "press-1/modules/vision/twin/reported/1", b'{"lens": 1}')
    assert (topic, answer["version"]) == ("press-1/modules/vision/twin/answer/1", 1)
    assert (await Twins(registry).get(PRESS)).sides.reported.version == 0


async def test_desired_comes_now_or_when_the_device_comes(site: Plant, registry: Registry) -> None:
    twins = Twins(registry)
    client = await connect(site)
    await client.subscribe("device/press-1/twin/desired")
    assert await client.is_silent(), "nothing is desired yet"
    await twins.change(PRESS, said(desired={"speed": 3}))
    assert await told(client) == ("press-1/twin/desired", {"version": 1, "desired": {"speed": 3}})
    await twins.change(PRESS, said(tags={"a": 1}))
    assert await client.is_silent()
    client.send(p.Disconnect())
    await client.rest()
    await twins.change(PRESS, said(desired={"mode": "night"}))
    again = await connect(site, client_id="another")
    await again.subscribe("device/press-1/#")
    everything = {"version": 2, "desired": {"speed": 3, "mode": "night"}}
    assert await told(again) == ("press-1/twin/desired", everything)


async def test_a_session_that_is_kept_hears_what_is_desired_without_subscribing_again(
    site: Plant, registry: Registry
) -> None:
    kept: dict[str, Any] = {"clean_start": False, "properties": Properties(session_expiry_interval=3_600)}
    asked = {"user_name": "press-1", "password": b"secret", **kept}
    client = await site.connect("c", **asked)
    await client.subscribe("device/press-1/twin/desired")
    await client.close()
    await site.until(lambda: site.statistics["connections"] == 0)
    await Twins(registry).change(PRESS, said(desired={"speed": 3}))
    again = await site.connect("c", **asked)
    assert (await told(again))[1]["desired"] == {"speed": 3}


# --- HTTP


async def test_operators_have_twins_by_http(site: Plant) -> None:
    async with client_of(site, auth=auth("ann")) as http:
        path = "/devices/press-1/twin"
        first = await http.get(path)
        assert first.headers["etag"] == f'"{first.json()["etag"]}"'
        stale = {"If-Match": first.headers["etag"]}
        changed = await http.patch(path, json={"desired": {"a": 1}, "tags": {"b": 2}}, headers=stale)
        assert (changed.json()["desired"], changed.json()["tags"]) == ({"a": 1}, {"b": 2})
        assert error_of(await http.patch(path, json={}, headers=stale))[:2] == (412, "precondition_failed")
        put = await http.put(path, json={"desired": {"c": 3}}, headers={"If-Match": changed.headers["etag"]})
        assert (put.json()["desired"], put.json()["tags"]) == ({"c": 3}, {"b": 2})
        module = await http.patch("/devices/press-1/modules/vision/twin", json={"desired": {"a": 1}})
        assert (module.json()["module"], module.json()["desired_version"]) == ("vision", 1)
        for wrong in ('{"reported": {}}', "[]", '{"desired": {"a b": 1}}', '{"desired": null}'):
            assert error_of(await http.patch(path, content=wrong))[0] == 400
        assert error_of(await http.get("/devices/nobody/twin"))[0] == 404
    (event,) = [event for event in await seen(site, "updated") if event["device"] == "press-1"]
    assert (event["by"], event["tags"]) == ("ann", {"b": 2})


async def test_a_device_has_its_own_twin_by_http(site: Plant, registry: Registry) -> None:
    await Twins(registry).change(PRESS, said(desired={"speed": 3}, tags={"hidden": True}))
    async with client_of(site, auth=auth("press-1")) as http:
        its = (await http.get("/devices/press-1/twin")).json()
        assert its == {"desired": {"speed": 3}, "desired_version": 1, "reported": {}, "reported_version": 0}
        reported = await http.patch("/devices/press-1/twin", json={"reported": {"speed": 3}})
        assert (reported.json()["reported"], reported.json()["reported_version"]) == ({"speed": 3}, 1)
        assert error_of(await http.patch("/devices/press-1/twin", json={"desired": {}}))[0] == 400
        for method, path in [
            ("PUT", "/devices/press-1/twin"),
            ("GET", "/devices/press-1/modules/vision/twin"),
            ("PATCH", "/devices/press-1/modules/vision/twin"),
            ("GET", "/devices/nobody/twin"),
        ]:
            assert error_of(await http.request(method, path, json={}))[0] == 403
        assert error_of(await http.get("/devices/press-1/twin", auth=auth("bob")))[0] == 403


async def test_a_device_that_is_deleted_has_no_twin(site: Plant, registry: Registry) -> None:
    await Twins(registry).change(PRESS, said(desired={"speed": 3}))
    await registry.delete(PRESS)
    await registry.put(PRESS, SECRET)
    client = await connect(site)
    await client.subscribe("device/press-1/twin/#")
    assert await client.is_silent()
