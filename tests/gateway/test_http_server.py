"""What is no HTTP, or never comes to an end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.support.gateway import Plant, limits
from tests.support.http import client_of
from tests.support.mqtt import PATIENCE

POST = b"POST /topics/a HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

ENDLESS = {
    "headers": (POST, b"X: y\r\n"),
    "header": (POST + b"X: ", b"y"),
    "address": (b"POST /topics/", b"a"),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n"),
    "trailer": (CHUNKED + b"0\r\nX: ", b"y"),
}


async def exchange(plant: Plant, beginning: bytes, more: bytes = b"") -> bytes:
    """What the server says to these bytes, the latter of them sent until it closes."""
    assert plant.gateway.http_address is not None
    reader, writer = await asyncio.open_connection(*plant.gateway.http_address)
    writer.write(beginning)
    with contextlib.suppress(ConnectionError):
        while more and not reader.at_eof():
            writer.write(more * (4096 // len(more)))
            await writer.drain()
    answer = b""
    with contextlib.suppress(ConnectionError):  # it closes while more is on its way
        while data := await reader.read(4096):
            answer += data
    writer.close()
    return answer


@pytest.mark.parametrize("case", ENDLESS)
async def test_what_never_comes_to_an_end_is_cut_off(plant: Plant, case: str) -> None:
    await plant.start(http="127.0.0.1:0")
    async with asyncio.timeout(PATIENCE):
        answer = await exchange(plant, *ENDLESS[case])
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert await plant.payloads("events") == []


async def test_what_is_no_http(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    assert (await exchange(plant, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00")).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("size", [200_000, 1_000_000])
async def test_large_bodies_whole_and_in_pieces(plant: Plant, size: int) -> None:
    await plant.start(http="127.0.0.1:0", limits=limits(packet_bytes=2_000_000))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * (size // 100)

    async with client_of(plant) as http:
        for content in (b"y" * size, pieces()):
            assert (await http.post("/topics/a", content=content)).status_code == 200
    assert sorted(map(len, await plant.payloads("events"))) == [size, size]
