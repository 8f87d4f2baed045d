"""Reading streams by HTTP: which there are, and their partitions page by page, in every form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pyarrow as pa
import pytest
from tests.support.gateway import Plant, limits
from tests.support.http import client_of, error_of
from tests.support.mqtt import PATIENCE

from millstream.clock import to_text
from millstream.event import BATCH_SCHEMA, Event, to_columns
from millstream.event_json import event_json
from millstream.gateway import hash_password
from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog


@pytest.fixture
async def http(plant: Plant) -> AsyncIterator[httpx.AsyncClient]:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        yield client


async def append(plant: Plant, count: int, stream: str = "events", partition: int = 0, first: int = 0) -> None:
    """One commit an event, a second apart; the payload is the event's number."""
    for number in range(first, first + count):
        transaction = plant.log.transaction()
        event = Event(topic="t", key="k", payload=b"%d" % number, type="reading", headers={"source": "/s"})
        transaction.append(stream, partition, to_columns([event]))
        await transaction.commit()
        await plant.clock.advance(1)


def numbers(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [event["data"] for event in response.json()["events"]]


async def test_the_streams_there_are(http: httpx.AsyncClient) -> None:
    telemetry = {
        "stream": "telemetry",
        "topics": ["site/{site}/{device}/telemetry"],
        "key": "device",
        "partitions": 4,
        "retention_age": None,
        "retention_bytes": None,
    }
    streams = (await http.get("/streams")).json()["streams"]
    assert [stream["stream"] for stream in streams] == ["events", "telemetry"]
    assert streams[1] == telemetry


async def test_a_stream_is_shown_with_its_bounds(plant: Plant, http: httpx.AsyncClient) -> None:
    spec = StreamSpec("site/alerts", partitions=2, retention_age=timedelta(days=30), retention_bytes=1 << 30)
    await plant.log.create(spec)
    start = plant.clock.now()
    await append(plant, 2, "site/alerts", 1)
    for path in ("/streams/site/alerts", "/streams/site%2Falerts"):
        shown = (await http.get(path)).json()
        assert (shown["stream"], shown["retention_age"], shown["retention_bytes"]) == ("site/alerts", "P30D", 1 << 30)
        assert shown["bounds"] == [
            {"partition": 0, "first": 0, "next": 0, "events": 0, "first_time": None, "last_time": None},
            {
                "partition": 1,
                "first": 0,
                "next": 2,
                "events": 2,
                "first_time": to_text(start),
                "last_time": to_text(start + 1_000_000),
            },
        ]


async def test_a_page_is_what_tail_prints(plant: Plant, http: httpx.AsyncClient) -> None:
    await http.post("/topics/a/b", json={"celsius": 91.5}, headers={"ce-id": "7"})
    await http.post("/topics/a/b", content=b"\xff")
    (partition,) = {event.partition for event in await plant.read("events")}
    events = await plant.read("events")
    response = await http.get(f"/streams/events/{partition}")
    page = response.json()
    assert list(page) == ["stream", "partition", "events", "next_offset"]
    assert (page["stream"], page["partition"], page["next_offset"]) == ("events", partition, 2)
    assert page["events"] == [json.loads(event_json(event)) for event in events]
    assert page["events"][1]["data_base64"] == "/w=="
    assert response.headers["content-type"] == "application/json"


async def test_attributes_are_shown_to_who_asks(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 1)
    (event,) = (await http.get("/streams/events/0?attributes=true")).json()["events"]
    assert (event["type"], event["headers"]) == ("reading", {"source": "/s"})
    assert "type" not in (await http.get("/streams/events/0")).json()["events"][0]


async def test_a_client_pages_on_by_body_header_or_link(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 5)
    response = await http.get("/streams/events/0?from=earliest&limit=2")
    assert (numbers(response), response.json()["next_offset"]) == ([0, 1], 2)
    assert response.headers["millstream-next-offset"] == "2"
    assert response.headers["link"] == '</streams/events/0?from=2&limit=2>; rel="next"'
    response = await http.get(response.links["next"]["url"])
    assert numbers(response) == [2, 3]
    response = await http.get(response.links["next"]["url"])
    assert numbers(response) == [4]
    response = await http.get(response.links["next"]["url"])
    assert (numbers(response), response.json()["next_offset"]) == ([], 5)


async def test_the_link_of_a_stream_with_a_strange_name_leads_on(plant: Plant, http: httpx.AsyncClient) -> None:
    await plant.log.create(StreamSpec("größe/a b?", partitions=1))
    await append(plant, 2, "größe/a b?")
    response = await http.get("/streams/gr%C3%B6%C3%9Fe/a%20b%3F/0?limit=1")
    assert numbers(await http.get(response.links["next"]["url"])) == [1]


async def test_where_a_page_begins(plant: Plant, http: httpx.AsyncClient) -> None:
    start = plant.clock.now()
    await append(plant, 4)
    later = to_text(start + 1_500_000)
    for begin, expected in [
        ("earliest", [0, 1, 2, 3]),
        ("latest", []),
        ("3", [3]),
        ("4", []),
        (later, [2, 3]),
        (later.replace("Z", "+00:00"), [2, 3]),
        (to_text(start + 60_000_000), []),
    ]:
        assert numbers(await http.get("/streams/events/0", params={"from": begin})) == expected, begin
    assert numbers(await http.get(f"/streams/events/0?from={later.replace('Z', '+00:00')}")) == [2, 3]


async def test_ndjson_is_an_event_a_line(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 300)  # more than are written in one go
    response = await http.get("/streams/events/0?from=1", headers={"Accept": "application/x-ndjson"})
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["millstream-next-offset"] == "300"
    assert [json.loads(line)["data"] for line in response.text.splitlines()] == list(range(1, 300))
    assert numbers(await http.get("/streams/events/0?from=1")) == list(range(1, 300))


async def test_arrow_has_the_columns_of_the_log(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 3)
    response = await http.get("/streams/events/0?limit=2", headers={"Accept": "application/vnd.apache.arrow.stream"})
    table = pa.ipc.open_stream(response.content).read_all()
    assert table.schema.equals(BATCH_SCHEMA)
    assert table.schema.metadata == {b"stream": b"events", b"partition": b"0", b"next_offset": b"2"}
    assert table.column("data").to_pylist() == [b"0", b"1"]
    assert table.column("headers").to_pylist() == [[("source", "/s")]] * 2


async def test_an_empty_page_in_every_form(http: httpx.AsyncClient) -> None:
    assert (await http.get("/streams/events/1")).json()["events"] == []
    ndjson = await http.get("/streams/events/1", headers={"Accept": "application/x-ndjson"})
    assert (ndjson.content, ndjson.headers["millstream-next-offset"]) == (b"", "0")
    arrow = await http.get("/streams/events/1", headers={"Accept": "application/vnd.apache.arrow.stream"})
    assert pa.ipc.open_stream(arrow.content).read_all().num_rows == 0


async def test_a_page_is_bounded_in_bytes(plant: Plant, http: httpx.AsyncClient) -> None:
    large = to_columns([Event(topic="t", key="k", payload=b'"%s"' % (b"x" * 700_000))])
    for _ in range(3):
        transaction = plant.log.transaction()
        transaction.append("events", 0, large)
        await transaction.commit()
    page = (await http.get("/streams/events/0")).json()
    assert 1 <= len(page["events"]) < 3
    assert page["next_offset"] == len(page["events"])


async def test_a_wait_ends_with_the_event(plant: Plant, http: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(http.get("/streams/events/0?from=latest&wait=30"))
    await plant.until(lambda: plant.gateway.statistics()["readers"] == 1)
    await append(plant, 1)
    assert numbers(await waiting) == [0]
    await plant.until(lambda: plant.gateway.statistics()["readers"] == 0)


async def test_a_wait_ends_with_its_time(plant: Plant, http: httpx.AsyncClient) -> None:
    start = plant.clock.monotonic()
    waiting = asyncio.create_task(http.get("/streams/events/0?wait=30"))
    await plant.until(lambda: plant.gateway.statistics()["readers"] == 1)
    while not waiting.done():
        await plant.clock.advance(1)
    assert numbers(await waiting) == []
    assert plant.clock.monotonic() - start >= 30


async def test_a_wait_ends_with_its_client(plant: Plant, http: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(http.get("/streams/events/0?wait=30"))
    await plant.until(lambda: plant.gateway.statistics()["readers"] == 1)
    waiting.cancel()
    await plant.until(lambda: plant.gateway.statistics()["readers"] == 0)


async def test_a_wait_ends_with_the_server(plant: Plant, http: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(http.get("/streams/events/0?wait=30"))
    await plant.until(lambda: plant.gateway.statistics()["readers"] == 1)
    await plant.gateway.stop()
    assert numbers(await waiting) == []


async def test_readers_are_bounded(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0", limits=limits(readers=1))
    async with client_of(plant) as client:
        waiting = asyncio.create_task(client.get("/streams/events/0?wait=30"))
        await plant.until(lambda: plant.gateway.statistics()["readers"] == 1)
        refused = await client.get("/streams/events/0")
        assert error_of(refused)[:2] == (503, "unavailable")
        assert refused.headers["retry-after"] == "1"
        await append(plant, 1)
        await waiting
        assert numbers(await client.get("/streams/events/0")) == [0]


REFUSED: dict[str, tuple[str, dict[str, str], int, str]] = {
    "no such stream": ("/streams/evnets/0", {}, 404, "there is no stream 'evnets'; there are: events, telemetry"),
    "no such stream to show": ("/streams/evnets", {}, 404, "there are: events, telemetry"),
    "no such partition": ("/streams/events/2", {}, 404, "it has 2, from 0 on"),
    "beyond the end": ("/streams/events/0?from=9", {}, 400, "from=latest"),
    "a huge offset": (f"/streams/events/0?from={'9' * 5_000}", {}, 400, "say earliest"),
    "no position": ("/streams/events/0?from=yesterday", {}, 400, "say earliest, latest, an offset, or a time"),
    "no time zone": ("/streams/events/0?from=2026-01-01T00:00:00", {}, 400, "which time zone"),
    "no limit": ("/streams/events/0?limit=0", {}, 400, "limit=0: give a whole number from 1 to 10000"),
    "a limit of letters": ("/streams/events/0?limit=many", {}, 400, "limit=many"),
    "too long a wait": ("/streams/events/0?wait=61", {}, 400, "wait=61: give seconds from 0 to 60"),
    "a wait of letters": ("/streams/events/0?wait=long", {}, 400, "wait=long"),
    "a wait without end": ("/streams/events/0?wait=nan", {}, 400, "wait=nan"),
    "a misspelt parameter": ("/streams/events/0?form=1", {}, 400, "no parameter 'form' here; there are: from, limit"),
    "neither true nor false": ("/streams/events/0?attributes=1", {}, 400, "say true or false"),
    "another form": ("/streams/events/0", {"Accept": "text/html"}, 406, "application/vnd.apache.arrow.stream"),
}


@pytest.mark.parametrize(("path", "headers", "status", "text"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_read_is_told_with_the_mend(
    http: httpx.AsyncClient, path: str, headers: dict[str, str], status: int, text: str
) -> None:
    found, _, message = error_of(await http.get(path, headers=headers))
    assert (found, text in message) == (status, True), message


async def test_what_retention_took_is_gone(plant: Plant, log: SqliteLog, http: httpx.AsyncClient) -> None:
    await append(plant, 1)
    await plant.clock.advance(100)
    await append(plant, 1, first=1)
    await plant.log.create(StreamSpec("events", ("#",), partitions=2, retention_age=timedelta(seconds=50)))
    async with asyncio.timeout(PATIENCE):
        while (await plant.log.bounds("events", 0)).first == 0:
            await plant.clock.advance(1)
    status, code, message = error_of(await http.get("/streams/events/0?from=0"))
    assert (status, code) == (410, "gone")
    assert "retention has dropped what was before 1; read on from=1, or from=earliest" in message
    assert numbers(await http.get("/streams/events/0?from=earliest")) == [1]


async def test_a_user_is_asked_for(plant: Plant) -> None:
    users = {"ann": {"password": hash_password("secret"), "read": ["events"]}}
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users)
    async with client_of(plant) as client:
        for path in ("/streams", "/streams/events", "/streams/events/0"):
            assert error_of(await client.get(path))[:2] == (401, "unauthorized")
            assert (await client.get(path, auth=("ann", "secret"))).status_code == 200


ACCEPTED: list[tuple[str | None, Any]] = [
    (None, "application/json"),
    ("*/*", "application/json"),
    ("application/*", "application/json"),
    ("application/x-ndjson", "application/x-ndjson"),
    ("Application/X-NDJSON; q=0.5, application/json;q=0.4", "application/x-ndjson"),
    ("application/json;q=0, */*", "application/x-ndjson"),
    ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
    ("nonsense, application/x-ndjson", "application/x-ndjson"),
]


@pytest.mark.parametrize(("accept", "given"), ACCEPTED)
async def test_the_form_is_what_the_client_likes_best(http: httpx.AsyncClient, accept: str | None, given: str) -> None:
    del http.headers["accept"]
    headers = {} if accept is None else {"Accept": accept}
    assert (await http.get("/streams/events/0", headers=headers)).headers["content-type"] == given
