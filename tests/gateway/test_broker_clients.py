"""Clients that people use, as subscribers that go away and come back: each gets what it missed, once at QoS 2."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from tests.gateway.test_kept_sessions import publish
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE

Visit = Callable[[tuple[str, int], int], Awaitable[list[str]]]
"""Connect as `visitor`, into a session that is kept, subscribe to `news/#` at QoS 2, wait for so many messages, and
leave without ending the session. The payloads that came."""

MODULES = Path(__file__).parents[2] / ".ci" / "node_modules"
NODE = shutil.which("node")


def visit_by_paho(version: MQTTProtocolVersion) -> Visit:
    async def visit(address: tuple[str, int], count: int) -> list[str]:
        return await asyncio.to_thread(_visit_by_paho, address, count, version)

    return visit


def _visit_by_paho(address: tuple[str, int], count: int, version: MQTTProtocolVersion) -> list[str]:
    got: queue.Queue[str] = queue.Queue()
    subscribed: queue.Queue[None] = queue.Queue()
    is_5 = version is MQTTProtocolVersion.MQTTv5
    client = paho.Client(
        CallbackAPIVersion.VERSION2, "visitor", protocol=version, clean_session=None if is_5 else False
    )
    client.on_message = lambda client, data, message: got.put(message.payload.decode())
    client.on_subscribe = lambda *told: subscribed.put(None)
    if is_5:
        its = PahoProperties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        its.SessionExpiryInterval = 3_600
        client.connect(*address, clean_start=False, properties=its)
    else:
        client.connect(*address)
    client.loop_start()
    try:
        client.subscribe("news/#", qos=2)
        subscribed.get(timeout=PATIENCE)
        return [got.get(timeout=PATIENCE) for _ in range(count)]
    finally:
        client.disconnect()
        client.loop_stop()


async def visit_by_aiomqtt(address: tuple[str, int], count: int) -> list[str]:
    its = PahoProperties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    its.SessionExpiryInterval = 3_600
    protocol = aiomqtt.ProtocolVersion.V5
    got: list[str] = []
    async with aiomqtt.Client(
        *address, identifier="visitor", protocol=protocol, clean_start=False, properties=its
    ) as client:
        await client.subscribe("news/#", qos=2)
        while len(got) < count:
            message = await anext(client.messages)
            assert isinstance(message.payload, bytes)
            got.append(message.payload.decode())
    return got


GMQTT = """
import asyncio, json, sys
import gmqtt

async def visit(host, port, count):
    got, subscribed = asyncio.Queue(), asyncio.Event()

    def on_message(client, topic, payload, qos, properties):
        got.put_nowait(payload.decode())
        return 0

    client = gmqtt.Client("visitor", clean_session=False, session_expiry_interval=3_600)
    client.on_message = on_message
    client.on_subscribe = lambda *told, **more: subscribed.set()
    await client.connect(host, port)
    client.subscribe("news/#", qos=2)
    await subscribed.wait()
    found = [await got.get() for _ in range(count)]
    await client.disconnect(session_expiry_interval=3_600)
    return found

print(json.dumps(asyncio.run(visit(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
"""


PAHO_1 = """
import json, queue, sys, time
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
version = int(sys.argv[4])
got, subscribed = queue.Queue(), queue.Queue()
client = paho.Client("visitor", clean_session=None if version == 5 else False, protocol=version)
client.on_message = lambda client, data, message: got.put(message.payload.decode())
client.on_subscribe = lambda *told: subscribed.put(None)
if version == 5:
    its = Properties(PacketTypes.CONNECT)
    its.SessionExpiryInterval = 3_600
    client.connect(host, port, clean_start=False, properties=its)
else:
    client.connect(host, port)
client.loop_start()
client.subscribe("news/#", qos=2)
subscribed.get(timeout=60)
print(json.dumps([got.get(timeout=60) for _ in range(count)]))
client.disconnect()
client.loop_stop()
"""


def visit_by_paho_1(version: int) -> Visit:
    async def visit(address: tuple[str, int], count: int) -> list[str]:
        return await _visit_by_script("paho1", PAHO_1, address, count, version)

    return visit


async def visit_by_gmqtt(address: tuple[str, int], count: int) -> list[str]:
    return await _visit_by_script("gmqtt", GMQTT, address, count)


async def _visit_by_script(package: str, script: str, address: tuple[str, int], *arguments: int) -> list[str]:
    """By a package that is in a folder of its own, since it would hide another one."""
    folder = MODULES.parent / package
    if not folder.is_dir():
        pytest.skip(f"{package} is not installed; .ci/run does it")
    host, port = address
    command = [sys.executable, "-c", script, host, str(port), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: list[str] = json.loads(out)
    return found


async def visit_by_mosquitto(address: tuple[str, int], count: int) -> list[str]:
    program = shutil.which("mosquitto_sub")
    if program is None:
        pytest.skip("mosquitto_sub is not installed; .ci/run does it")
    host, port = address
    # Without a message to wait for it ends when it is subscribed (-E).
    until = ["-C", str(count)] if count else ["-E"]
    arguments = ["-h", host, "-p", str(port), "-i", "visitor", "-c", "-q", "2", "-t", "news/#", *until]
    process = await asyncio.create_subprocess_exec(program, *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().split()


JAVASCRIPT = """
const mqtt = require('mqtt');
const [host, port, count] = process.argv.slice(1);
const got = [];
const client = mqtt.connect({host, port: Number(port), clientId: 'visitor', clean: false, protocolVersion: 5,
                             reconnectPeriod: 0, properties: {sessionExpiryInterval: 3600}});
let subscribed = false;
const tell = () => console.log(JSON.stringify(got));
const leave = () => { if (subscribed && got.length >= count) client.end(false, tell); };
client.on('error', error => { console.error(error); process.exit(1); });
client.on('message', (topic, payload) => { got.push(payload.toString()); leave(); });
client.on('connect', () => client.subscribe('news/#', {qos: 2}, () => { subscribed = true; leave(); }));
"""


async def visit_by_javascript(address: tuple[str, int], count: int) -> list[str]:
    if NODE is None or not (MODULES / "mqtt").is_dir():
        pytest.skip("MQTT.js is not installed; .ci/run does it")
    host, port = address
    process = await asyncio.create_subprocess_exec(
        NODE, "-e", JAVASCRIPT, host, str(port), str(count), stdout=asyncio.subprocess.PIPE, cwd=MODULES.parent
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: list[str] = json.loads(out)
    return found


VISITS: dict[str, Visit] = {
    "paho, 3.1.1": visit_by_paho(MQTTProtocolVersion.MQTTv311),
    "paho, 5": visit_by_paho(MQTTProtocolVersion.MQTTv5),
    "paho 1.6, 3.1.1": visit_by_paho_1(4),
    "paho 1.6, 5": visit_by_paho_1(5),
    "aiomqtt": visit_by_aiomqtt,
    "gmqtt": visit_by_gmqtt,
    "mosquitto_sub": visit_by_mosquitto,
    "MQTT.js": visit_by_javascript,
}


@pytest.mark.parametrize("visit", VISITS.values(), ids=VISITS)
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_visitor_gets_what_it_missed(running: Plant, visit: Visit, qos: int) -> None:
    async with asyncio.timeout(60):
        assert await visit(running.address, 0) == []
        await publish(running, *(str(number).encode() for number in range(5)), topic="news/a", qos=qos)
        assert await visit(running.address, 5) == [str(number) for number in range(5)]
        await running.gateway.stop()
        await running.start()
        await publish(running, b"more", topic="news/b", qos=qos)
        last = await visit(running.address, 1)
        while last != ["more"]:  # mosquitto_sub may leave before its last acknowledgements are out: they come again
            assert set(last) < set("01234"), last
            last = await visit(running.address, 1)
    assert running.statistics["sessions"] == 1
