"""Each role may do what the table of operations says, and nothing else; keys end at once when they are revoked."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest
from tests.support.devices import auth, change
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of

from millstream import Client
from millstream.clock import VirtualClock
from millstream.devices import Name, Registry
from millstream.errors import RefusedError
from millstream.gateway.http.operation import ANYBODY
from millstream.rights import ROLES, Role


@pytest.fixture
async def site(plant: Plant) -> Plant:
    """A gateway without users: the first key is all there is."""
    await plant.start(http="127.0.0.1:0", allow_anonymous=False)
    return plant


def bearer(key: str | None) -> dict[str, str]:
    assert key is not None
    return {"Authorization": f"Bearer {key}"}


async def make(site: Plant, **said: object) -> str:
    async with client_of(site, headers=bearer(site.gateway.first_key)) as http:
        made = await http.post("/keys", json=said)
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


async def test_the_first_key_is_an_admins(site: Plant) -> None:
    async with client_of(site, headers=bearer(site.gateway.first_key)) as http:
        (key,) = (await http.get("/keys")).json()["keys"]
        assert key["role"] == "admin" and "key" not in key
        assert (await http.get("/devices/press-1/keys")).status_code == 200


async def test_where_anybody_may_come_in_no_key_is_made(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    assert plant.gateway.first_key is None


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.ADMIN])
async def test_a_role_opens_what_its_rights_open(site: Plant, role: Role) -> None:
    """Over all operations that there are: a 403 where the right is missing, and none where it is there."""
    async with client_of(site, headers=bearer(await make(site, role=role))) as http:
        for operation in site.gateway.operations:
            if operation.needs.right is None or operation.path.endswith("/tail"):
                continue
            path = re.sub(r"\{\w+:int\}", "0", operation.path)
            path = re.sub(r"\{device\}", "press-9", re.sub(r"\{\w+(:path)?\}", "events", path, count=path.count("{")))
            response = await http.request(operation.method, path)
            may = operation.needs.right in ROLES[role]
            assert (response.status_code == 403) is not may, (operation.method, path, response.text)
            assert response.status_code != 401


async def test_what_is_millstreams_own_is_for_admins(site: Plant) -> None:
    async with client_of(site) as http:
        for role, status in (("viewer", 403), ("operator", 403), ("admin", 404)):
            response = await http.get("/streams/$rejected", headers=bearer(await make(site, role=role)))
            assert response.status_code == status, role


async def test_without_a_right_only_whoever_is_let_in_matters(site: Plant) -> None:
    open_to_all = {each.path for each in site.gateway.operations if each.needs is ANYBODY}
    assert open_to_all == {"/health/live", "/health/ready", "/openapi.json"}


async def test_a_devices_key_is_that_device(site: Plant, registry: Registry) -> None:
    key = await make(site, role="device", device="press-1")
    async with client_of(site, headers=bearer(key)) as http:
        assert (await http.post("/topics/device/press-1/telemetry", content=b"{}")).status_code == 200
        assert (await http.post("/topics/device/press-2/telemetry", content=b"{}")).status_code == 403
        reported = await http.patch("/devices/press-1/twin", json={"reported": {"firmware": "2.0"}})
        assert reported.json()["reported"] == {"firmware": "2.0"}
        for path in ("/devices", "/devices/press-2/twin", "/keys", "/streams/events", "/status"):
            assert (await http.get(path)).status_code == 403, path
        await registry.patch(Name("press-1"), change(status="disabled"))
        assert error_of(await http.get("/devices/press-1/twin"))[0] == 401


async def test_a_revoked_key_is_good_no_more(site: Plant) -> None:
    key = await make(site, role="viewer")
    async with client_of(site, headers=bearer(site.gateway.first_key)) as admin, client_of(site) as http:
        assert (await http.get("/devices", headers=bearer(key))).status_code == 200
        assert (await admin.delete(f"/keys/{key.split('_')[1]}")).status_code == 204
        assert error_of(await http.get("/devices", headers=bearer(key)))[:2] == (401, "unauthorized")
        assert (await admin.delete(f"/keys/{key.split('_')[1]}")).status_code == 404


async def test_a_key_gets_another_secret(site: Plant) -> None:
    key = await make(site, role="viewer")
    async with client_of(site, headers=bearer(site.gateway.first_key)) as admin, client_of(site) as http:
        rotated = await admin.post(f"/keys/{key.split('_')[1]}/rotate")
        assert rotated.headers["cache-control"] == "no-store"
        assert (await http.get("/devices", headers=bearer(key))).status_code == 401
        assert (await http.get("/devices", headers=bearer(rotated.json()["key"]))).status_code == 200


async def test_users_with_the_right_administer_keys_and_those_who_manage_devices_do_not(plant: Plant) -> None:
    from tests.support.devices import CHEAP

    users = {"ann": {"password": CHEAP, "administer": True}, "bob": {"password": CHEAP, "manage": True}}
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users)
    async with client_of(plant) as http:
        assert (await http.get("/keys", auth=auth("ann"))).status_code == 200
        assert error_of(await http.get("/keys", auth=auth("bob")))[0] == 403
        assert (await http.get("/devices", auth=auth("bob"))).status_code == 200
        assert error_of(await http.get("/devices", auth=auth("ann")))[0] == 403


@pytest.mark.parametrize("header", ["Bearer", "Bearer x", "bearer msk_a_b", "Bearer msk_é_b"])
async def test_what_is_no_key_is_refused(site: Plant, header: str) -> None:
    async with client_of(site) as http:
        response = await http.get("/devices", headers=[(b"Authorization", header.encode())])
        assert error_of(response)[:2] == (401, "unauthorized")


async def test_too_many_wrong_passwords_are_told_so_and_not_at_once(site: Plant, clock: VirtualClock) -> None:
    async with client_of(site) as http:
        wrong = [await http.get("/devices", auth=httpx.BasicAuth("ann", f"wrong {n}")) for n in range(10)]
        late = asyncio.ensure_future(http.get("/devices", auth=httpx.BasicAuth("ann", "wrong")))
        assert (await http.get("/health/live")).status_code == 200
        assert not late.done()
        while not late.done():  # until it has come to the server
            await clock.advance(0.002)
            await asyncio.sleep(0)
        wrong.append(await late)
    assert [each.status_code for each in wrong] == [401] * 10 + [429]
    assert error_of(wrong[-1])[1] == "too_many_requests"
    assert wrong[-1].headers["retry-after"]


async def test_the_python_client_shows_a_key(site: Plant) -> None:
    assert site.gateway.http_address is not None
    url = f"http://127.0.0.1:{site.gateway.http_address[1]}"
    async with Client(url, key=await make(site, role="operator"), patience=0) as client:
        await client.publish("site/a/press-1/telemetry", {"celsius": 91})
        assert set(await client.streams()) >= {"events", "telemetry"}
    async with Client(url, key="msk_a_b", patience=0) as client:
        with pytest.raises(RefusedError, match="API key"):
            await client.streams()
