"""A client that is known by a certificate is looked up in the registry."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest
from tests.support.certificates import enter, secure
from tests.support.devices import PRESS, change
from tests.support.gateway import Plant

from millstream.devices import Registry
from millstream.mqtt import Reason
from millstream.mqtt import packet as p


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
