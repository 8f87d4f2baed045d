"""The client, over a real gateway: publishing, reading, following, and what it does while the server is away."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE

from millstream import Client, Event
from millstream.client import Tail
from millstream.clock import to_datetime
from millstream.errors import PayloadError, RefusedError, UnreachableError
from millstream.event import to_columns
from millstream.gateway import hash_password
from millstream.log import Bounds, StreamSpec


@dataclass
class Reading:
    celsius: float


async def append(plant: Plant, *partitions: int, first: int = 0) -> None:
    """One commit an event, a second apart; the payload is the event's number."""
    for number, partition in enumerate(partitions, start=first):
        transaction = plant.log.transaction()
        transaction.append("events", partition, to_columns([Event(topic="t", key="k", payload=b"%d" % number)]))
        await transaction.commit()
        await plant.clock.advance(1)


@contextlib.asynccontextmanager
async def events_of(tail: Tail) -> AsyncIterator[AsyncGenerator[Event, None]]:
    async with contextlib.aclosing(aiter(tail)) as events:
        yield events


async def numbers(events: AsyncGenerator[Event, None], count: int) -> list[int]:
    async with asyncio.timeout(PATIENCE):
        return [(await anext(events)).data for _ in range(count)]


async def let_time_pass(plant: Plant, task: asyncio.Task[Any]) -> None:
    """Until it is done."""
    async with asyncio.timeout(PATIENCE):
        while not task.done():
            await plant.clock.advance(0.25)
            await asyncio.sleep(0.001)  # the kernel has to refuse connections meanwhile


PAYLOADS: list[tuple[Any, bytes, str | None]] = [
    ({"celsius": 91}, b'{"celsius":91}', "application/json"),
    (Reading(91.5), b'{"celsius":91.5}', "application/json"),
    ("91 °C", "91 °C".encode(), "text/plain"),
    (b"\x00\xff", b"\x00\xff", None),
    ("", b"", "text/plain"),
    (None, b"null", "application/json"),
]


@pytest.mark.parametrize(("data", "payload", "content_type"), PAYLOADS)
async def test_what_is_published_is_read(
    client: Client, plant: Plant, data: Any, payload: bytes, content_type: str | None
) -> None:
    more = {"id": "7", "type": "reading", "key": "press-1", "headers": {"source": "/größe"}}
    assert await client.publish("site/a b/ü", data, **more) is True  # type: ignore[arg-type]
    assert await client.publish("site/a b/ü", data, id="7") is False
    assert await client.publish_many("site/a b/ü", [data], ids=["8"]) == 1
    stored, many = sorted(await plant.read("events"), key=lambda event: event.id or "")
    page = await client.read("events", stored.partition)
    assert (page.stream, page.partition, page.events[0]) == ("events", stored.partition, stored)
    assert (stored.id, stored.type, stored.key, stored.headers) == ("7", "reading", "press-1", {"source": "/größe"})
    for event in (stored, many):
        assert (event.topic, event.payload, event.content_type) == ("site/a b/ü", payload, content_type)


async def test_many_events_go_in_few_requests_and_in_order(client: Client, plant: Plant) -> None:
    readings = [{"number": number, "text": "x" * 500} for number in range(1_000)]
    assert await client.publish_many("a", iter(readings)) == 1_000
    assert [event.data["number"] for event in await plant.read("events")] == list(range(1_000))
    assert plant.statistics["commits"] <= 5
    ids = [str(number) for number in range(10)]
    assert await client.publish_many("b", range(10), ids=ids) == 10
    assert await client.publish_many("b", range(10), ids=ids) == 0
    with pytest.raises(ValueError, match="zip"):
        await client.publish_many("c", range(3), ids=ids[:2])


async def test_streams_and_their_bounds(client: Client, plant: Plant) -> None:
    spec = StreamSpec("größe/a b", ("x/{d}",), "d", 1, timedelta(days=30), 1 << 30)
    await plant.log.create(spec)
    assert await client.streams() == await plant.log.streams()
    start = plant.clock.now()
    await append(plant, 1, 1)
    assert await client.bounds("events") == [Bounds(0, 0), Bounds(0, 2, 2, start, start + 1_000_000)]
    assert (await client.read("größe/a b", 0)).events == []


async def test_pages(client: Client, plant: Plant) -> None:
    start = plant.clock.now()
    await append(plant, *[0] * 5)
    page = await client.read("events", 0, limit=2)
    assert ([event.data for event in page], len(page), page.next_offset) == ([0, 1], 2, 2)
    assert [event.data for event in await client.read("events", 0, page.next_offset)] == [2, 3, 4]
    assert [event.data for event in await client.read("events", 0, to_datetime(start + 2_500_000))] == [3, 4]
    waiting = asyncio.create_task(client.read("events", 0, "latest", wait=60))
    await plant.until(lambda: plant.statistics["readers"] == 1)
    await append(plant, 0, first=5)
    assert [event.data for event in await waiting] == [5]


async def test_a_tail_follows(client: Client, plant: Plant) -> None:
    await append(plant, 0, 1)
    tail = client.tail("events", "earliest")
    assert tail.positions == "earliest"
    async with events_of(tail) as events:
        assert await numbers(events, 2) == [0, 1]
        await append(plant, 1, first=2)
        assert await numbers(events, 1) == [2]
    assert tail.positions == "1,2"
    await append(plant, 0, first=3)
    async with events_of(client.tail("events", tail.positions)) as events:
        assert await numbers(events, 1) == [3]
    one = client.tail("events", "earliest", partition=1)
    async with events_of(one) as events:
        assert await numbers(events, 2) == [1, 2]
    assert one.positions == "2"


async def test_a_tail_takes_any_text_for_one_line(client: Client, plant: Plant) -> None:
    async with events_of(client.tail("events", "earliest")) as events:
        for text in ("a\u2028b\x85c", '"\u2029"'):
            await client.publish("a", {"text": text})
            async with asyncio.timeout(PATIENCE):
                assert (await anext(events)).data == {"text": text}


async def restart(plant: Plant) -> None:
    """The gateway stops, and another one begins at the same place."""
    assert plant.gateway.http_address is not None
    _, port = plant.gateway.http_address
    await plant.gateway.stop()
    await plant.start(http=f"127.0.0.1:{port}")


async def test_a_tail_goes_on_when_the_server_comes_back(client: Client, plant: Plant) -> None:
    tail = client.tail("events")
    async with events_of(tail) as events:
        first = asyncio.create_task(numbers(events, 1))
        await plant.until(lambda: plant.statistics["readers"] == 1)
        await append(plant, 0)
        assert await first == [0]
        for round_number in (1, 2):
            await restart(plant)
            await append(plant, round_number % 2, first=round_number)
            following = asyncio.create_task(numbers(events, 1))
            await let_time_pass(plant, following)
            assert await following == [round_number]


async def test_a_request_waits_for_the_server(client: Client, plant: Plant) -> None:
    assert plant.gateway.http_address is not None
    _, port = plant.gateway.http_address
    await plant.gateway.stop()
    publishing = asyncio.create_task(client.publish("a", 1))
    for _ in range(8):
        await plant.clock.advance(0.25)
        await asyncio.sleep(0.001)
    assert not publishing.done()
    await plant.start(http=f"127.0.0.1:{port}")
    await let_time_pass(plant, publishing)
    assert await publishing is True
    assert await plant.payloads("events") == [b"1"]


async def test_patience_ends(client: Client, plant: Plant) -> None:
    await plant.gateway.stop()
    start = plant.clock.monotonic()
    asking = asyncio.create_task(client.streams())
    await let_time_pass(plant, asking)
    with pytest.raises(UnreachableError, match=r"the server at http://127.0.0.1:\d+ does not answer"):
        await asking
    assert 20 < plant.clock.monotonic() - start <= 40


async def test_an_answer_that_was_lost_makes_no_second_event(client: Client, plant: Plant) -> None:
    """The server commits, and goes before it has answered."""
    plant.log.gate.clear()
    publishing = asyncio.create_task(client.publish("a", 1))
    await plant.log.waiting.wait()
    for connection in list(plant.gateway._http._server.server_state.connections):
        connection.transport.abort()
    plant.log.gate.set()
    await let_time_pass(plant, publishing)
    assert await publishing is False
    assert await plant.payloads("events") == [b"1"]


async def test_what_the_server_refuses(client: Client, plant: Plant) -> None:
    with pytest.raises(RefusedError, match="there is no stream 'evnets'; there are: events") as refused:
        await client.read("evnets", 0)
    assert (refused.value.status, refused.value.code) == (404, "not_found")
    with pytest.raises(RefusedError, match="no stream 'evnets'"):
        await anext(aiter(client.tail("evnets")))
    with pytest.raises(RefusedError, match="wildcard"):
        await client.publish("a/+", 1)


async def test_users(plant: Plant) -> None:
    await plant.gateway.stop()
    gateway = await plant.start(http="127.0.0.1:0", allow_anonymous=False, users={"ann": hash_password("secret")})
    assert gateway.http_address is not None
    url = f"http://127.0.0.1:{gateway.http_address[1]}"
    async with Client(url, user="ann", password="secret") as client:
        assert await client.publish("ann/a", 1)
    async with Client(url, user="ann", password="wrong") as client:
        with pytest.raises(RefusedError, match="user name or password is wrong"):
            await client.publish("ann/a", 1)


async def test_a_right_that_is_missing_is_told_with_what_gives_it(plant: Plant) -> None:
    await plant.gateway.stop()
    gateway = await plant.start(http="127.0.0.1:0", allow_anonymous=False, users={"ann": hash_password("secret")})
    assert gateway.http_address is not None
    url = f"http://127.0.0.1:{gateway.http_address[1]}"
    async with Client(url, user="ann", password="secret") as client:
        member = client.group("billing", ["events"])
        refused = {
            "publish": client.publish("a", 1),
            "read": client.read("events", 0),
            "join": member.__aenter__(),
        }
        for right, deed in refused.items():
            with pytest.raises(RefusedError, match=rf"the setting '{right}' in \[users\.ann\]") as told:
                await deed
            assert (told.value.status, told.value.code) == (403, "forbidden")
        with pytest.raises(RefusedError, match="may not read stream 'events'"):
            await anext(aiter(client.tail("events")))


async def test_another_server_than_ours_is_told() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        with pytest.raises(PayloadError, match="is it the right address"):
            await client.streams()


def test_the_missing_extra_is_named() -> None:
    program = "import sys; sys.modules['httpx'] = None; import millstream; millstream.Client"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "MissingExtraError" in ended.stderr
    assert "pip install 'millstream[client]'" in ended.stderr
