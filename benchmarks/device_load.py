"""The load generator for devices: `python -m benchmarks.device_load WHAT`, a process of its own on a core of its own.

`connect`: MQTT connections that are made, let in and closed. `patch`: changes of desired properties by HTTP. `call`:
direct methods by HTTP, which as many devices answer by MQTT. `job`: a job that calls a method on all of them.
`flood`: wrong passwords by HTTP and MQTT, while a device publishes. Each prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from benchmarks.load import allow_files
from millstream.clock import SECOND, SystemClock
from millstream.devices import Name, make_token, resource_of
from millstream.mqtt import Version, decode, encode
from millstream.mqtt import packet as p

PASSWORD = "secret"
KEY = "MDEyMzQ1Njc4OWFiY2RlZg=="
_AT_ONCE = 50  # connections that are made at a time, under the listen backlog


def name_of(number: int) -> str:
    """A device's, and its user's."""
    return f"device-{number:06}"


class Device(asyncio.Protocol):
    """A connected device, that answers whatever method is called."""

    def __init__(self, name: str, password: str, *, answers: bool = False) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._name, self._password, self._answers = name, password, answers
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        asked = p.Connect(
            version=Version.V3_1_1, client_id=self._name, user_name=self._name, password=self._password.encode()
        )
        self._transport.write(encode(asked, Version.V3_1_1))

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (found := decode(self._data, version=Version.V3_1_1)) is not None:
            packet, end = found
            self._data = self._data[end:]
            self._take(packet)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"{self._name} was not let in"))

    def close(self) -> None:
        self._transport.write(encode(p.Disconnect(), Version.V3_1_1))
        self._transport.close()

    async def publish(self) -> None:
        """An event, until it is acknowledged."""
        self._acknowledged = asyncio.get_running_loop().create_future()
        event = p.Publish(topic=f"device/{self._name}/telemetry", payload=b'{"celsius": 91}', qos=1, packet_id=1)
        self._transport.write(encode(event, Version.V3_1_1))
        await self._acknowledged

    def _take(self, packet: p.Packet) -> None:
        if isinstance(packet, p.Connack):
            if packet.reason:
                self.ready.set_exception(ConnectionError(f"{self._name}: {packet.reason.name}"))
            elif self._answers:
                methods = p.Subscription(f"device/{self._name}/methods/+/+", 1)
                self._transport.write(encode(p.Subscribe(packet_id=1, subscriptions=(methods,)), Version.V3_1_1))
            else:
                self.ready.set_result(None)
        elif isinstance(packet, p.Suback):
            self.ready.set_result(None)
        elif isinstance(packet, p.Puback):
            self._acknowledged.set_result(None)
        elif isinstance(packet, p.Publish):
            answer = p.Publish(topic=f"{packet.topic}/answer", payload=b'{"status": 200}')
            self._transport.write(encode(answer, Version.V3_1_1))


class Http:
    """A connection to the HTTP API with one request under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self._reader, self._writer, self._key = reader, writer, key

    @staticmethod
    async def open(port: int, key: str) -> Http:
        return Http(*await asyncio.open_connection("127.0.0.1", port), key)

    def close(self) -> None:
        self._writer.close()

    async def status(self, method: str, path: str, authorization: str) -> int:
        """The status of the answer to a request of somebody else."""
        self._writer.write(f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n".encode())
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        await self._reader.readexactly(int(answer.partition("content-length: ")[2].partition("\r\n")[0]))
        return int(answer.split(" ", 2)[1])

    async def ask(self, method: str, path: str, body: bytes = b"", media_type: str = "application/json") -> Any:
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {self._key}\r\n"
        head += f"Content-Type: {media_type}\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
        content = await self._reader.readexactly(length)
        if not answer.startswith("http/1.1 2"):
            raise ConnectionError(f"{method} {path}: {content.decode()}")
        return json.loads(content)


async def connect(options: argparse.Namespace) -> dict[str, float]:
    """Connections a second, of devices in turn."""
    numbers = iter(range(options.first, sys.maxsize))
    until = time.perf_counter() + options.seconds
    ends = SystemClock().now() + 3_600 * SECOND

    def password(name: str) -> str:
        return make_token(KEY, resource_of(Name(name)), ends) if options.token else PASSWORD

    async def one(number: int) -> None:
        name = name_of(number % options.devices)
        _, device = await asyncio.get_running_loop().create_connection(
            lambda: Device(name, password(name)), "127.0.0.1", options.port
        )
        await device.ready
        device.close()

    count, seconds = await _closed_loop(lambda: one(next(numbers)), options.connections, until)
    return {"rate": count / seconds, "count": count}


async def patch(options: argparse.Namespace) -> dict[str, float]:
    """Changes of desired properties a second."""
    return await _by_http(
        options,
        lambda http, n: http.ask("PATCH", f"/devices/{_nth(options, n)}/twin", b'{"desired": {"speed": %d}}' % n),
    )


async def call(options: argparse.Namespace) -> dict[str, float]:
    """Method round trips a second."""
    devices = await _connected(options)
    result = await _by_http(options, lambda http, n: http.ask("POST", f"/devices/{_nth(options, n)}/methods/ping"))
    for device in devices:
        device.close()
    return result


async def job(options: argparse.Namespace) -> dict[str, float]:
    """A job over all devices: seconds, and devices a second."""
    devices = await _connected(options)
    http = await Http.open(options.http, options.key)
    began = time.perf_counter()
    said = {"query": f"id < '{name_of(options.devices)}'", "method": {"name": "ping"}, "concurrency": 500}
    made = await http.ask("POST", "/jobs", json.dumps(said).encode())
    while True:
        told = await http.ask("GET", f"/jobs/{made['id']}")
        if told["status"] == "finished":
            break
        await asyncio.sleep(0.05)  # as a client has to
    seconds = time.perf_counter() - began
    if told["outcomes"] != {"done": options.devices}:
        raise ConnectionError(f"the job has ended with {told['outcomes']}")
    http.close()
    for device in devices:
        device.close()
    return {"rate": options.devices / seconds, "seconds": seconds}


async def flood(options: argparse.Namespace) -> dict[str, float]:
    """Events of a device, one after the other, first in peace and then while wrong passwords come by HTTP and MQTT."""
    loop = asyncio.get_running_loop()
    _, device = await loop.create_connection(partial(Device, name_of(0), PASSWORD), "127.0.0.1", options.port)
    await device.ready
    calm = await _publishing(device, options.seconds)
    refused = {"http": 0, "mqtt": 0}

    async def guess(guesser: int) -> None:
        http = await Http.open(options.http, "")
        try:
            for number in range(sys.maxsize):
                shown = base64.b64encode(f"{name_of(1)}:{guesser}-{number}".encode()).decode()
                if await http.status("GET", "/devices", f"Basic {shown}") not in (401, 429):
                    raise ConnectionError("a wrong password was let in")
                refused["http"] += 1
        finally:
            http.close()

    async def connect(guesser: int) -> None:
        for number in range(sys.maxsize):
            guessed = f"{guesser}-{number}"
            _, other = await loop.create_connection(partial(Device, name_of(1), guessed), "127.0.0.1", options.port)
            try:
                await other.ready
            except ConnectionError:
                refused["mqtt"] += 1
            else:
                raise ConnectionError("a wrong password was let in")

    guessing = [asyncio.ensure_future(guess(number)) for number in range(options.guessers)]
    guessing += [asyncio.ensure_future(connect(number)) for number in range(options.guessers)]
    stormy = await _publishing(device, options.seconds)
    failed = [task for task in guessing if task.done()]
    for task in guessing:
        task.cancel()
    await asyncio.gather(*guessing, return_exceptions=True)
    device.close()
    if failed:
        failed[0].result()
    return {
        "calm_ms": calm[len(calm) // 2] * 1e3,
        "median_ms": stormy[len(stormy) // 2] * 1e3,
        "p99_ms": stormy[int(len(stormy) * 0.99)] * 1e3,
        "rate": sum(refused.values()) / options.seconds,
        **{f"by_{how}": count / options.seconds for how, count in refused.items()},
    }


async def _publishing(device: Device, seconds: float) -> list[float]:
    """How long each event took to be acknowledged, in order of length."""
    until, latencies = time.perf_counter() + seconds, list[float]()
    while (began := time.perf_counter()) < until:
        await device.publish()
        latencies.append(time.perf_counter() - began)
    return sorted(latencies)


def _nth(options: argparse.Namespace, number: int) -> str:
    return name_of(number % options.devices)


async def _connected(options: argparse.Namespace) -> list[Device]:
    loop, found = asyncio.get_running_loop(), list[Device]()

    async def one(number: int) -> None:
        make = partial(Device, name_of(number), PASSWORD, answers=True)
        _, device = await loop.create_connection(make, "127.0.0.1", options.port)
        await device.ready
        found.append(device)

    for first in range(0, options.devices, _AT_ONCE):
        await asyncio.gather(*map(one, range(first, min(first + _AT_ONCE, options.devices))))
    return found


async def _by_http(options: argparse.Namespace, ask: Callable[[Http, int], Awaitable[object]]) -> dict[str, float]:
    free = [await Http.open(options.http, options.key) for _ in range(options.connections)]
    numbers = iter(range(sys.maxsize))
    latencies: list[float] = []

    async def one() -> None:
        http, began = free.pop(), time.perf_counter()
        await ask(http, next(numbers))
        latencies.append(time.perf_counter() - began)
        free.append(http)

    count, seconds = await _closed_loop(one, options.connections, time.perf_counter() + options.seconds)
    for http in free:
        http.close()
    latencies.sort()
    half, most = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    return {"rate": count / seconds, "median_ms": half * 1e3, "p99_ms": most * 1e3}


async def _closed_loop(one: Callable[[], Awaitable[None]], at_once: int, until: float) -> tuple[int, float]:
    """Do it again and again, so many at a time: how often, and in how many seconds."""
    began, count = time.perf_counter(), 0

    async def again() -> None:
        nonlocal count
        while time.perf_counter() < until:
            await one()
            count += 1

    await asyncio.gather(*(again() for _ in range(at_once)))
    return count, time.perf_counter() - began


def main() -> None:
    options = _options()
    allow_files(options.devices + 2 * options.guessers + 1_000)
    work = {"connect": connect, "patch": patch, "call": call, "job": job, "flood": flood}[options.what]
    try:
        import uvloop

        print(json.dumps(uvloop.run(work(options))))
    except ImportError:
        print(json.dumps(asyncio.run(work(options))))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device_load", description=__doc__)
    parser.add_argument("--what", choices=["connect", "patch", "call", "job", "flood"], required=True)
    parser.add_argument("--port", type=int, default=0, help="where MQTT listens")
    parser.add_argument("--http", type=int, default=0, help="where HTTP listens")
    parser.add_argument("--key", default="", help="an API key")
    parser.add_argument("--devices", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the device that begins")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument(
        "--guessers", type=int, default=1_000, help="who show wrong passwords, each by HTTP and by MQTT"
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--token", action="store_true", help="show a signed token in place of the password")
    return parser.parse_args()


if __name__ == "__main__":
    main()
