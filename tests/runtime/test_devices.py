"""Devices and a server that dies: who is connected, and what is told of it, is right after its next start."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.support.millstream import Running, millstream, read_stream, until
from tests.support.mqtt import RawClient

from millstream.errors import UnknownStreamError
from millstream.mqtt import packet as p
from millstream.password import hash_password

USER = "Basic " + base64.b64encode(b"ada:secret").decode()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings with somebody who may manage devices."""
    path = tmp_path / "millstream.toml"
    user = f'[users.ada]\npassword = "{hash_password("secret")}"\nmanage = true\n'
    path.write_text(f'mqtt = "127.0.0.1:0"\nhttp = "127.0.0.1:0"\n{user}')
    return path


def ask(server: Running, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://{server.http}{path}", data, {"Authorization": USER}, method=method)
    with urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


async def connected(server: Running, device: str) -> RawClient:
    address = ("127.0.0.1", server.mqtt_port)
    return await RawClient.connect(address, device, user_name=device, password=b"hush")


def life(folder: Path) -> list[tuple[str, str | None]]:
    """What happened to devices, in order, and why."""
    try:
        found = read_stream(folder, "$devices")
    except UnknownStreamError:  # until the first event
        return []
    events = sorted(found, key=lambda event: int(str(event.id).split("-")[1]))
    return [(event.topic.removeprefix("$devices/"), event.data.get("reason")) for event in events]


def test_presence_is_right_after_a_kill(tmp_path: Path, config: Path) -> None:
    folder = tmp_path / "data"
    server = Running(folder, "--config", str(config))
    try:
        for device in ("a", "b"):
            ask(server, "PUT", f"/devices/{device}", {"credentials": {"password": "hush"}})
        loop = asyncio.new_event_loop()
        clients = [loop.run_until_complete(connected(server, device)) for device in ("a", "b")]
        until(lambda: len(life(folder)) == 4, what="what happened")
        killed = server.children()["server"]
        os.kill(killed, signal.SIGKILL)
        until(lambda: server.children().get("server") not in (None, killed), what="another server")
        until(lambda: _devices(server) == {"a": False, "b": False}, what="who is connected")
        clients.append(loop.run_until_complete(connected(server, "a")))
        until(lambda: _devices(server) == {"a": True, "b": False}, what="who is connected")
        for client in clients:
            loop.run_until_complete(client.close())
        loop.close()
        assert server.stop()[0] == 0
    finally:
        server.close()
    assert sorted(life(folder)[:6]) == sorted(
        [
            ("a/created", None),
            ("b/created", None),
            ("a/connected", None),
            ("b/connected", None),
            ("a/disconnected", "server_lost"),
            ("b/disconnected", "server_lost"),
        ]
    )
    assert [what for what, _ in life(folder)[6:]] == ["a/connected", "a/disconnected"]
    balanced = millstream("ledger", "--data", str(folder))
    assert balanced.returncode == 0, balanced.stdout


def _devices(server: Running) -> dict[str, bool] | None:
    try:
        return {device["id"]: device["connected"] for device in ask(server, "GET", "/devices")["devices"]}
    except OSError:
        return None  # it is not there yet


def test_a_handler_in_a_worker_calls_a_device_of_the_server(tmp_path: Path, config: Path) -> None:
    application = tmp_path / "caller.py"
    application.write_text(
        "from millstream import App, Device\n"
        "app = App('caller')\n"
        "out = app.stream('out', topics='out/{device}', key='device')\n"
        "@app.on('device/{device}/alarm')\n"
        "async def alarm(device: Device) -> None:\n"
        "    answer = await device.call('slow-down', {'percent': 50})\n"
        "    app.publish(f'out/{device.name}', {'status': answer.status, 'payload': answer.payload})\n"
    )
    server = Running(tmp_path / "data", str(application), "--config", str(config))
    try:
        ask(server, "PUT", "/devices/press-1", {"credentials": {"password": "hush"}})
        asyncio.run(_answer_one(server))
        until(lambda: [event.data for event in read_stream(server.folder, "out")] != [])
        assert [event.data for event in read_stream(server.folder, "out")] == [{"status": 200, "payload": 7}]
    finally:
        server.close()


async def _answer_one(server: Running) -> None:
    client = await connected(server, "press-1")
    await client.subscribe("device/press-1/methods/+/+")
    await client.publish("device/press-1/alarm", b"{}")
    call = await client.read(p.Publish)
    assert call.payload == b'{"percent":50}'
    await client.publish(f"{call.topic}/answer", b'{"status": 200, "payload": 7}')
    await client.close()


def test_queries_in_a_worker_join_with_twins_of_the_server_also_after_a_kill(tmp_path: Path, config: Path) -> None:
    application = tmp_path / "enriched.py"
    application.write_text(
        "from millstream import App\n"
        "app = App('enriched')\n"
        "app.stream('telemetry', topics='device/{device}/telemetry', key='device')\n"
        "app.reference('devices', 'registry', refresh='0.05s')\n"
        "app.query('hot', 'SELECT t.device, d.tags.line, d.reported.firmware, celsius FROM telemetry t '\n"
        "          'JOIN devices d ON t.device = d.id WHERE celsius > d.tags.most')\n"
    )
    folder, loop = tmp_path / "data", asyncio.new_event_loop()
    server = Running(folder, str(application), "--config", str(config))
    try:
        with _new_version(folder):
            device = {"tags": {"line": "A", "most": 80}, "credentials": {"password": "hush"}}
            ask(server, "PUT", "/devices/press-1", device)
        _measure(loop, server, 1, "1.0")
        killed = server.children()["server"]
        os.kill(killed, signal.SIGKILL)
        until(lambda: server.children().get("server") not in (None, killed), what="another server")
        until(lambda: _devices(server) is not None, what="the registry")
        with _new_version(folder):
            ask(server, "PATCH", "/devices/press-1", {"tags": {"line": "B"}})
        _measure(loop, server, 2, "1.1")
        assert server.stop()[0] == 0
    finally:
        server.close()
        loop.close()
    hot = [event.data for event in read_stream(folder, "hot")]
    assert hot == [
        {"device": "press-1", "line": line, "firmware": firmware, "celsius": 91.0}
        for line, firmware in (("A", "1.0"), ("B", "1.1"))
    ]
    told = millstream("backtest", str(application), "--data", str(folder))
    assert "published 2: same 2" in told.stdout, told.stdout + told.stderr


def _measure(loop: asyncio.AbstractEventLoop, server: Running, count: int, firmware: str) -> None:
    """Report, and when that counts, publish; until so many results are there."""
    client = loop.run_until_complete(connected(server, "press-1"))
    with _new_version(server.folder):
        reported = json.dumps({"firmware": firmware}).encode()
        loop.run_until_complete(client.publish("device/press-1/twin/reported/1", reported))
    for payload in (b'{"celsius": 79}', b'{"celsius": 91}'):
        loop.run_until_complete(client.publish("device/press-1/telemetry", payload))
    until(lambda: len(read_stream(server.folder, "hot")) == count, what="the result")
    loop.run_until_complete(client.close())


@contextmanager
def _new_version(folder: Path) -> Iterator[None]:
    """What is done in it is in the log at the end."""
    before = len(read_stream(folder, "$reference.devices"))
    yield
    until(lambda: len(read_stream(folder, "$reference.devices")) > before, what="a version of the registry")
