"""CloudEvents by HTTP, WebSocket and MQTT 5, both ways, written and read by the official SDK."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_binary_event,
    from_structured_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import example, given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of
from tests.support.mqtt import PATIENCE
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from millstream.event import Event
from millstream.gateway.cloudevents import read_event, write_event
from millstream.mqtt import Properties
from millstream.mqtt import packet as p

STRUCTURED = {"Accept": "application/cloudevents+json"}
BATCH = {"Accept": "application/cloudevents-batch+json"}


@pytest.fixture
async def http(plant: Plant) -> AsyncIterator[httpx.AsyncClient]:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        yield client


def cloud_event(data: Any, **more: Any) -> CloudEvent:
    its = {"id": "7", "source": "/größe/a b", "type": "com.example.reading", "specversion": "1.0", **more}
    return CloudEvent(its, data)


EVENTS = {
    "JSON": cloud_event({"celsius": 91.5}, datacontenttype="application/json"),
    "JSON of a vendor": cloud_event({"celsius": 91.5}, datacontenttype="application/vnd.x+json"),
    "text": cloud_event("it is 91 °C", datacontenttype="text/plain"),
    "bytes": cloud_event(b"\x00\xff", datacontenttype="image/png"),
    "no data": cloud_event(None),
    "all attributes": cloud_event(
        {"n": 1},
        datacontenttype="application/json",
        dataschema="https://example.com/schema",
        subject='100 % "sure" é',
        time=datetime(2025, 1, 31, 12, 30, 15, tzinfo=UTC),
        partitionkey="press-1",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
}


def assert_same(found: BaseCloudEvent, sent: BaseCloudEvent) -> None:
    """What was sent came back, and perhaps more."""
    its = found.get_attributes()
    assert {name: its.get(name) for name in sent.get_attributes()} == sent.get_attributes()
    assert found.get_data() == sent.get_data()


@pytest.mark.parametrize("sent", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_what_is_posted_in_a_mode_is_read_in_every_mode(
    plant: Plant, http: httpx.AsyncClient, sent: CloudEvent, mode: str
) -> None:
    message = to_binary_event(sent) if mode == "binary" else to_structured_event(sent)
    response = await http.post("/topics/a", content=message.body, headers=message.headers)
    assert response.json() == {"events": 1, "duplicates": 0}
    (event,) = await plant.read("events")
    place = f"/streams/events/{event.partition}"

    structured = await http.get(f"{place}/0", headers=STRUCTURED)
    assert structured.headers["content-type"] == "application/cloudevents+json"
    assert_same(from_structured_event(HTTPMessage(dict(structured.headers), structured.content)), sent)

    binary = await http.get(f"{place}/0/data")
    found = from_binary_event(HTTPMessage(dict(binary.headers), binary.content))
    if mode == "binary" or sent.get_data() is not None:
        assert_same(found, sent)

    batch = await http.get(place, headers=BATCH)
    assert batch.headers["content-type"] == "application/cloudevents-batch+json"
    (one,) = batch.json()
    assert_same(JSONFormat().read(None, json.dumps(one)), sent)

    async with http.stream("GET", "/streams/events/tail?from=earliest", headers=STRUCTURED) as tail:
        line = await anext(tail.aiter_lines())
        assert_same(JSONFormat().read(None, line), sent)


async def test_a_batch_goes_in_and_comes_out(plant: Plant, http: httpx.AsyncClient) -> None:
    sent = [
        CloudEvent({**each.get_attributes(), "id": str(n)}, each.get_data()) for n, each in enumerate(EVENTS.values())
    ]
    body = b"[" + b",".join(JSONFormat().write(each) for each in sent) + b"]"
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    assert (await http.post("/topics/a", content=body, headers=headers)).json() == {"events": 6, "duplicates": 0}
    assert (await http.post("/topics/a", content=body, headers=headers)).json() == {"events": 6, "duplicates": 6}
    pages = [(await http.get(f"/streams/events/{partition}", headers=BATCH)).json() for partition in (0, 1)]
    found = {each["id"]: JSONFormat().read(None, json.dumps(each)) for page in pages for each in page}
    for each in sent:
        assert_same(found[each.get_id()], each)


async def test_an_event_that_is_none_becomes_one(plant: Plant, http: httpx.AsyncClient) -> None:
    await http.post("/topics/a/b c", content=b"\xff", headers={"Content-Type": "x/y"})
    await http.post("/topics/a/b c", json=1)
    (one, two) = await plant.read("events")
    page = await http.get(f"/streams/events/{one.partition}", headers=BATCH)
    assert page.json()[0] == {
        "specversion": "1.0",
        "id": one.position,
        "source": "/topics/a/b%20c",
        "type": "millstream.event",
        "time": "2026-01-01T00:00:00Z",
        "partitionkey": "a/b c",
        "topic": "a/b c",
        "position": one.position,
        "datacontenttype": "x/y",
        "data_base64": "/w==",
    }
    found = [JSONFormat().read(None, json.dumps(each)) for each in page.json()]
    assert found[1].get_id() == two.position
    assert page.json()[1]["data"] == 1


async def test_what_a_page_shows_can_be_posted_again(plant: Plant, http: httpx.AsyncClient) -> None:
    message = to_structured_event(EVENTS["all attributes"])
    await http.post("/topics/a", content=message.body, headers=message.headers)
    (first,) = await plant.read("events")
    page = await http.get(f"/streams/events/{first.partition}", headers=BATCH)
    posted = await http.post("/topics/a", content=page.content, headers={"Content-Type": page.headers["content-type"]})
    assert posted.json() == {"events": 1, "duplicates": 1}


headers = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)


@example(b"\x00", None, "a", {"data": "0"})
@given(st.binary(max_size=20), st.none() | st.text(max_size=10), st.text(min_size=1, max_size=10), headers)
def test_whatever_the_log_holds_is_a_cloudevent(
    payload: bytes, content_type: str | None, topic: str, headers: dict[str, str]
) -> None:
    event = Event(topic=topic, payload=payload, content_type=content_type, headers=headers, stream="s", offset=1)
    written = write_event(event)
    assert b"\n" not in written
    JSONFormat().read(lambda its, data: CloudEvent({**its, "time": datetime.now(UTC)}, data), _without_time(written))
    data, _ = read_event(written)
    if content_type or payload:
        same = data == payload or json.loads(data) == json.loads(payload)
        assert same


def _without_time(written: bytes) -> bytes:
    """The publisher's own `time` is anything that it says."""
    members = json.loads(written)
    members.pop("time", None)
    return json.dumps(members).encode()


async def test_one_event_is_shown_as_tail_prints_it(plant: Plant, http: httpx.AsyncClient) -> None:
    await http.post("/topics/a", json=1)
    (event,) = await plant.read("events")
    place = f"/streams/events/{event.partition}"
    shown = await http.get(f"{place}/0")
    (same,) = (await http.get(place)).json()["events"]
    assert (shown.headers["content-type"], shown.json()) == ("application/json", same)
    assert error_of(await http.get(f"{place}/1"))[:2] == (404, "not_found")
    assert error_of(await http.get(f"{place}/2"))[:2] == (400, "bad_request")
    assert error_of(await http.get(f"{place}/0?limit=1"))[:2] == (400, "bad_request")


async def test_a_page_that_a_device_sends_does_no_harm_in_a_browser(plant: Plant, http: httpx.AsyncClient) -> None:
    await http.post("/topics/a", content=b"<script>", headers={"Content-Type": "text/html"})
    (event,) = await plant.read("events")
    shown = await http.get(f"/streams/events/{event.partition}/0/data")
    assert (shown.content, shown.headers["content-security-policy"]) == (b"<script>", "sandbox")
    assert shown.headers["x-content-type-options"] == "nosniff"


async def test_a_content_type_that_is_no_header_is_not_sent_as_one(plant: Plant, http: httpx.AsyncClient) -> None:
    body = json.dumps({"id": "1", "source": "/s", "type": "t", "datacontenttype": "a\r\nb: é", "data": 1})
    await http.post("/topics/a", content=body, headers={"Content-Type": "application/cloudevents+json"})
    (event,) = await plant.read("events")
    shown = await http.get(f"/streams/events/{event.partition}/0/data")
    assert (shown.status_code, shown.headers["content-type"]) == (200, "application/json")


REFUSED = {
    "another version": (
        {"Content-Type": "application/cloudevents+json"},
        b'{"specversion":"0.3","id":"1"}',
        400,
        "0.3",
    ),
    "another version in a header": ({"ce-specversion": "0.3", "ce-id": "1"}, b"1", 400, "send CloudEvents 1.0"),
    "another format": ({"Content-Type": "application/cloudevents+xml"}, b"<event/>", 415, "cloudevents+json"),
    "no UTF-8": ({"Content-Type": "application/cloudevents+json"}, b'{"id":"\xff"}', 400, "no CloudEvents JSON"),
    "too deep": ({"Content-Type": "application/cloudevents+json"}, b'{"id":' + b"[" * 50_000, 400, "no CloudEvents"),
    "an attribute too deep": (
        {"Content-Type": "application/cloudevents+json"},
        b'{"id":' + b"[" * 800 + b"]" * 800 + b"}",
        400,
        "attribute 'id'",
    ),
    "a line of no UTF-8": ({"Content-Type": "application/x-ndjson"}, b'"\xff"', 400, "line 1"),
    "a line too deep": ({"Content-Type": "application/x-ndjson"}, b"[" * 50_000, 400, "line 1"),
}


@pytest.mark.parametrize(("headers", "body", "status", "text"), REFUSED.values(), ids=REFUSED)
async def test_what_is_refused(
    plant: Plant, http: httpx.AsyncClient, headers: dict[str, str], body: bytes, status: int, text: str
) -> None:
    found, code, message = error_of(await http.post("/topics/a", content=body, headers=headers))
    assert (found, text in message) == (status, True), message
    assert plant.statistics["rejected"] == {code: 1}
    assert await plant.payloads("events") == []


async def test_by_websocket_each_message_is_an_event(plant: Plant, http: httpx.AsyncClient) -> None:
    url = f"{str(http.base_url).replace('http', 'ws')}/streams/events/tail"
    async with connect(url, subprotocols=[Subprotocol("cloudevents.json")]) as socket:
        assert socket.subprotocol == "cloudevents.json"
        assert socket.response is not None
        assert socket.response.headers["Millstream-Positions"] == "0,0"
        message = to_binary_event(EVENTS["text"])
        await http.post("/topics/a", content=message.body, headers=message.headers)
        async with asyncio.timeout(PATIENCE):
            assert_same(JSONFormat().read(None, await socket.recv()), EVENTS["text"])


# --- MQTT 5


async def test_mqtt_in_structured_mode(running: Plant) -> None:
    sent = EVENTS["all attributes"]
    client = await running.connect()
    await client.subscribe("#")
    its = Properties(content_type="application/cloudevents+json; charset=utf-8")
    await client.publish("a", JSONFormat().write(sent), properties=its)
    (event,) = await running.read("events")
    assert (event.id, event.type, event.key, event.data) == ("7", "com.example.reading", "press-1", {"n": 1})
    assert event.content_type == "application/json"
    assert_same(JSONFormat().read(None, write_event(event)), sent)
    given_on = await client.read(p.Publish)
    assert (given_on.payload, given_on.properties.content_type) == (JSONFormat().write(sent), its.content_type)


async def test_an_id_in_structured_mode_is_deduplicated(running: Plant) -> None:
    client = await running.connect()
    its = Properties(content_type="application/cloudevents+json")
    for _ in range(2):
        await client.publish("a", JSONFormat().write(EVENTS["JSON"]), properties=its)
    assert len(await running.read("events")) == 1
    assert running.statistics["duplicates"] == 1


BROKEN = [b"{", b"[]", b'{"id":"\xff"}', b'{"id":' + b"[" * 50_000, b'{"specversion":"0.3","id":"1"}', b""]


@pytest.mark.parametrize("payload", BROKEN)
async def test_what_is_no_event_in_structured_mode_stays_as_it_came(running: Plant, payload: bytes) -> None:
    client = await running.connect()
    await client.publish("a", payload, properties=Properties(content_type="application/cloudevents+json"))
    (event,) = await running.read("events")
    assert (event.payload, event.content_type) == (payload, "application/cloudevents+json")


async def test_a_function_that_subscribes_gets_the_data_of_structured_mode(running: Plant) -> None:
    got: list[Event] = []
    await running.gateway.topics.subscribe("#", "me", got.extend)
    client = await running.connect()
    its = Properties(content_type="application/cloudevents+json")
    await client.publish("a", JSONFormat().write(EVENTS["text"]), properties=its)
    assert [(event.id, event.data, event.content_type) for event in got] == [("7", "it is 91 °C", "text/plain")]


async def test_from_http_to_a_paho_subscriber_and_back(plant: Plant, http: httpx.AsyncClient) -> None:
    """Binary mode: attributes are user properties, and `datacontenttype` the content type."""
    sent = EVENTS["JSON"]
    got: queue.Queue[paho.MQTTMessage] = queue.Queue()
    ready: queue.Queue[Any] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="paho", protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = lambda client, data, message: got.put(message)
    client.on_subscribe = lambda client, data, mid, reasons, properties: ready.put(mid)
    await asyncio.to_thread(client.connect, *plant.address)
    client.loop_start()
    try:
        client.subscribe("a", qos=1)
        await asyncio.to_thread(ready.get, timeout=PATIENCE)
        message = to_structured_event(sent)
        await http.post("/topics/a", content=message.body, headers=message.headers)
        binary = await asyncio.to_thread(got.get, timeout=PATIENCE)
        user = dict(binary.properties.UserProperty)  # type: ignore[union-attr]
        content_type = binary.properties.ContentType  # type: ignore[union-attr]
        its = {**user, "time": datetime.fromisoformat(user["time"]), "datacontenttype": content_type}
        found = CloudEvent(its, json.loads(binary.payload))
        assert_same(found, sent)

        again = PahoProperties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        again.UserProperty = [(name, str(value)) for name, value in {**user, "id": "8"}.items()]
        again.ContentType = content_type
        info = client.publish("b", binary.payload, qos=1, properties=again)
        await asyncio.to_thread(info.wait_for_publish, PATIENCE)
    finally:
        client.disconnect()
        client.loop_stop()
    (back,) = [event for event in await plant.read("events") if event.topic == "b"]
    assert_same(
        JSONFormat().read(None, write_event(back)), CloudEvent({**sent.get_attributes(), "id": "8"}, sent.get_data())
    )


async def test_an_event_without_all_that_cloudevents_require_says_no_version(
    plant: Plant, http: httpx.AsyncClient
) -> None:
    client = await plant.connect()
    await client.subscribe("#")
    await http.post("/topics/a", content=b"1", headers={"ce-id": "1"})
    assert (await client.read(p.Publish)).properties.user_properties == (("id", "1"),)


# --- Idempotency-Key


@pytest.mark.parametrize("key", ["abc", '"abc"'])
async def test_a_repeated_request_makes_no_second_event(plant: Plant, http: httpx.AsyncClient, key: str) -> None:
    first = await http.post("/topics/a", content=b"1", headers={"Idempotency-Key": key})
    again = await http.post("/topics/a", content=b"1", headers={"Idempotency-Key": key})
    assert (first.status_code, first.json()) == (200, {"events": 1, "duplicates": 0})
    assert (again.status_code, again.json()) == (200, {"events": 1, "duplicates": 1})
    (event,) = await plant.read("events")
    assert event.id == "abc"


async def test_a_repeated_batch_makes_no_second_events(plant: Plant, http: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "abc", "Content-Type": "application/x-ndjson"}
    answers = [(await http.post("/topics/a", content=b"1\n2\n", headers=headers)).json() for _ in range(2)]
    assert answers == [{"events": 2, "duplicates": 0}, {"events": 2, "duplicates": 2}]
    assert [(event.id, event.data) for event in await plant.read("events")] == [("abc/1", 1), ("abc/2", 2)]


async def test_an_id_of_its_own_is_an_events_id(plant: Plant, http: httpx.AsyncClient) -> None:
    for key in ("one", "two"):
        await http.post("/topics/a", content=b"1", headers={"Idempotency-Key": key, "ce-id": "7"})
    assert [event.id for event in await plant.read("events")] == ["7"]


@pytest.mark.parametrize("key", ["", '""', "x" * 257])
async def test_a_key_that_is_none_is_refused(http: httpx.AsyncClient, key: str) -> None:
    status, _, message = error_of(await http.post("/topics/a", content=b"1", headers={"Idempotency-Key": key}))
    assert (status, "Idempotency-Key" in message) == (400, True)
