"""Streams live by WebSocket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.support.gateway import Plant, limits
from tests.support.mqtt import PATIENCE
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from millstream.event import Event, to_columns
from millstream.gateway import hash_password


@pytest.fixture
async def served(plant: Plant) -> str:
    """The server's address."""
    await plant.start(http="127.0.0.1:0")
    return address(plant)


def address(plant: Plant) -> str:
    assert plant.gateway.http_address is not None
    host, port = plant.gateway.http_address
    return f"{host}:{port}"


async def append(plant: Plant, *partitions: int, first: int = 0, payload: bytes = b"%d") -> None:
    for number, partition in enumerate(partitions, start=first):
        transaction = plant.log.transaction()
        transaction.append("events", partition, to_columns([Event(topic="t", key="k", payload=payload % number)]))
        await transaction.commit()
        await plant.clock.advance(1)


async def message(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        read: dict[str, Any] = json.loads(await socket.recv())
        return read


async def numbers(socket: ClientConnection, count: int) -> tuple[list[int], str]:
    """So many events' numbers, and the positions after them."""
    found: list[int] = []
    while len(found) < count:
        read = await message(socket)
        found += [event["data"] for event in read["events"]]
    return found, read["positions"]


async def test_a_tail_begins_where_it_says_and_is_resumed_from_its_positions(plant: Plant, served: str) -> None:
    await append(plant, 0, 1)
    async with connect(f"ws://{served}/streams/events/tail") as socket:
        assert await message(socket) == {"events": [], "positions": "1,1"}
        await append(plant, 1, 0, first=2)
        assert await numbers(socket, 2) == ([2, 3], "2,2")
    await append(plant, 0, first=4)
    async with connect(f"ws://{served}/streams/events/tail?from=1,2") as socket:
        assert await numbers(socket, 2) == ([3, 4], "3,2")
    async with connect(f"ws://{served}/streams/events/tail?partition=1&from=earliest") as socket:
        assert await numbers(socket, 2) == ([1, 2], "2")


async def test_attributes_are_shown_to_who_asks(plant: Plant, served: str) -> None:
    transaction = plant.log.transaction()
    transaction.append("events", 0, to_columns([Event(topic="t", key="k", type="reading")]))
    await transaction.commit()
    async with connect(f"ws://{served}/streams/events/tail?from=earliest&attributes=true") as socket:
        await message(socket)
        assert (await message(socket))["events"][0]["type"] == "reading"


async def test_a_slow_client_is_slowed(plant: Plant, served: str) -> None:
    await append(plant, *[0] * 40, payload=b'"%d' + b"x" * 500_000 + b'"')
    async with connect(f"ws://{served}/streams/events/tail?from=earliest", max_queue=1) as socket:
        (connection,) = plant.gateway._http._server.server_state.connections
        await plant.until(lambda: not connection.writable.is_set())  # type: ignore[union-attr]
        assert connection.transport.get_write_buffer_size() < 2_000_000
        found: list[str] = []
        while len(found) < 40:
            found += [event["data"].rstrip("x") for event in (await message(socket))["events"]]
        assert found == [str(number) for number in range(40)]


async def test_what_a_client_says_is_of_no_interest(plant: Plant, served: str) -> None:
    async with connect(f"ws://{served}/streams/events/tail") as socket:
        await message(socket)
        await socket.send("hello")
        await append(plant, 0)
        assert await numbers(socket, 1) == ([0], "1,0")


async def test_a_client_that_leaves_is_forgotten(plant: Plant, served: str) -> None:
    async with connect(f"ws://{served}/streams/events/tail") as socket:
        await message(socket)
        assert plant.statistics["readers"] == 1
    await plant.until(lambda: plant.statistics["readers"] == 0)


async def test_a_stop_tells_to_come_back(plant: Plant, served: str) -> None:
    async with connect(f"ws://{served}/streams/events/tail") as socket:
        await message(socket)
        await plant.gateway.stop()
        with pytest.raises(ConnectionClosed) as closed:
            await message(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012  # service restart
    assert plant.statistics["readers"] == 0


async def test_a_stop_cuts_off_who_does_not_read(plant: Plant, served: str) -> None:
    await append(plant, *[0] * 40, payload=b'"%d' + b"x" * 500_000 + b'"')
    async with connect(f"ws://{served}/streams/events/tail?from=earliest", max_queue=1, close_timeout=0.1):
        (connection,) = plant.gateway._http._server.server_state.connections
        await plant.until(lambda: not connection.writable.is_set())  # type: ignore[union-attr]
        plant.gateway._http._server.config.timeout_graceful_shutdown = None  # it would wait for ever
        async with asyncio.timeout(PATIENCE):
            await plant.gateway.stop()
    assert plant.statistics["readers"] == 0


async def refused(url: str, **given: Any) -> tuple[int, str, str]:
    """The answer to a handshake, in the one shape of errors."""
    with pytest.raises(InvalidStatus) as error:
        await connect(url, **given)
    response = error.value.response
    assert response.headers["content-type"] == "application/json"
    assert response.headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    (told,) = json.loads(response.body or b"").values()
    assert sorted(told) == ["code", "message"]
    return response.status_code, told["code"], told["message"]


REFUSED = {
    "no such stream": ("/streams/evnets/tail", 404, "not_found", "there is no stream 'evnets'"),
    "no such path": ("/streams/events/follow", 404, "not_found", "there is nothing at"),
    "an offset for all": ("/streams/events/tail?from=0", 400, "bad_request", "give an offset for each"),
    "a misspelt parameter": ("/streams/events/tail?form=0", 400, "bad_request", "no parameter 'form'"),
}


@pytest.mark.parametrize(("path", "status", "code", "text"), REFUSED.values(), ids=REFUSED)
async def test_a_handshake_is_refused_like_a_request(
    plant: Plant, served: str, caplog: pytest.LogCaptureFixture, path: str, status: int, code: str, text: str
) -> None:
    caplog.clear()
    found = await refused(f"ws://{served}{path}")
    assert (found[:2], text in found[2]) == ((status, code), True), found
    assert caplog.text == ""


async def test_a_page_of_another_site_may_not_read_through_a_browser(plant: Plant, served: str) -> None:
    url = f"ws://{served}/streams/events/tail"
    assert (await refused(url, origin=Origin("http://evil.example")))[:2] == (403, "forbidden")
    async with connect(url, origin=Origin(f"http://{served}")) as socket:
        await message(socket)


async def test_readers_are_bounded(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0", limits=limits(readers=1))
    url = f"ws://{address(plant)}/streams/events/tail"
    async with connect(url) as socket:
        await message(socket)
        assert (await refused(url))[:2] == (503, "unavailable")


async def test_a_user_is_asked_for(plant: Plant) -> None:
    users = {"ann": {"password": hash_password("secret"), "read": ["events"]}}
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users)
    path = f"{address(plant)}/streams/events/tail"
    assert (await refused(f"ws://{path}"))[:2] == (401, "unauthorized")
    assert (await refused(f"ws://ann:wrong@{path}"))[:2] == (401, "unauthorized")
    async with connect(f"ws://ann:secret@{path}") as socket:
        assert (await message(socket))["events"] == []
