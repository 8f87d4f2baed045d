"""Streams live by HTTP: server-sent events and lines, resumed from positions."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of
from tests.support.mqtt import PATIENCE

from millstream.event import Event, to_columns
from millstream.gateway import hash_password
from millstream.log import StreamSpec


@pytest.fixture
async def http(plant: Plant) -> AsyncIterator[httpx.AsyncClient]:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        yield client


async def append(plant: Plant, *partitions: int, first: int = 0, payload: bytes = b"%d") -> None:
    """One commit an event, a second apart, to `events`; the payload is the event's number."""
    for number, partition in enumerate(partitions, start=first):
        transaction = plant.log.transaction()
        columns = to_columns([Event(topic="t", key="k", payload=payload % number)])
        transaction.append("events", partition, columns)
        await transaction.commit()
        await plant.clock.advance(1)


class Following:
    """A response that goes on."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def line(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return await anext(self._lines)

    async def block(self) -> dict[str, str]:
        """The fields of a server-sent event, or of what stands between two."""
        fields: dict[str, str] = {}
        while line := await self.line():
            name, _, value = line.partition(": ")
            fields[name] = value
        return fields

    async def numbers(self, count: int) -> list[int]:
        return [json.loads((await self.block())["data"])["data"] for _ in range(count)]

    async def ended(self) -> bool:
        """Whether it ends, and in good order."""
        async with asyncio.timeout(PATIENCE):
            return [line async for line in self._lines if line] == []


@contextlib.asynccontextmanager
async def follow(http: httpx.AsyncClient, path: str, **headers: str) -> AsyncIterator[Following]:
    given = {"Accept": "text/event-stream", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with http.stream("GET", path, headers=given) as response:
        assert response.status_code == 200, await response.aread()
        yield Following(response)


async def test_a_tail_shows_what_comes_over_all_partitions(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 0, 1)
    async with follow(http, "/streams/events/tail") as tail:
        assert tail.response.headers["content-type"] == "text/event-stream"
        assert tail.response.headers["cache-control"] == "no-store"
        assert tail.response.headers["millstream-positions"] == "1,1"
        assert await tail.block() == {"retry": "1000", "id": "1,1"}
        await append(plant, 1, 0, first=2)
        one, two = await tail.block(), await tail.block()
    assert (one["id"], two["id"]) == ("1,2", "2,2")
    event = json.loads(one["data"])
    assert list(event) == ["stream", "partition", "offset", "time", "topic", "key", "id", "data"]
    assert (event["partition"], event["offset"], event["data"], json.loads(two["data"])["data"]) == (1, 1, 2, 3)


@pytest.mark.parametrize("way", ["from", "Last-Event-ID"])
async def test_who_comes_back_misses_nothing_and_sees_nothing_twice(
    plant: Plant, http: httpx.AsyncClient, way: str
) -> None:
    await append(plant, 0, 1, 1, 0, 1)
    async with follow(http, "/streams/events/tail?from=earliest") as tail:
        await tail.block()
        assert await tail.numbers(2) == [0, 1]
        last = (await tail.block())["id"]
    assert last == "1,2"
    await append(plant, 0, first=5)
    path, headers = "/streams/events/tail", {"Last_Event_ID": last}
    if way == "from":
        path, headers = f"{path}?from={last}", {}
    async with follow(http, path, **headers) as tail:
        await tail.block()
        assert await tail.numbers(3) == [3, 4, 5]


async def test_last_event_id_is_later_than_where_the_tail_once_began(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 0, 0)
    async with follow(http, "/streams/events/tail?from=earliest", Last_Event_ID="1,0") as tail:
        await tail.block()
        assert await tail.numbers(1) == [1]


@pytest.mark.parametrize("path", ["/streams/events/1?from=1", "/streams/events/tail?partition=1&from=1"])
async def test_a_tail_of_one_partition(plant: Plant, http: httpx.AsyncClient, path: str) -> None:
    await append(plant, 1, 0, 1)
    async with follow(http, path) as tail:
        assert (await tail.block())["id"] == "1"
        block = await tail.block()
        assert (block["id"], json.loads(block["data"])["data"]) == ("2", 2)
        await append(plant, 0, 1, first=3)
        assert await tail.numbers(1) == [4]


async def test_a_tail_of_lines(plant: Plant, http: httpx.AsyncClient) -> None:
    async with follow(http, "/streams/events/tail?attributes=true", Accept="application/x-ndjson") as tail:
        assert tail.response.headers["content-type"] == "application/x-ndjson"
        await http.post("/topics/a", content=b"1", headers={"ce-type": "reading"})
        event = json.loads(await tail.line())
        assert (event["topic"], event["type"], event["data"]) == ("a", "reading", 1)
        await plant.gateway.stop()
        assert await tail.ended()


@pytest.mark.parametrize(("accept", "sign"), [("text/event-stream", ": still here"), ("application/x-ndjson", "")])
async def test_a_silent_tail_is_kept_alive(plant: Plant, http: httpx.AsyncClient, accept: str, sign: str) -> None:
    async with follow(http, "/streams/events/tail", Accept=accept) as tail:
        if sign:
            await tail.block()
        next_line = asyncio.create_task(tail.line())
        while not next_line.done():
            await plant.clock.advance(1)
        assert await next_line == sign


async def test_a_long_backlog_and_what_comes_meanwhile(plant: Plant, http: httpx.AsyncClient) -> None:
    transaction = plant.log.transaction()
    for partition in (0, 1):
        events = [Event(topic="t", key="k", payload=b"%d" % number) for number in range(500)]
        transaction.append("events", partition, to_columns(events))
    await transaction.commit()
    async with follow(http, "/streams/events/tail?from=earliest") as tail:
        await tail.block()
        assert await tail.numbers(1_000) == [*range(500), *range(500)]
        await append(plant, 0, first=1_000)
        assert await tail.numbers(1) == [1_000]


async def test_a_slow_client_is_slowed_and_costs_little(plant: Plant, http: httpx.AsyncClient) -> None:
    large = b'"%d' + b"x" * 500_000 + b'"'
    async with follow(http, "/streams/events/tail") as tail:
        await tail.block()
        await append(plant, *[0] * 40, payload=large)  # more than sockets and buffers hold
        (connection,) = plant.gateway._http._server.server_state.connections
        await plant.until(lambda: connection.flow.write_paused)  # type: ignore[union-attr]
        assert connection.transport.get_write_buffer_size() < 2_000_000
        assert plant.statistics["readers"] == 1
        found = [json.loads((await tail.block())["data"])["data"] for _ in range(40)]
        assert [int(each.rstrip("x")) for each in found] == list(range(40))


async def test_a_stop_ends_tails_in_good_order(plant: Plant, http: httpx.AsyncClient) -> None:
    async with follow(http, "/streams/events/tail") as tail:
        await tail.block()
        await plant.gateway.stop()
        assert await tail.ended()
    assert plant.statistics["readers"] == 0


async def test_a_stop_cuts_off_who_does_not_read(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, *[0] * 40, payload=b'"%d' + b"x" * 500_000 + b'"')
    async with follow(http, "/streams/events/tail?from=earliest"):
        (connection,) = plant.gateway._http._server.server_state.connections
        await plant.until(lambda: connection.flow.write_paused)  # type: ignore[union-attr]
        plant.gateway._http._server.config.timeout_graceful_shutdown = None  # it would wait for ever
        async with asyncio.timeout(PATIENCE):
            await plant.gateway.stop()
    assert plant.statistics["readers"] == 0


async def test_a_client_that_leaves_is_forgotten(plant: Plant, http: httpx.AsyncClient) -> None:
    async with follow(http, "/streams/events/tail") as tail:
        await tail.block()
        assert plant.statistics["readers"] == 1
    await plant.until(lambda: plant.statistics["readers"] == 0)


async def test_a_dropped_stream_ends_its_tails(plant: Plant, http: httpx.AsyncClient) -> None:
    async with follow(http, "/streams/events/tail") as tail:
        await tail.block()
        await plant.log.drop("events")
        assert await tail.ended()


REFUSED: dict[str, tuple[str, dict[str, str], int, str]] = {
    "no such stream": ("/streams/evnets/tail", {}, 404, "there is no stream 'evnets'"),
    "no such partition": ("/streams/events/tail?partition=2", {}, 404, "it has 2, from 0 on"),
    "a partition of letters": ("/streams/events/tail?partition=a", {}, 400, "partition=a"),
    "an offset for all": ("/streams/events/tail?from=0", {}, 400, "give an offset for each of them, as in 0,0"),
    "positions of another stream": ("/streams/events/tail?from=0,0,0", {}, 400, "has 2 partitions"),
    "positions beyond the end": ("/streams/events/tail?from=0,7", {}, 400, "beyond the end"),
    "a strange Last-Event-ID": ("/streams/events/tail", {"Last-Event-ID": "x,y"}, 400, "say earliest, latest"),
    "a misspelt parameter": ("/streams/events/tail?wait=1", {}, 400, "no parameter 'wait'"),
    "another form": (
        "/streams/events/tail",
        {"Accept": "text/html"},
        406,
        "text/event-stream, application/x-ndjson, application/cloudevents+json",
    ),
}


@pytest.mark.parametrize(("path", "headers", "status", "text"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_followed_is_told_with_the_mend(
    plant: Plant, http: httpx.AsyncClient, path: str, headers: dict[str, str], status: int, text: str
) -> None:
    found, _, message = error_of(await http.get(path, headers=headers))
    assert (found, text in message) == (status, True), message
    assert plant.statistics["readers"] == 0


async def test_head_is_not_for_what_has_no_end(http: httpx.AsyncClient) -> None:
    response = await http.head("/streams/events/tail")
    assert (response.status_code, response.headers["allow"]) == (405, "GET")


async def test_who_is_overtaken_by_retention_is_told(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, *[0] * 60, payload=b'"%d' + b"x" * 500_000 + b'"')
    async with follow(http, "/streams/events/tail?from=earliest") as tail:
        await tail.block()
        last = await tail.block()
        await plant.log.create(StreamSpec("events", ("#",), partitions=2, retention_age=timedelta(seconds=1)))
        async with asyncio.timeout(PATIENCE):
            while (await plant.log.bounds("events", 0)).first < 60:
                await plant.clock.advance(10)
        await append(plant, 0, first=60)
        with pytest.raises(StopAsyncIteration):
            while block := await tail.block():
                last = {**last, **block}
    assert int(last["id"].partition(",")[0]) < 60
    status, _, message = error_of(await http.get("/streams/events/tail", headers={"Last-Event-ID": last["id"]}))
    assert (status, "from=earliest" in message) == (410, True)


async def test_a_user_is_asked_for(plant: Plant) -> None:
    users = {"ann": {"password": hash_password("secret"), "read": ["events"]}}
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users)
    async with client_of(plant) as client:
        assert error_of(await client.get("/streams/events/tail"))[:2] == (401, "unauthorized")
        client.auth = httpx.BasicAuth("ann", "secret")
        async with follow(client, "/streams/events/tail") as tail:
            assert (await tail.block())["id"] == "0,0"
