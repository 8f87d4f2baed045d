"""Clients that people use: paho-mqtt and aiomqtt, in both versions; uvloop as well as asyncio."""

from __future__ import annotations

import asyncio
import queue

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from tests.support.gateway import Plant
from tests.support.millstream import until
from tests.support.mqtt import PATIENCE

VERSIONS = [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5]
GATHERED = 3_000  # messages


@pytest.mark.parametrize("version", VERSIONS)
async def test_paho(running: Plant, version: MQTTProtocolVersion) -> None:
    await asyncio.to_thread(use_paho, running.address, version)
    (event,) = await running.read("telemetry")
    assert event.data == {"celsius": 21.5}
    assert event.id == ("1" if version is MQTTProtocolVersion.MQTTv5 else None)


def use_paho(address: tuple[str, int], version: MQTTProtocolVersion) -> None:
    got: queue.Queue[paho.MQTTMessage] = queue.Queue()
    ready: queue.Queue[list[int]] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="paho", protocol=version)
    client.on_message = lambda client, data, message: got.put(message)
    client.on_subscribe = lambda client, data, mid, reasons, properties: ready.put([each.value for each in reasons])
    client.connect(*address)
    client.loop_start()
    try:
        client.subscribe("site/+/press-1/#", qos=2)
        assert ready.get(timeout=PATIENCE) == [2]
        its = None
        if version is MQTTProtocolVersion.MQTTv5:
            its = PahoProperties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            its.UserProperty = [("id", "1")]
        info = client.publish("site/a/press-1/telemetry", b'{"celsius": 21.5}', qos=1, properties=its)
        info.wait_for_publish(PATIENCE)
        assert info.is_published()
        message = got.get(timeout=PATIENCE)
        assert (message.topic, message.payload, message.qos) == ("site/a/press-1/telemetry", b'{"celsius": 21.5}', 1)
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("version", VERSIONS)
async def test_paho_may_send_all_at_once_what_it_has_gathered(running: Plant, version: MQTTProtocolVersion) -> None:
    """It does, whatever it was told of a maximum."""
    loop = asyncio.get_running_loop()

    def send() -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="paho", protocol=version)
        sent = [client.publish("site/a/press-1/telemetry", str(number), qos=1) for number in range(GATHERED)]
        client.connect(*running.address)
        client.loop_start()
        try:
            until(lambda: client.is_connected() and not client.want_write())
            loop.call_soon_threadsafe(running.log.gate.set)
            for each in sent:
                each.rc = paho.MQTT_ERR_SUCCESS  # it was not connected when it was published
                each.wait_for_publish(PATIENCE)
                assert each.is_published()
        finally:
            client.disconnect()
            client.loop_stop()

    running.log.gate.clear()  # nothing is acknowledged
    await asyncio.to_thread(send)
    assert [event.data for event in await running.read("telemetry")] == list(range(GATHERED))


@pytest.mark.parametrize("version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
async def test_aiomqtt(running: Plant, version: aiomqtt.ProtocolVersion) -> None:
    async with aiomqtt.Client(*running.address, protocol=version) as client:
        await client.subscribe("a/#", qos=1)
        for number in range(30):
            await client.publish(f"a/{number % 3}", str(number), qos=number % 2)
        got = []
        async with asyncio.timeout(PATIENCE):
            async for message in client.messages:
                got.append(message.payload)
                if len(got) == 30:
                    break
    assert got == [str(number).encode() for number in range(30)]
    assert len(await running.read("events")) == 30


def test_under_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")
    from millstream.clock import SystemClock
    from millstream.gateway import Gateway
    from millstream.log import StreamSpec
    from millstream.log.sqlite import SqliteLog
    from millstream.settings import Settings

    async def publish() -> dict[str, int]:
        clock = SystemClock()
        log = await SqliteLog.memory(clock)
        await log.create(StreamSpec("events", ("#",)))
        settings = Settings(mqtt="127.0.0.1:0", http="127.0.0.1:0", allow_anonymous=True)
        async with Gateway(log, settings, clock) as gateway:
            assert gateway.mqtt_address is not None
            for version in VERSIONS:
                await asyncio.to_thread(use_paho, gateway.mqtt_address, version)
            statistics = gateway.statistics()
        await log.close()
        return statistics

    statistics = uvloop.run(publish())
    assert (statistics["committed"], statistics["delivered"], statistics["ended"]) == (2, 2, {"success": 2})
