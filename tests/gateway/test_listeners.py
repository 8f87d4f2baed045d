"""TLS, client certificates and WebSocket, with clients that people use."""

from __future__ import annotations

import asyncio
import queue
import shutil
import socket
import ssl
import warnings
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from tests.gateway.test_broker_clients import MODULES, NODE
from tests.gateway.test_kept_sessions import pass_time
from tests.support.certificates import enter, make_certificate, make_list, secure
from tests.support.gateway import Plant, limits
from tests.support.mqtt import PATIENCE, RawClient
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from millstream.clock import VirtualClock
from millstream.errors import SettingsError
from millstream.gateway.listeners.tls import Certificate
from millstream.mqtt import Reason, Version, decode, encode
from millstream.mqtt import packet as p
from millstream.settings import ListenerSettings

MQTT = Subprotocol("mqtt")


async def listening(plant: Plant, settings: ListenerSettings, **more: Any) -> tuple[str, int]:
    gateway = await plant.start(listeners=[settings], **more)
    return gateway.listeners[0]


def use_paho(
    address: tuple[str, int], transport: Literal["tcp", "websockets"], ca: Path | None, certificate: Path | None = None
) -> None:
    """Publish to oneself by way of the server."""
    got: queue.Queue[bytes] = queue.Queue()
    subscribed: queue.Queue[None] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, "x", protocol=MQTTProtocolVersion.MQTTv5, transport=transport)
    if ca is not None:
        context = ssl.create_default_context(cafile=str(ca))
        if certificate is not None:
            context.load_cert_chain(certificate)
        client.tls_set_context(context)
    client.on_message = lambda client, data, message: got.put(bytes(message.payload))
    client.on_subscribe = lambda *told: subscribed.put(None)
    client.connect(*address)
    client.loop_start()
    try:
        client.subscribe("press-1/#", qos=1)
        subscribed.get(timeout=PATIENCE)
        client.publish("press-1/large", bytes(200_000), qos=1)
        assert got.get(timeout=PATIENCE) == bytes(200_000)
    finally:
        client.disconnect()
        client.loop_stop()


async def test_tls(plant: Plant, certificates: Path) -> None:
    address = await listening(plant, secure(certificates))
    await asyncio.to_thread(use_paho, address, "tcp", certificates / "localhost.pem")
    assert plant.statistics["committed"] == 1


async def test_tls_is_1_2_or_newer(plant: Plant, certificates: Path) -> None:
    address = await listening(plant, secure(certificates))
    for version, works in (
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ):
        context = ssl.create_default_context(cafile=str(certificates / "localhost.pem"))
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        if works:
            reader, writer = await asyncio.open_connection(*address, ssl=context)
            client = RawClient(reader, writer, Version.V5)
            client.send(p.Connect(version=Version.V5, client_id="x"))
            await client.read(p.Connack)
            assert writer.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
            await client.close()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection(*address, ssl=context)


async def test_who_does_not_come_through_the_handshake_is_counted_and_told_of(
    plant: Plant, certificates: Path, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    address = await listening(plant, secure(certificates, client_ca=certificates / "authority.pem"))

    def distrust() -> None:
        with socket.create_connection(address) as plain, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")

    await asyncio.to_thread(distrust)
    await plant.until(lambda: plant.statistics["ended"].get("tls_failed") == 1)
    assert await enter(certificates, address, "localhost") is None, "a certificate of nobody that the server trusts"
    plain = await RawClient.open(address)  # not by TLS at all
    plain.send(p.Connect(version=Version.V5, client_id="x"))
    assert await plain.rest_of_bytes_or_reset() == b""
    await plant.until(lambda: plant.statistics["ended"].get("tls_failed") == 3)
    assert caplog.text.count("TLS handshake failed: tlsv1 alert unknown ca") == 1
    assert caplog.text.count("TLS handshake failed") == 1
    await clock.advance(61)
    again = await RawClient.open(address)
    again.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await again.rest_of_bytes_or_reset() == b""
    assert "TLS handshake failed: http request" in caplog.text
    for client in (plain, again):
        await client.close()


async def test_a_client_is_known_by_its_certificate(plant: Plant, certificates: Path) -> None:
    settings = secure(certificates, client_ca=certificates / "authority.pem")
    address = await listening(plant, settings, allow_anonymous=False)
    ca = certificates / "localhost.pem"
    await asyncio.to_thread(use_paho, address, "tcp", ca, certificates / "press-1.pem")
    assert plant.statistics["committed"] == 1, "it may publish under its own name"
    plain = await plant.open()
    plain.send(p.Connect(version=Version.V5, client_id="y"))
    assert (await plain.read(p.Connack)).reason >= 0x80, "the other listener has no way in"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        context = ssl.create_default_context(cafile=str(ca))
        reader, writer = await asyncio.open_connection(*address, ssl=context)
        try:
            writer.write(encode(p.Connect(client_id="z")))
            if not await reader.read(1):
                raise ConnectionError("it was closed")
        finally:
            writer.close()


async def test_a_new_certificate_is_used_without_a_restart(
    plant: Plant, certificates: Path, tmp_path: Path, clock: VirtualClock
) -> None:
    file = tmp_path / "server.pem"
    shutil.copy(certificates / "localhost.pem", file)
    settings = ListenerSettings(address="127.0.0.1:0", protocol="mqtts", certificate=file)
    address = await listening(plant, settings)
    staying = await plant.connect("staying")
    before = await asyncio.to_thread(ssl.get_server_certificate, address)
    shutil.copy(make_certificate(tmp_path, "renewed"), file)
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(ssl.get_server_certificate, address) == before:
            await clock.advance(1)
    assert await staying.is_silent()


async def test_who_is_revoked_is_not_let_in_and_cut_off(
    plant: Plant, certificates: Path, tmp_path: Path, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("press-2", "press-3"):
        make_certificate(certificates, name, by="authority")
    file = tmp_path / "revoked.pem"
    file.write_bytes(make_list(certificates, "press-2"))
    settings = secure(certificates, client_ca=certificates / "authority.pem", client_crl=file)
    address = await listening(plant, settings, allow_anonymous=False)
    assert await enter(certificates, address, "press-2") is None
    first, third = await enter(certificates, address, "press-1"), await enter(certificates, address, "press-3")
    assert first is not None and third is not None

    file.write_bytes(b"nothing")
    await pass_time(clock, lambda: "revoked.pem has no revocation list" in caplog.text)
    assert await enter(certificates, address, "press-2") is None, "the old list stays"
    assert await first.is_silent()

    file.write_bytes(make_list(certificates, "press-1"))
    await pass_time(clock, lambda: plant.statistics["connections"] == 1)
    (last,) = await first.rest()
    assert isinstance(last, p.Disconnect) and last.reason is Reason.ADMINISTRATIVE_ACTION
    assert await third.is_silent()
    assert await enter(certificates, address, "press-1") is None
    second = await enter(certificates, address, "press-2")
    assert second is not None, "it is on the list no longer"
    for client in (first, second, third):
        await client.close()


async def test_an_authority_that_is_taken_out_of_the_file_is_not_trusted_any_more(
    plant: Plant, certificates: Path, tmp_path: Path, clock: VirtualClock
) -> None:
    file = tmp_path / "authorities.pem"
    shutil.copy(certificates / "authority.pem", file)
    address = await listening(plant, secure(certificates, client_ca=file), allow_anonymous=False)
    client = await enter(certificates, address, "press-1")
    assert client is not None
    await client.close()
    shutil.copy(certificates / "localhost.pem", file)
    async with asyncio.timeout(PATIENCE):
        while (client := await enter(certificates, address, "press-1")) is not None:
            await client.close()
            await clock.advance(1)


def test_a_revocation_list_is_one_of_somebody(certificates: Path) -> None:
    with pytest.raises(ValueError, match="client_crl needs client_ca"):
        secure(certificates, client_crl=certificates / "revoked.pem")


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "server.pem"
    file.write_text("nothing")
    with pytest.raises(SettingsError, match=r"server\.pem cannot be used"):
        Certificate(ListenerSettings(address="127.0.0.1:0", protocol="mqtts", certificate=file))


WRONG = {
    "no certificate": {"protocol": "mqtts"},
    "a certificate for nothing": {"protocol": "ws", "certificate": "x.pem"},
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_a_listener_that_cannot_be_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="certificate"):
        ListenerSettings.model_validate({"address": "127.0.0.1:0", **given})


@pytest.mark.parametrize("protocol", ["ws", "wss"])
async def test_websocket(plant: Plant, certificates: Path, protocol: Literal["ws", "wss"]) -> None:
    is_secure = protocol == "wss"
    settings = secure(certificates, "wss") if is_secure else ListenerSettings(address="127.0.0.1:0", protocol="ws")
    address = await listening(plant, settings)
    ca = certificates / "localhost.pem" if is_secure else None
    await asyncio.to_thread(use_paho, address, "websockets", ca)
    assert plant.statistics["committed"] == 1


async def websocket(plant: Plant, **more: Any) -> str:
    host, port = await listening(plant, ListenerSettings(address="127.0.0.1:0", protocol="ws"), **more)
    return f"ws://{host}:{port}/mqtt"


async def test_packets_may_lie_in_messages_as_they_like(plant: Plant) -> None:
    url = await websocket(plant)
    data = encode(p.Connect(client_id="x")) + encode(p.Pingreq()) + encode(p.Publish(topic="a", qos=1, packet_id=9))
    async with open_websocket(url, subprotocols=[MQTT]) as client:
        assert client.subprotocol == "mqtt"
        for byte in data[:5]:
            await client.send(bytes((byte,)))
        await client.send([data[5:20], data[20:]])
        got = b""
        while len(got) < 10:
            more = await client.recv()
            assert isinstance(more, bytes)
            got += more
    found, position = [], 0
    while (one := decode(got, position)) is not None:
        found.append(type(one[0]))
        position = one[1]
    assert found == [p.Connack, p.Pingresp, p.Puback]
    await plant.until(lambda: plant.statistics["connections"] == 0)


async def test_the_subprotocol_is_mqtt(plant: Plant) -> None:
    url = await websocket(plant)
    for offered in (None, [Subprotocol("soap")]):
        with pytest.raises(InvalidStatus):
            await open_websocket(url, subprotocols=offered)


async def test_text_is_refused(plant: Plant) -> None:
    url = await websocket(plant)
    async with open_websocket(url, subprotocols=[MQTT]) as client:
        await client.send("hello")
        with pytest.raises(ConnectionClosed) as told:
            await client.recv()
        assert told.value.rcvd is not None
        assert told.value.rcvd.code == 1003


async def test_a_message_that_is_too_large_is_refused(plant: Plant) -> None:
    url = await websocket(plant, limits=limits(packet_bytes=1_000))
    async with open_websocket(url, subprotocols=[MQTT]) as client:
        with pytest.raises(ConnectionClosed) as told:
            await client.send(bytes(100_000))
            await client.recv()
        assert told.value.rcvd is not None
        assert told.value.rcvd.code == 1009


@pytest.mark.parametrize("sent", [b"", b"GET /mqtt HTTP/1.1\r\n", b"\0" * 100])
async def test_who_does_not_connect_is_closed(plant: Plant, clock: VirtualClock, sent: bytes) -> None:
    host, port = await listening(plant, ListenerSettings(address="127.0.0.1:0", protocol="ws"))
    client = await RawClient.open((host, port))
    client.write(sent)
    async with asyncio.timeout(PATIENCE):
        reading = asyncio.ensure_future(client.rest_of_bytes_or_reset())
        while not reading.done():
            await clock.advance(5)
    await client.close()


JAVASCRIPT = """
const mqtt = require('mqtt');
const client = mqtt.connect(process.argv[1], {protocolVersion: 5, reconnectPeriod: 0});
client.on('error', error => { console.error(error); process.exit(1); });
client.on('message', (topic, payload) => { console.log(payload.toString()); client.end(); });
client.on('connect', () => client.subscribe('a', {qos: 2}, () => client.publish('a', 'hello', {qos: 2})));
"""


async def test_a_browser_s_client(plant: Plant) -> None:
    if NODE is None or not (MODULES / "mqtt").is_dir():
        pytest.skip("MQTT.js is not installed; .ci/run does it")
    url = await websocket(plant)
    process = await asyncio.create_subprocess_exec(
        NODE, "-e", JAVASCRIPT, url, stdout=asyncio.subprocess.PIPE, cwd=MODULES.parent
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (0, b"hello\n")
