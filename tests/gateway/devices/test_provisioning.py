"""A device that holds a group's key only becomes a registered, working device by itself."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.support.devices import HOUR, KEY, auth, change
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of
from tests.support.mqtt import RawClient
from tests.support.streams import eventually

from millstream.clock import VirtualClock
from millstream.devices import Name, Registry, derive_key, make_token
from millstream.mqtt import Reason, Version
from millstream.mqtt import packet as p


@pytest.fixture
async def group(site: Plant) -> str:
    """The id of a group whose key is `KEY`."""
    async with client_of(site, auth=auth("ann")) as http:
        made = await http.put("/enrollments/line-3", json={"keys": {"primary": KEY}, "tags": {"site": "a"}})
        assert made.status_code == 201
    return "line-3"


def signed(clock: VirtualClock, resource: str, registration_id: str) -> str:
    return make_token(derive_key(KEY, registration_id), resource, clock.now() + HOUR)


async def applying(site: Plant, clock: VirtualClock, registration_id: str, version: Version = Version.V5) -> RawClient:
    name = f"provisioning/registrations/{registration_id}"
    shown = signed(clock, name, registration_id).encode()
    return await site.connect(registration_id, version, user_name=name, password=shown)


async def register(client: RawClient, registration_id: str) -> dict[str, Any]:
    await client.subscribe(f"registrations/{registration_id}/answer/+")
    await client.publish_and_forget(f"registrations/{registration_id}/register/1")
    message = await client.read(p.Publish)
    assert message.topic == f"registrations/{registration_id}/answer/1"
    return dict(json.loads(message.payload))


@pytest.mark.parametrize("version", list(Version))
async def test_by_mqtt(site: Plant, group: str, registry: Registry, clock: VirtualClock, version: Version) -> None:
    client = await applying(site, clock, "new-1", version)
    assert await register(client, "new-1") == {"status": 200, "device": "new-1", "outcome": "created"}
    client.send(p.Disconnect())
    await client.rest()
    shown = signed(clock, "devices/new-1", "new-1").encode()
    device = await site.connect("new-1", version, user_name="new-1", password=shown)
    await device.publish("device/new-1/telemetry", b"1")
    found = await registry.get(Name("new-1"))
    assert (found.enrollment, found.tags) == (group, {"site": "a"})

    async def is_connected() -> bool:  # told after the CONNACK, together with other devices
        return (await registry.get(Name("new-1"))).connected

    await eventually(is_connected)


async def test_by_http(site: Plant, group: str, clock: VirtualClock) -> None:
    async with client_of(site) as http:
        headers = {"Authorization": signed(clock, "provisioning/registrations/new-1", "new-1")}
        made = await http.put("/registrations/new-1", headers=headers)
        assert (made.status_code, made.json()) == (201, {"device": "new-1", "outcome": "created"})
        again = await http.put("/registrations/new-1", headers=headers)
        assert (again.status_code, again.json()["outcome"]) == (200, "kept")
        assert error_of(await http.put("/registrations/new-2", headers=headers))[0] == 403
        assert error_of(await http.put("/registrations/new-1"))[0] == 401
        assert error_of(await http.put("/registrations/new-1", auth=auth("ann")))[0] == 403
        assert error_of(await http.get("/devices", headers=headers))[0] == 403
        assert error_of(await http.post("/topics/device/new-1/telemetry", headers=headers))[0] == 403
        wrong = {"Authorization": signed(clock, "provisioning/registrations/new-2", "new-1")}
        assert error_of(await http.put("/registrations/new-2", headers=wrong))[0] == 401
        device = {"Authorization": signed(clock, "devices/new-1", "new-1")}
        assert (await http.post("/topics/device/new-1/telemetry", content="1", headers=device)).status_code == 200


async def test_an_applicant_may_do_nothing_else(site: Plant, group: str, clock: VirtualClock) -> None:
    client = await applying(site, clock, "new-1")
    for topic in ("device/new-1/telemetry", "registrations/new-2/register", "registrations/new-1/answer/1"):
        assert (await client.publish(topic)).reason is Reason.NOT_AUTHORIZED
    for mqtt_filter in ("#", "registrations/#", "registrations/+/answer/+", "device/new-1/#"):
        (granted,) = (await client.subscribe(mqtt_filter)).reasons
        assert granted is Reason.NOT_AUTHORIZED


async def test_only_the_applicant_itself_asks(site: Plant, group: str, registry: Registry, clock: VirtualClock) -> None:
    """A device that is called `registrations` may publish there by its rights."""
    other = await applying(site, clock, "registrations")
    await register(other, "registrations")
    shown = signed(clock, "devices/registrations", "registrations").encode()
    device = await site.connect("c", user_name="registrations", password=shown)
    assert (await device.publish("registrations/new-9/register/1")).reason < Reason.UNSPECIFIED_ERROR
    assert await device.is_silent()
    assert await registry.find(Name("new-9")) is None


async def test_revocation_reaches_who_is_connected(site: Plant, group: str, clock: VirtualClock) -> None:
    applicant = await applying(site, clock, "new-1")
    await register(await applying(site, clock, "new-2"), "new-2")
    shown = signed(clock, "devices/new-2", "new-2").encode()
    device = await site.connect("device", user_name="new-2", password=shown)
    async with client_of(site, auth=auth("ann")) as http:
        said = {"status": "disabled", "status_reason": "stolen"}
        assert (await http.patch(f"/enrollments/{group}?devices=true", json=said)).json()["status"] == "disabled"
        assert (await http.get("/devices/new-2")).json()["status_reason"] == "stolen"
    assert (await device.read(p.Disconnect)).reason is Reason.ADMINISTRATIVE_ACTION
    refused = await register(applicant, "new-1")
    assert (refused["status"], refused["error"]["code"]) == (403, "forbidden")


async def test_enrollments_by_http(site: Plant, group: str) -> None:
    async with client_of(site, auth=auth("ann")) as http:
        path = f"/enrollments/{group}"
        shown = await http.get(path)
        assert "keys" not in shown.json()
        assert (await http.get("/enrollments")).json() == {"enrollments": [shown.json()], "next": None}
        assert (await http.get(f"{path}/keys")).json()["primary"] == KEY
        derived = (await http.get(f"{path}/keys", params={"registration": "new-1"})).json()
        assert derived["primary"] == derive_key(KEY, "new-1")
        stale = {"If-Match": '"0"'}
        assert error_of(await http.patch(path, json={}, headers=stale))[:2] == (412, "precondition_failed")
        fresh = {"If-Match": shown.headers["etag"]}
        rotated = await http.post(f"{path}/keys/rotate", headers=fresh)
        assert (rotated.json()["secondary"], rotated.headers["cache-control"]) == (KEY, "no-store")
        for wrong in ("[]", '{"kind": "x"}', '{"tags": {"a b": 1}}', '{"x": 1}'):
            assert error_of(await http.patch(path, content=wrong))[0] == 400
        assert (await http.delete(path)).status_code == 204
        assert error_of(await http.get(path))[:2] == (404, "not_found")


@pytest.mark.parametrize("who", ["bob", "press-1"])
async def test_only_who_may_manage_sees_enrollments(site: Plant, group: str, who: str) -> None:
    async with client_of(site, auth=auth(who)) as http:
        for method, path in [
            ("GET", "/enrollments"),
            ("GET", f"/enrollments/{group}"),
            ("PUT", "/enrollments/x"),
            ("PATCH", f"/enrollments/{group}"),
            ("DELETE", f"/enrollments/{group}"),
            ("GET", f"/enrollments/{group}/keys"),
            ("POST", f"/enrollments/{group}/keys/rotate"),
        ]:
            response: httpx.Response = await http.request(method, path)
            assert error_of(response)[0] == 403


HOSTILE = [
    "../devices",
    "..",
    "a/b",
    "a+b",
    "#",
    "+",
    "$audit/done",
    "a" * 129,
    "a\x00b",
    "é",
    " ",
    "'; DROP TABLE x; --",
]


@pytest.mark.parametrize("wanted", HOSTILE)
async def test_a_hostile_registration_id_is_refused_and_looks_nothing_up(
    site: Plant, group: str, registry: Registry, clock: VirtualClock, wanted: str
) -> None:
    """Whoever has a group's key can sign a token for any text."""
    shown = signed(clock, f"provisioning/registrations/{wanted}", wanted)
    async with client_of(site) as http:
        response = await http.put(f"/registrations/{quote(wanted, safe='')}", headers={"Authorization": shown})
        assert response.status_code in (400, 401, 403, 404, 405), response.text
        error_of(response)
    if "\x00" not in wanted:  # which no string of MQTT may have
        client = await site.open(Version.V5)
        name = f"provisioning/registrations/{wanted}"
        client.send(p.Connect(version=Version.V5, client_id="x", user_name=name, password=shown.encode()))
        assert (await client.read(p.Connack)).reason is Reason.BAD_USER_NAME_OR_PASSWORD
    assert [device.name.device for device in await registry.page()] == ["press-1"]


async def test_a_request_that_is_sent_again_does_what_it_did_until_it_is_over(
    site: Plant, group: str, registry: Registry, clock: VirtualClock
) -> None:
    """Whoever has heard it and sends it again makes no other device, and takes nothing from this one."""
    async with client_of(site) as http:
        headers = {"Authorization": signed(clock, "provisioning/registrations/new-1", "new-1")}
        assert (await http.put("/registrations/new-1", headers=headers)).status_code == 201
        first = await registry.get(Name("new-1"))
        assert (await http.put("/registrations/new-1", headers=headers)).json()["outcome"] == "kept"
        assert await registry.get(Name("new-1")) == first
        assert error_of(await http.put("/registrations/new-2", headers=headers))[0] == 403
        await registry.patch(Name("new-1"), change(status="disabled"))
        assert error_of(await http.put("/registrations/new-1", headers=headers))[:2] == (409, "conflict")
        await clock.advance(2 * 3_600)
        assert error_of(await http.put("/registrations/new-1", headers=headers))[:2] == (401, "unauthorized")
