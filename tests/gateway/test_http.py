"""HTTP: publishing, health and status, and one shape for every error."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.support.gateway import Plant, limits
from tests.support.http import client_of, error_of

from millstream.errors import DiskFaultError, DiskFullError
from millstream.gateway import hash_password


@pytest.fixture
async def http(plant: Plant) -> AsyncIterator[httpx.AsyncClient]:
    await plant.start(http="127.0.0.1:0", limits=limits(packet_bytes=10_000))
    async with client_of(plant) as client:
        yield client


async def test_one_event(plant: Plant, http: httpx.AsyncClient) -> None:
    response = await http.post("/topics/site/a/press-1/telemetry", json={"celsius": 91})
    assert (response.status_code, response.json()) == (200, {"events": 1, "duplicates": 0})
    assert response.headers["date"].endswith("GMT")
    (event,) = await plant.read("telemetry")
    assert (event.topic, event.key, event.data) == ("site/a/press-1/telemetry", "press-1", {"celsius": 91})
    assert event.content_type == "application/json"


async def test_what_curl_sends_without_being_told_a_type_has_none(plant: Plant, http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    await http.post("/topics/a", content=b'{"celsius": 91}', headers=headers)
    (event,) = await plant.read("events")
    assert event.content_type is None
    assert event.data == {"celsius": 91}


async def test_any_payload_and_any_valid_topic(plant: Plant, http: httpx.AsyncClient) -> None:
    await http.post("/topics/caf%C3%A9/a%20b//c", content=b"\x00\xff", headers={"Content-Type": "image/png"})
    (event,) = await plant.read("events")
    assert (event.topic, event.payload, event.content_type) == ("café/a b//c", b"\x00\xff", "image/png")


async def test_the_answer_comes_after_the_commit(plant: Plant, http: httpx.AsyncClient) -> None:
    plant.log.gate.clear()
    answer = asyncio.create_task(http.post("/topics/a", content=b"1"))
    await plant.log.waiting.wait()
    assert not answer.done()
    assert await plant.payloads("events") == []
    plant.log.gate.set()
    assert (await answer).status_code == 200


async def test_cloudevents_in_binary_mode(plant: Plant, http: httpx.AsyncClient) -> None:
    headers = {
        "ce-id": "7",
        "ce-type": "reading",
        "ce-source": "/caf%C3%A9",
        "ce-partitionkey": "k",
        "ce-specversion": "1.0",
        "ce-line": "2",
        "Content-Type": "text/plain",
        "X-Other": "no",
    }
    assert (await http.post("/topics/a", content=b"hot", headers=headers)).is_success
    (event,) = await plant.read("events")
    assert (event.id, event.type, event.key, event.data) == ("7", "reading", "k", "hot")
    assert dict(event.headers) == {"source": "/café", "line": "2"}


@pytest.mark.parametrize("way", ["header", "query"])
async def test_an_id_is_kept_once(plant: Plant, http: httpx.AsyncClient, way: str) -> None:
    more: dict[str, Any] = {"headers": {"ce-id": "7"}} if way == "header" else {"params": {"id": "7"}}
    first = await http.post("/topics/a", content=b"1", **more)
    again = await http.post("/topics/a", content=b"2", **more)
    assert (first.json()["duplicates"], again.json()["duplicates"]) == (0, 1)
    assert again.status_code == 200
    assert await plant.payloads("events") == [b"1"]


async def test_ndjson_is_an_event_a_line(plant: Plant, http: httpx.AsyncClient) -> None:
    body = b'{"n": 1}\n\n  {"n":2}\r\n"three"'
    response = await http.post("/topics/a", content=body, headers={"Content-Type": "application/x-ndjson"})
    assert response.json() == {"events": 3, "duplicates": 0}
    assert [event.payload for event in await plant.read("events")] == [b'{"n": 1}', b'{"n":2}', b'"three"']
    assert plant.statistics["commits"] == 1


async def test_a_bad_line_stops_all(plant: Plant, http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/x-ndjson; charset=utf-8"}
    response = await http.post("/topics/a", content=b'{"n": 1}\n{"n": }\n', headers=headers)
    status, code, message = error_of(response)
    assert (status, code) == (400, "bad_request")
    assert "line 2" in message
    assert await plant.payloads("events") == []
    assert plant.statistics["rejected"] == {"bad_request": 1}


async def test_an_empty_batch_is_fine(plant: Plant, http: httpx.AsyncClient) -> None:
    response = await http.post("/topics/a", content=b"", headers={"Content-Type": "application/x-ndjson"})
    assert response.json() == {"events": 0, "duplicates": 0}


def cloud_event(**more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **more}


async def test_cloudevents_in_structured_mode(plant: Plant, http: httpx.AsyncClient) -> None:
    body = json.dumps(cloud_event(data={"celsius": 91}, partitionkey="k", line=7, hot=True, gone=None))
    response = await http.post("/topics/a", content=body, headers={"Content-Type": "application/cloudevents+json"})
    assert response.json() == {"events": 1, "duplicates": 0}
    (event,) = await plant.read("events")
    assert (event.id, event.type, event.key, event.data) == ("1", "t", "k", {"celsius": 91})
    assert dict(event.headers) == {"source": "/s", "line": "7", "hot": "true"}


async def test_cloudevents_in_batch_mode(plant: Plant, http: httpx.AsyncClient) -> None:
    body = json.dumps(
        [
            cloud_event(id="1", data="text", datacontenttype="text/plain"),
            cloud_event(id="2", data="json"),
            cloud_event(id="3", data_base64=base64.b64encode(b"\x00\xff").decode()),
            cloud_event(id="1", data="again"),
            cloud_event(id="4"),
        ]
    )
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    response = await http.post("/topics/a", content=body, headers=headers)
    assert response.json() == {"events": 5, "duplicates": 1}
    events = await plant.read("events")
    assert [event.payload for event in events] == [b"text", b'"json"', b"\x00\xff", b""]
    assert [event.content_type for event in events] == ["text/plain", None, None, None]


BAD_EVENTS = {
    "no JSON": ("{", "no CloudEvents JSON"),
    "a list": ("[]", "no CloudEvents JSON"),
    "no id": (json.dumps({"source": "/s", "type": "t"}), "has no id"),
    "empty id": (json.dumps(cloud_event(id="")), "has no id"),
    "bad Base64": (json.dumps(cloud_event(data_base64="?")), "no Base64"),
    "Base64 that is no text": (json.dumps(cloud_event(data_base64=7)), "no Base64"),
    "attribute that is a list": (json.dumps(cloud_event(line=[1])), "attribute 'line'"),
}


@pytest.mark.parametrize(("body", "text"), BAD_EVENTS.values(), ids=BAD_EVENTS)
async def test_a_bad_cloudevent_is_refused(plant: Plant, http: httpx.AsyncClient, body: str, text: str) -> None:
    response = await http.post("/topics/a", content=body, headers={"Content-Type": "application/cloudevents+json"})
    status, code, message = error_of(response)
    assert (status, code) == (400, "bad_request")
    assert text in message


async def test_the_place_of_a_bad_event_in_a_batch_is_told(http: httpx.AsyncClient) -> None:
    body = json.dumps([cloud_event(), {"type": "t"}])
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    assert "event 2" in error_of(await http.post("/topics/a", content=body, headers=headers))[2]


REFUSED = {
    "wildcard": ("POST", "/topics/a/+/b", b"", 400, "bad_request"),
    "wildcard that is encoded": ("POST", "/topics/a/%23", b"", 400, "bad_request"),
    "null": ("POST", "/topics/a%00", b"", 400, "bad_request"),
    "no topic": ("POST", "/topics/", b"", 400, "bad_request"),
    "too large": ("POST", "/topics/a", bytes(10_001), 413, "too_large"),
    "nothing there": ("GET", "/nothing", b"", 404, "not_found"),
    "another method": ("GET", "/topics/a", b"", 405, "method_not_allowed"),
    "another method for status": ("POST", "/status", b"", 405, "method_not_allowed"),
}


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), REFUSED.values(), ids=REFUSED)
async def test_every_error_has_one_shape(
    plant: Plant, http: httpx.AsyncClient, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    assert error_of(await http.request(method, path, content=body))[:2] == (status, code)
    assert await plant.payloads("events") == []


async def test_a_body_without_a_length_is_bounded_too(plant: Plant, http: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(1_000)

    assert error_of(await http.post("/topics/a", content=endless()))[0] == 413
    assert plant.statistics["rejected"] == {"too_large": 1}


async def test_an_error_of_ours_says_nothing_of_our_insides(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    await plant.start(http="127.0.0.1:0")

    def broken(*given: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("millstream.gateway.http.publishing.read_contents", broken)
    async with client_of(plant) as client:
        response = await client.post("/topics/a", content=b"1")
    status, code, message = error_of(response)
    assert (status, code) == (500, "internal_error")
    assert "secret" not in message


async def test_a_full_disk_makes_it_unready_and_a_request_wait(plant: Plant, http: httpx.AsyncClient) -> None:
    assert (await http.get("/health/ready")).json() == {"ready": True}
    plant.log.errors.append(DiskFullError("the disk is full"))
    waiting = asyncio.create_task(http.post("/topics/a", content=b"1"))
    await plant.until(lambda: plant.gateway.unready() is not None)
    assert error_of(await http.get("/health/ready")) == (503, "unavailable", "the disk is full")
    assert (await http.get("/health/live")).json() == {"live": True}
    await plant.clock.advance(1)
    assert (await waiting).status_code == 200


async def test_a_broken_disk_is_told_to_who_waits(plant: Plant, http: httpx.AsyncClient) -> None:
    plant.log.errors.append(DiskFaultError("fsync failed"))
    assert error_of(await http.post("/topics/a", content=b"1"))[:2] == (503, "unavailable")
    assert error_of(await http.post("/topics/a", content=b"1"))[:2] == (503, "unavailable")


async def test_status_tells_what_happened(plant: Plant, http: httpx.AsyncClient) -> None:
    await http.post("/topics/a", content=b"1")
    assert (await http.get("/status")).json() == dict(plant.statistics)
    assert plant.statistics["committed"] == 1


async def test_a_stop_answers_requests_under_way(plant: Plant, http: httpx.AsyncClient) -> None:
    plant.log.gate.clear()
    answer = asyncio.create_task(http.post("/topics/a", content=b"1"))
    await plant.log.waiting.wait()
    stopping = asyncio.create_task(plant.gateway.stop())
    await asyncio.sleep(0)
    plant.log.gate.set()
    assert (await answer).status_code == 200
    await stopping
    with pytest.raises(httpx.ConnectError):
        await http.get("/health/live")


async def test_users_show_a_password(plant: Plant) -> None:
    users = {"ann": hash_password("secret")}
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users)
    async with client_of(plant) as client:
        for auth in (None, ("ann", "wrong"), ("bob", "secret")):
            for method, path in (("POST", "/topics/a"), ("GET", "/status")):
                response = await client.request(method, path, auth=auth)
                assert error_of(response)[:2] == (401, "unauthorized")
                assert response.headers["www-authenticate"].startswith("Basic")
        for strange in ("Bearer x", "Basic ?", "Basic", "Basic /w=="):
            assert (await client.get("/status", headers={"Authorization": strange})).status_code == 401
        assert (await client.post("/topics/ann", content=b"1", auth=("ann", "secret"))).status_code == 200
        assert (await client.get("/health/live")).status_code == 200
    assert await plant.payloads("events") == [b"1"]
