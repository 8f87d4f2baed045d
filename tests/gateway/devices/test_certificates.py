"""A client that is known by a certificate is looked up in the registry."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import ssl
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.certificates import enter, make_certificate, secure
from tests.support.clock import RestingClock
from tests.support.devices import CHEAP, PRESS, change
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE, RawClient

from millstream.clock import SystemClock, VirtualClock
from millstream.devices import EnrollmentChange, Enrollments, Registry
from millstream.devices.authority import check_authority
from millstream.errors import DeviceError
from millstream.mqtt import Reason, Version
from millstream.mqtt import packet as p


@pytest.fixture
def clock() -> RestingClock:
    """Certificates are made at the time of the machine."""
    return RestingClock(SystemClock().now())


async def listen(plant: Plant, certificates: Path) -> tuple[str, int]:
    settings = secure(certificates, client_ca=certificates / "authority.pem")
    gateway = await plant.start(allow_anonymous=False, listeners=[settings])
    return gateway.listeners[0]


def thumbprint(certificates: Path, kind: str) -> str:
    pem = (certificates / "press-1.pem").read_text().partition("-----BEGIN PRIVATE KEY")[0]
    return hashlib.new(kind, ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


@pytest.mark.parametrize("kind", ["sha256", "sha1"])
async def test_a_device_comes_in_by_its_thumbprint_and_goes_with_it(
    plant: Plant, registry: Registry, certificates: Path, kind: str
) -> None:
    address = await listen(plant, certificates)
    assert await enter(certificates, address, "press-1") is None, "the registry knows a password of it only"
    shown = {"primary": "00" * 32, "secondary": thumbprint(certificates, kind).upper()}
    await registry.patch(PRESS, change(credentials={"thumbprints": shown}))
    client = await enter(certificates, address, "press-1")
    assert client is not None
    assert (await client.publish("device/press-1/x")).reason < Reason.UNSPECIFIED_ERROR
    await registry.patch(PRESS, change(credentials={"thumbprints": None}))
    assert (await client.read(p.Disconnect)).reason is Reason.ADMINISTRATIVE_ACTION
    await client.close()


async def test_or_by_its_authority_while_it_is_enabled(plant: Plant, registry: Registry, certificates: Path) -> None:
    address = await listen(plant, certificates)
    await registry.patch(PRESS, change(credentials={"authority": True}))
    client = await enter(certificates, address, "press-1")
    assert client is not None
    await registry.patch(PRESS, change(status="disabled"))
    assert (await client.read(p.Disconnect)).reason is Reason.ADMINISTRATIVE_ACTION
    await client.close()
    assert await enter(certificates, address, "press-1") is None


async def test_who_is_no_device_is_known_by_the_certificate_alone(
    plant: Plant, registry: Registry, certificates: Path
) -> None:
    address = await listen(plant, certificates)
    await registry.delete(PRESS)
    client = await enter(certificates, address, "press-1")
    assert client is not None
    assert (await client.publish("press-1/x")).reason < Reason.UNSPECIFIED_ERROR
    await client.close()


def of_gateway(plant: Plant) -> Enrollments:
    reception = plant.gateway._reception
    assert reception is not None
    return reception.enrollments


def authority(certificates: Path, name: str = "authority") -> str:
    return (certificates / f"{name}.pem").read_text().partition("-----BEGIN PRIVATE KEY")[0]


async def apply(certificates: Path, address: tuple[str, int], name: str, shown: str) -> RawClient:
    """A client that wants to register under a name, and shows a certificate."""
    context = ssl.create_default_context(cafile=str(certificates / "localhost.pem"))
    context.load_cert_chain(certificates / f"{shown}.pem")
    client = RawClient(*await asyncio.open_connection(*address, ssl=context), Version.V5)
    resource = f"provisioning/registrations/{name}"
    client.send(p.Connect(version=Version.V5, client_id=f"{name}-registers", user_name=resource))
    return client


async def registered(client: RawClient, name: str) -> Any:
    assert (await client.read(p.Connack)).reason is Reason.SUCCESS
    await client.subscribe(f"registrations/{name}/answer/+")
    await client.publish(f"registrations/{name}/register/1")
    return msgspec.json.decode((await client.read(p.Publish)).payload)


@pytest.mark.parametrize("kind", ["group", "individual", "thumbprint"])
async def test_a_certificate_registers_its_device_which_connects_with_it(
    plant: Plant, registry: Registry, certificates: Path, kind: str
) -> None:
    await registry.delete(PRESS)
    address = await listen(plant, certificates)
    enrollments = of_gateway(plant)
    said: dict[str, Any] = {"authority": authority(certificates), "tags": {"site": "a"}}
    if kind == "thumbprint":
        said = {"thumbprints": {"primary": thumbprint(certificates, "sha256")}, "tags": {"site": "a"}}
    kind = "group" if kind == "group" else "individual"
    change = msgspec.convert({"kind": kind, **said}, EnrollmentChange)
    await enrollments.put("line-3" if kind == "group" else "press-1", change)
    for outcome in ("created", "kept"):
        client = await apply(certificates, address, "press-1", "press-1")
        answer = await registered(client, "press-1")
        assert answer == {"status": 200, "device": "press-1", "outcome": outcome}
        await client.close()
    device = await registry.get(PRESS)
    assert device.tags == {"site": "a"}
    assert device.credentials.kinds() == ["thumbprints"]
    connected = await enter(certificates, address, "press-1")
    assert connected is not None
    assert (await connected.publish("device/press-1/x")).reason < Reason.UNSPECIFIED_ERROR
    await connected.close()


@pytest.fixture
def chained(certificates: Path, tmp_path: Path) -> Path:
    """The same, where a line's authority, below the site's, has signed press-1; and other-line's has signed nobody."""
    folder = tmp_path / "chained"
    shutil.copytree(certificates, folder)
    for line in ("line", "other-line"):
        make_certificate(folder, line, by="authority", is_authority=True)
    file = make_certificate(folder, "press-1", by="line")
    file.write_text(file.read_text() + authority(folder, "line"))
    return folder


@pytest.mark.parametrize("named", ["line", "authority"])
async def test_an_enrollment_names_an_authority_anywhere_above_a_certificate(
    plant: Plant, registry: Registry, chained: Path, clock: VirtualClock, named: str
) -> None:
    await clock.advance(60)  # certificates were made after the clock
    await registry.delete(PRESS)
    address = await listen(plant, chained)
    enrollments = of_gateway(plant)
    other = msgspec.convert({"authority": authority(chained, "other-line")}, EnrollmentChange)
    await enrollments.put("other", other)
    client = await apply(chained, address, "press-1", "press-1")
    assert (await client.read(p.Connack)).reason is Reason.BAD_USER_NAME_OR_PASSWORD
    await client.close()
    await enrollments.put("line-3", msgspec.convert({"authority": authority(chained, named)}, EnrollmentChange))
    client = await apply(chained, address, "press-1", "press-1")
    assert (await registered(client, "press-1"))["outcome"] == "created"
    await client.close()
    connected = await enter(chained, address, "press-1")
    assert connected is not None
    await connected.close()
    assert (await registry.get(PRESS)).enrollment == "line-3"


async def test_a_device_comes_in_by_an_authority_that_another_one_has_signed(
    plant: Plant, registry: Registry, chained: Path
) -> None:
    address = await listen(plant, chained)
    await registry.patch(PRESS, change(credentials={"authority": True}))
    client = await enter(chained, address, "press-1")
    assert client is not None
    await client.close()
    (chained / "press-1.pem").write_text((chained / "press-1.pem").read_text().replace(authority(chained, "line"), ""))
    assert await enter(chained, address, "press-1") is None, "nobody knows who has signed it"


async def test_a_certificate_of_somebody_else_registers_nobody(
    plant: Plant, registry: Registry, certificates: Path
) -> None:
    """A name that is not in it; an authority that has not signed it; an enrollment that is disabled, or gone."""
    await registry.delete(PRESS)
    address = await listen(plant, certificates)
    enrollments = of_gateway(plant)

    async def is_refused(name: str) -> bool:
        client = await apply(certificates, address, name, "press-1")
        refused = (await client.read(p.Connack)).reason is Reason.BAD_USER_NAME_OR_PASSWORD
        await client.close()
        return refused

    assert await is_refused("press-1"), "there is no enrollment"
    other = msgspec.convert({"authority": authority(certificates, "localhost")}, EnrollmentChange)
    await enrollments.put("other", other)
    assert await is_refused("press-1")
    mine = msgspec.convert({"authority": authority(certificates)}, EnrollmentChange)
    await enrollments.put("line-3", mine)
    assert await is_refused("press-2")
    assert not await is_refused("press-1")
    await enrollments.patch("line-3", msgspec.convert({"status": "disabled"}, EnrollmentChange))
    assert await is_refused("press-1")
    assert await registry.find(PRESS) is None


async def test_what_an_enrollment_trusts_is_looked_at_when_it_registers(
    plant: Plant, registry: Registry, certificates: Path
) -> None:
    await registry.delete(PRESS)
    address = await listen(plant, certificates)
    enrollments = of_gateway(plant)
    await enrollments.put("line-3", msgspec.convert({"authority": authority(certificates)}, EnrollmentChange))
    client = await apply(certificates, address, "press-1", "press-1")
    assert (await client.read(p.Connack)).reason is Reason.SUCCESS
    await client.subscribe("registrations/press-1/answer/+")
    await enrollments.put("line-3", msgspec.convert({}, EnrollmentChange))
    await client.publish("registrations/press-1/register/1")
    answer = msgspec.json.decode((await client.read(p.Publish)).payload)
    assert (answer["status"], answer["error"]["code"]) == (403, "forbidden")
    await client.close()


async def https(plant: Plant, certificates: Path, shown: str | None = None) -> httpx.AsyncClient:
    """A client of a listener that asks for certificates."""
    context = ssl.create_default_context(cafile=str(certificates / "localhost.pem"))
    if shown is not None:
        context.load_cert_chain(certificates / f"{shown}.pem")
    host, port = plant.gateway.listeners[0]
    return httpx.AsyncClient(base_url=f"https://{host}:{port}", verify=context, timeout=PATIENCE)


@pytest.fixture
async def secure_site(plant: Plant, certificates: Path) -> Plant:
    settings = secure(certificates, "https", client_ca=certificates / "authority.pem")
    await plant.start(allow_anonymous=False, listeners=[settings], users={"ann": {"password": CHEAP, "manage": True}})
    return plant


async def test_by_https_a_certificate_registers_its_device_which_publishes_with_it(
    secure_site: Plant, registry: Registry, certificates: Path
) -> None:
    await registry.delete(PRESS)
    said = msgspec.convert({"authority": authority(certificates), "tags": {"site": "a"}}, EnrollmentChange)
    await of_gateway(secure_site).put("line-3", said)
    async with await https(secure_site, certificates, "press-1") as http:
        assert (await http.put("/registrations/press-2")).status_code == 401
        for status, outcome in ((201, "created"), (200, "kept")):
            made = await http.put("/registrations/press-1")
            assert (made.status_code, made.json()) == (status, {"device": "press-1", "outcome": outcome})
        assert (await http.post("/topics/device/press-1/telemetry", content=b"1")).status_code == 200
        assert (await http.post("/topics/device/press-2/telemetry", content=b"1")).status_code == 403
        assert (await http.get("/devices/press-1/twin")).json()["desired"] == {}
        await registry.patch(PRESS, change(credentials={"thumbprints": None}))
        assert (await http.get("/devices/press-1/twin")).status_code == 401
    assert await secure_site.payloads("events") == [b"1"]


async def test_by_https_nobody_comes_without_a_certificate(secure_site: Plant, certificates: Path) -> None:
    async with await https(secure_site, certificates) as http:
        with pytest.raises(httpx.TransportError):
            await http.get("/devices", auth=("ann", "secret"))


async def test_a_listener_without_authorities_takes_passwords(
    plant: Plant, registry: Registry, certificates: Path
) -> None:
    users = {"ann": {"password": CHEAP, "manage": True}}
    await plant.start(allow_anonymous=False, listeners=[secure(certificates, "https")], users=users)
    assert plant.gateway.http_address is None
    async with await https(plant, certificates) as http:
        assert (await http.get("/devices", auth=("ann", "secret"))).status_code == 200
        assert (await http.get("/devices")).status_code == 401


@pytest.mark.parametrize("wrong", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_authority_is_refused(wrong: str) -> None:
    with pytest.raises(DeviceError):
        check_authority(wrong)


def test_a_devices_certificate_is_no_authority(certificates: Path) -> None:
    with pytest.raises(DeviceError, match="no authority"):
        check_authority(authority(certificates, "press-1"))


@given(st.text(max_size=200))
def test_any_text_is_an_authority_or_refused(text: str) -> None:
    for each in (text, f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"):
        with pytest.raises(DeviceError):
            check_authority(each)
