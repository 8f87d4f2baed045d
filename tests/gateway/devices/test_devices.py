"""Devices of the registry come in by MQTT and HTTP with what they have, and have to go when it is good no more."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.devices import HOUR, KEY, OTHER, PRESS, SECRET, VISION, auth, change, connect, seen, token
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of

from millstream.clock import VirtualClock
from millstream.devices import Name, Registry
from millstream.errors import RegistryUnavailableError
from millstream.gateway.http.access import read_credentials
from millstream.metrics import catalog
from millstream.mqtt import Reason, Version
from millstream.mqtt import packet as p
from millstream.password import PasswordHash


async def refusal(site: Plant, version: Version, user_name: str, password: str) -> Reason:
    client = await site.open(version)
    client.send(p.Connect(version=version, client_id="x", user_name=user_name, password=password.encode()))
    (answer,) = await client.rest()
    assert isinstance(answer, p.Connack)
    return answer.reason


@pytest.mark.parametrize("version", list(Version))
async def test_a_device_connects_with_its_password_or_a_token(
    site: Plant, clock: VirtualClock, version: Version
) -> None:
    for number, (name, shown) in enumerate(
        [
            (PRESS, "secret"),
            (PRESS, token(clock)),
            (VISION, "secret"),
            (VISION, token(clock, "devices/press-1/modules/vision")),
        ]
    ):
        client = await site.connect(f"c-{number}", version, user_name=str(name), password=shown.encode())
        await client.publish(f"device/press-1/{number}", b"1")
    assert len(await site.payloads("events")) == 4


@pytest.mark.parametrize("version", list(Version))
async def test_who_shows_something_else_is_refused(site: Plant, clock: VirtualClock, version: Version) -> None:
    wrong = [
        ("press-1", ""),
        ("press-1", "wrong"),
        ("press-1", KEY),
        ("press-2", "secret"),
        ("press-1/vision", token(clock)),
        ("press-1", token(clock, expires=-HOUR)),
        ("press-1", token(clock, "devices/press-2")),
        ("press-1", token(clock, key=base64.b64encode(b"another key of 24 bytes!").decode())),
        ("press-1", "SharedAccessSignature nonsense"),
        ("press-2", token(clock)),
        ("press-1/", "secret"),
        ("+", "secret"),
        ("press-1\N{COMBINING ACUTE ACCENT}", "secret"),
    ]
    for user_name, shown in wrong:
        assert await refusal(site, version, user_name, shown) is Reason.BAD_USER_NAME_OR_PASSWORD, (user_name, shown)
    assert site.statistics["connections"] == 0


async def test_an_unknown_device_costs_what_a_known_one_does(site: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []

    def fits(self: PasswordHash, password: bytes) -> bool:
        checked.append(self.n)
        return False

    monkeypatch.setattr(PasswordHash, "fits", fits)
    await refusal(site, Version.V5, "nobody", "x")
    assert checked == [1 << 14]


async def test_a_device_may_use_its_own_topics_only(site: Plant) -> None:
    client = await connect(site)
    assert (await client.publish("site/a/press-1/telemetry")).reason < Reason.UNSPECIFIED_ERROR
    assert (await client.publish("site/a/press-2/telemetry")).reason is Reason.NOT_AUTHORIZED
    assert (await client.publish("$devices/press-1/created")).reason is Reason.NOT_AUTHORIZED


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"status": "disabled"}, "was disabled"),
        ({"credentials": {"password": None}}, "credential"),
        ({"credentials": {"password_hash": OTHER}}, "credential"),
    ],
)
async def test_revocation_works_at_once(site: Plant, registry: Registry, said: dict[str, Any], text: str) -> None:
    client = await connect(site)
    await registry.patch(PRESS, change(**said))
    left = await client.read(p.Disconnect)
    assert left.reason is Reason.ADMINISTRATIVE_ACTION
    assert text in (left.properties.reason_string or "")
    assert await refusal(site, Version.V5, "press-1", "secret") is Reason.BAD_USER_NAME_OR_PASSWORD
    (gone,) = await seen(site, "disconnected")
    assert gone["reason"] == "administrative_action"


async def test_a_device_takes_its_modules_along(site: Plant, registry: Registry) -> None:
    device, module = await connect(site), await connect(site, VISION, client_id="m")
    await registry.delete(VISION)
    assert (await module.read(p.Disconnect)).reason is Reason.ADMINISTRATIVE_ACTION
    assert await device.is_silent()
    await registry.put(VISION, SECRET)
    module = await connect(site, VISION, client_id="m")
    await registry.patch(PRESS, change(status="disabled"))
    for client in (device, module):
        assert (await client.read(p.Disconnect)).reason is Reason.ADMINISTRATIVE_ACTION
    assert await refusal(site, Version.V5, "press-1/vision", "secret") is Reason.BAD_USER_NAME_OR_PASSWORD


async def test_what_does_not_concern_the_credential_leaves_the_connection(
    site: Plant, registry: Registry, clock: VirtualClock
) -> None:
    by_password = await connect(site, client_id="a")
    by_key = await connect(site, password=token(clock), client_id="b")
    await registry.patch(PRESS, change(tags={"a": 1}))
    await registry.rotate_keys(PRESS)
    await registry.put(Name("other"), change(status="disabled"))
    for client in (by_password, by_key):
        assert await client.is_silent()
    await registry.rotate_keys(PRESS)  # now neither key is the one that signed
    assert (await by_key.read(p.Disconnect)).reason is Reason.ADMINISTRATIVE_ACTION
    assert await by_password.is_silent()


async def test_a_change_during_a_check_counts(site: Plant, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is right when the check begins, and the device is disabled before it ends."""
    loop, checking, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    fits = PasswordHash.fits

    def slow(self: PasswordHash, password: bytes) -> bool:
        loop.call_soon_threadsafe(checking.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return fits(self, password)

    monkeypatch.setattr(PasswordHash, "fits", slow)
    attempt = asyncio.ensure_future(refusal(site, Version.V5, "press-1", "secret"))
    await checking.wait()
    await registry.patch(PRESS, change(status="disabled"))
    go_on.set()
    assert await attempt is Reason.BAD_USER_NAME_OR_PASSWORD
    assert site.statistics["connections"] == 0


async def test_presence_follows_the_connections(site: Plant, registry: Registry, clock: VirtualClock) -> None:
    client = await connect(site)
    (came,) = await seen(site, "connected")
    generation = (await registry.get(PRESS)).generation
    assert came == {
        "device": "press-1",
        "generation": generation,
        "time": "2026-01-01T00:00:00Z",
        "client": "c",
        "credential": "password",
    }
    assert (await registry.get(PRESS)).connected
    assert (await site.gateway.sources.read()).of(catalog.DEVICES) == {(): 1}
    client.send(p.Disconnect())
    await client.rest()
    (gone,) = await seen(site, "disconnected")
    assert gone["reason"] == "success"
    assert not (await registry.get(PRESS)).connected


async def test_users_and_devices_do_not_mix(site: Plant, registry: Registry) -> None:
    await registry.put(Name("ann"), change(credentials={"password_hash": OTHER}))
    client = await site.connect("x", user_name="ann", password=b"secret")
    await client.publish("ann/x")
    await connect(site)
    assert [event["device"] for event in await seen(site, "connected")] == ["press-1"]


async def test_an_open_server_checks_the_devices_that_it_knows(plant: Plant) -> None:
    await plant.start()
    await plant.connect("a", user_name="anybody", password=b"x")
    await plant.connect("b")
    await plant.connect("c", user_name="press-1", password=b"secret")
    assert await refusal(plant, Version.V5, "press-1", "wrong") is Reason.BAD_USER_NAME_OR_PASSWORD


# --- HTTP


async def test_a_device_publishes_by_http(site: Plant, clock: VirtualClock) -> None:
    async with client_of(site) as http:
        assert (await http.post("/topics/device/press-1/a", content="1", auth=auth("press-1"))).status_code == 200
        signed = {"Authorization": token(clock)}
        assert (await http.post("/topics/device/press-1/b", content="2", headers=signed)).status_code == 200
        signed = {"Authorization": token(clock, "devices/press-1/modules/vision")}
        assert (await http.post("/topics/device/press-1/c", content="3", headers=signed)).status_code == 200
        assert error_of(await http.post("/topics/device/press-2/a", auth=auth("press-1")))[0] == 403
        assert error_of(await http.post("/topics/device/press-1/a", auth=auth("press-1", "wrong")))[0] == 401
        for wrong in (token(clock, expires=-HOUR), "SharedAccessSignature x", token(clock, "devices/nobody"), "x"):
            assert error_of(await http.post("/topics/a", headers={"Authorization": wrong}))[0] == 401
    assert await site.payloads("events") == [b"1", b"2", b"3"]


async def test_only_who_may_manage_sees_devices(site: Plant) -> None:
    async with client_of(site) as http:
        for method, path in [
            ("GET", "/devices"),
            ("POST", "/devices"),
            ("GET", "/devices/press-1"),
            ("PUT", "/devices/press-9"),
            ("PATCH", "/devices/press-1"),
            ("DELETE", "/devices/press-1"),
            ("GET", "/devices/press-1/keys"),
            ("POST", "/devices/press-1/keys/rotate"),
            ("GET", "/devices/press-1/modules"),
            ("GET", "/devices/press-1/modules/vision"),
        ]:
            assert error_of(await http.request(method, path))[0] == 401
            for who in ("bob", "press-1"):
                status, code, message = error_of(await http.request(method, path, auth=auth(who)))
                assert (status, code) == (403, "forbidden")
                needed = "'view'" if method == "GET" and "keys" not in path else "'manage'"
                assert needed in message


async def test_a_device_is_made_changed_and_deleted_by_http(site: Plant) -> None:
    async with client_of(site, auth=auth("ann")) as http:
        made = await http.put("/devices/press-2", json={"tags": {"site": "a"}, "credentials": {"keys": {}}})
        assert made.status_code == 201
        device = made.json()
        assert made.headers["etag"] == f'"{device["etag"]}"'
        assert device["credentials"] == {"keys": True, "password": False, "thumbprints": None, "authority": False}
        assert (await http.get("/devices/press-2")).json() == device
        stale = {"If-Match": '"0"'}
        assert error_of(await http.patch("/devices/press-2", json={}, headers=stale))[:2] == (
            412,
            "precondition_failed",
        )
        fresh = {"If-Match": made.headers["etag"]}
        changed = await http.patch("/devices/press-2", json={"tags": {"floor": 3}}, headers=fresh)
        assert changed.json()["tags"] == {"site": "a", "floor": 3}
        assert error_of(await http.put("/devices/press-2", json={}, headers={"If-None-Match": "*"}))[0] == 412
        keys = (await http.get("/devices/press-2/keys")).json()
        rotated = await http.post("/devices/press-2/keys/rotate")
        assert rotated.json()["secondary"] == keys["primary"]
        assert rotated.headers["cache-control"] == "no-store"
        assert (await http.put("/devices/press-2/modules/eye", json={})).json()["module"] == "eye"
        (module,) = (await http.get("/devices/press-2/modules")).json()["modules"]
        assert module["module"] == "eye"
        assert (await http.delete("/devices/press-2/modules/eye")).status_code == 204
        assert (await http.delete("/devices/press-2")).status_code == 204
        assert error_of(await http.get("/devices/press-2"))[:2] == (404, "not_found")
    assert [event["by"] for event in await seen(site, "deleted", 2)] == ["ann", "ann"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/devices/a b", "{}", 400),
        ("PUT", "/devices/a%23", "{}", 400),
        ("PUT", "/devices/" + "x" * 129, "{}", 400),
        ("PUT", "/devices/a%2Fb%2Fc", "{}", 404),
        ("PUT", "/devices/x", "[]", 400),
        ("PUT", "/devices/x", '{"sttaus": "enabled"}', 400),
        ("PUT", "/devices/x", '{"status": "on"}', 400),
        ("PUT", "/devices/x", '{"tags": {"a": "\\ud800"}}', 400),
        ("PUT", "/devices/x", '{"tags": {"a": 1e999}}', 400),
        ("PUT", "/devices/x", '{"credentials": {"keys": {"primary": "x"}}}', 400),
        ("PUT", "/devices/x", b"\xff", 400),
        ("PATCH", "/devices/nobody", "{}", 404),
        ("DELETE", "/devices/nobody", "", 404),
        ("GET", "/devices/nobody/keys", "", 404),
        ("GET", "/devices/nobody/modules", "", 404),
        ("GET", "/devices?limit=0", "", 400),
        ("GET", "/devices?qurey=a", "", 400),
        ("GET", "/devices?query=tags.site%20%3D", "", 400),
        ("POST", "/devices", "{}", 415),
        ("POST", "/devices/press-1", "", 405),
    ],
)
async def test_wrong_requests_are_told(site: Plant, method: str, path: str, body: str | bytes, status: int) -> None:
    async with client_of(site, auth=auth("ann")) as http:
        assert error_of(await http.request(method, path, content=body))[0] == status


@pytest.mark.parametrize("headers", [{"If-Match": "abc"}, {"If-Match": '"'}, {"If-None-Match": '"abc"'}])
async def test_wrong_preconditions_are_told(site: Plant, headers: dict[str, str]) -> None:
    async with client_of(site, auth=auth("ann")) as http:
        assert error_of(await http.put("/devices/x", json={}, headers=headers))[0] == 400


async def test_pages_lead_to_the_next_one(site: Plant) -> None:
    lines = "\n".join(f'{{"id": "d{n}", "tags": {{"even": {"true" if n % 2 == 0 else "false"}}}}}' for n in range(9))
    async with client_of(site, auth=auth("ann")) as http:
        told = await http.post("/devices", content=lines, headers={"Content-Type": "application/x-ndjson"})
        assert told.json() == {"created": 9, "updated": 0, "unchanged": 0, "errors": []}
        found, url = [], "/devices?limit=2&query=tags.even"
        while url:
            page = await http.get(url)
            found += [device["id"] for device in page.json()["devices"]]
            url = page.links["next"]["url"] if page.links else ""
        assert found == ["d0", "d2", "d4", "d6", "d8"]


async def test_a_batch_tells_which_lines_are_wrong(site: Plant) -> None:
    lines = [
        '{"id": "a"}',
        "",
        "nonsense",
        '{"id": "a b"}',
        '{"id": "press-1", "tags": {"a": 1}}',
        '{"id": "c", "x": 1}',
    ]
    lines += ['{"id": "press-1", "module": "eye"}', '{"id": "a"}']
    async with client_of(site, auth=auth("ann")) as http:
        ndjson = {"Content-Type": "application/x-ndjson; charset=utf-8"}
        told = (await http.post("/devices", content="\n".join(lines), headers=ndjson)).json()
        assert [error["line"] for error in told.pop("errors")] == [2, 3, 5]
        assert told == {"created": 2, "updated": 1, "unchanged": 1}
        many = "\n".join(f'{{"id": "d{n}"}}' for n in range(1_001))
        assert error_of(await http.post("/devices", content=many, headers=ndjson))[0] == 413


SCHEMES = st.sampled_from(["Basic ", "basic ", "SharedAccessSignature ", ""])


@given(SCHEMES, st.one_of(st.text(), st.binary().map(lambda data: base64.b64encode(data).decode())))
def test_any_header_shows_credentials_or_none(scheme: str, value: str) -> None:
    shown = read_credentials(scheme + value)
    assert (shown.user_name is None) == (shown.password is None)


async def test_a_registry_that_does_not_answer_makes_devices_wait_and_no_user(
    site: Plant, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(name: Name) -> None:
        raise RegistryUnavailableError("the registry db.example/x does not answer")

    monkeypatch.setattr(registry, "find", find)
    assert await refusal(site, Version.V5, "press-1", "secret") is Reason.SERVER_BUSY
    async with client_of(site) as http:
        status, _, message = error_of(await http.post("/topics/a", auth=auth("press-1")))
        assert status == 503
        assert "db.example" not in message
    await site.connect("x", user_name="ann", password=b"secret")
