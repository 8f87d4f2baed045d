"""MQTT over TCP: what devices say, and what they are answered."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.gateway import Plant, limits
from tests.support.mqtt import PATIENCE

from millstream.log import StreamSpec
from millstream.mqtt import Properties, Reason, Version, encode
from millstream.mqtt import packet as p

both_versions = pytest.mark.parametrize("version", list(Version))


@both_versions
async def test_a_publish_is_in_every_stream_that_matches(running: Plant, version: Version) -> None:
    client = await running.connect(version=version)
    assert (await client.publish("site/a/press-1/telemetry", b"21.5", 7)).packet_id == 7
    (telemetry,) = await running.read("telemetry")
    (event,) = await running.read("events")
    assert (telemetry.topic, telemetry.payload, telemetry.key) == ("site/a/press-1/telemetry", b"21.5", "press-1")
    assert (event.payload, event.key) == (b"21.5", "site/a/press-1/telemetry")
    assert running.statistics["committed"] == 1


async def test_quality_0_is_stored_too(running: Plant) -> None:
    client = await running.connect()
    client.send(p.Publish(topic="a", payload=b"0"))
    await client.publish("a", b"1")
    assert await running.payloads("events") == [b"0", b"1"]


async def test_the_acknowledgement_comes_after_the_commit(running: Plant) -> None:
    client = await running.connect()
    running.log.gate.clear()
    client.send(p.Publish(topic="a", payload=b"1", qos=1, packet_id=7))
    await running.log.waiting.wait()
    assert await client.is_silent()
    assert await running.payloads("events") == []
    running.log.gate.set()
    assert (await client.read(p.Puback)).packet_id == 7
    assert await running.payloads("events") == [b"1"]


async def test_acknowledgements_come_in_the_order_of_the_publishes(running: Plant) -> None:
    client = await running.connect()
    ids = [5, 3, 9, 1, 200]
    its = Properties(user_properties=(("id", "x"),))
    client.send(*(p.Publish(topic=f"t/{n % 2}", qos=1, packet_id=n) for n in ids))
    client.send(p.Publish(topic="t", qos=1, packet_id=300, properties=its), p.Publish(topic="t", qos=1, packet_id=2))
    assert [(await client.read(p.Puback)).packet_id for _ in range(7)] == [*ids, 300, 2]


async def test_events_of_a_connection_stay_in_order_over_many_commits(running: Plant) -> None:
    client = await running.connect()
    for number in range(1, 301):
        client.send(p.Publish(topic="a", payload=str(number).encode(), qos=1, packet_id=number))
        if number % 7 == 0:
            await client.drain()
            await asyncio.sleep(0)
    for number in range(1, 301):
        assert (await client.read(p.Puback)).packet_id == number
    assert [int(event.payload) for event in await running.read("events")] == list(range(1, 301))
    assert running.statistics["commits"] > 1


async def test_cloudevents_attributes_come_as_properties(running: Plant) -> None:
    client = await running.connect()
    its = Properties(
        content_type="text/plain",
        user_properties=(("id", "1"), ("type", "reading"), ("source", "/press"), ("partitionkey", "k"), ("line", "7")),
    )
    await client.publish("a", b"hot", properties=its)
    (event,) = await running.read("events")
    assert (event.id, event.type, event.key, event.content_type) == ("1", "reading", "k", "text/plain")
    assert dict(event.headers) == {"source": "/press", "line": "7"}
    assert event.data == "hot"


async def test_a_topic_that_no_stream_captures_is_for_subscribers_only(running: Plant) -> None:
    await running.log.drop("events")
    client = await running.connect()
    await client.subscribe("news/#")
    client.send(p.Publish(topic="news/a", payload=b"1", qos=1, packet_id=1))
    assert {type(await client.read_any()) for _ in range(2)} == {p.Puback, p.Publish}
    assert running.statistics["transient"] == 1
    assert running.statistics["commits"] == 0


async def test_a_stream_made_later_captures_from_then_on(running: Plant) -> None:
    client = await running.connect()
    await client.publish("news/a", b"1")
    await running.log.create(StreamSpec("news", ("news/#",)))
    await client.publish("news/a", b"2")
    assert await running.payloads("news") == [b"2"]


async def test_a_stream_dropped_while_events_wait_for_it_is_left_out(running: Plant) -> None:
    client = await running.connect()
    running.log.gate.clear()
    client.send(p.Publish(topic="site/a/d/telemetry", payload=b"1", qos=1, packet_id=1))
    await running.log.waiting.wait()
    await running.log.drop("telemetry")
    running.log.gate.set()
    await client.read(p.Puback)
    assert await running.payloads("events") == [b"1"]


MALFORMED = {
    "reserved packet": b"\x00\x00",
    "length of five bytes": b"\x32\xff\xff\xff\xff\x01",
    "topic beyond the packet": b"\x30\x03\x00\x09a",
    "topic that is no UTF-8": b"\x30\x05\x00\x02\xff\xfe\x00",
    "packet identifier 0": b"\x32\x06\x00\x01a\x00\x00\x00",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_packet_closes_its_connection_with_a_reason_and_nothing_else(
    running: Plant, data: bytes
) -> None:
    other = await running.connect("other")
    client = await running.connect()
    client.write(encode(p.Publish(topic="a", payload=b"good", qos=1, packet_id=1), Version.V5) + data)
    told = [packet for packet in await client.rest() if isinstance(packet, p.Disconnect)]
    assert [each.reason for each in told] in ([Reason.MALFORMED_PACKET], [Reason.PROTOCOL_ERROR])
    await other.publish("a", b"other")
    assert await running.payloads("events") == [b"good", b"other"]


async def test_an_old_client_with_a_malformed_packet_is_just_closed(running: Plant) -> None:
    client = await running.connect(version=Version.V3_1_1)
    client.write(b"\x00\x00")
    assert await client.rest() == []


@pytest.mark.parametrize("topic", ["a/+", "#", "", "a\0"])
async def test_a_bad_topic_closes_the_connection_and_is_counted(running: Plant, topic: str) -> None:
    client = await running.connect()
    raw = topic.encode()
    client.write(b"\x30" + bytes((len(raw) + 3,)) + len(raw).to_bytes(2, "big") + raw + b"\0")
    (told,) = await client.rest()
    assert isinstance(told, p.Disconnect)
    assert told.reason in (Reason.TOPIC_NAME_INVALID, Reason.MALFORMED_PACKET)
    assert sum(running.statistics["rejected"].values()) == 1


async def test_too_large_a_packet_is_refused_by_its_length_alone(plant: Plant) -> None:
    await plant.start(limits=limits(packet_bytes=1_000))
    client = await plant.connect()
    client.write(b"\x32\xff\xff\xff\x7f")
    (told,) = await client.rest()
    assert isinstance(told, p.Disconnect)
    assert told.reason is Reason.PACKET_TOO_LARGE
    assert "1000 are allowed" in str(told.properties.reason_string)


async def test_publish_before_connect(running: Plant) -> None:
    client = await running.open()
    client.send(p.Publish(topic="a", qos=1, packet_id=1))
    assert await client.rest() == []
    assert await running.payloads("events") == []


async def test_an_unknown_protocol_version_is_answered(running: Plant) -> None:
    client = await running.open()
    client.write(b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x00\x00\x00")
    assert await client.rest_of_bytes() == b"\x20\x02\x00\x01"


async def test_another_protocol_is_closed(running: Plant) -> None:
    client = await running.open()
    client.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await client.rest_of_bytes() == b""


async def test_who_does_not_connect_in_time_is_closed(running: Plant) -> None:
    client = await running.open()
    client.write(b"\x10")
    other = await running.connect("other")  # by now the first one is there as well
    await running.clock.advance(9)
    await running.clock.advance(3)
    assert await client.rest() == []
    assert await other.is_silent()


async def test_a_silent_client_is_told_and_its_will_is_published(running: Plant) -> None:
    watcher = await running.connect("watcher", keep_alive=0)
    await watcher.subscribe("gone/#", 0)
    client = await running.connect(keep_alive=10, will=p.Will(topic="gone/press-1", payload=b"?", qos=1))
    for _ in range(17):  # one and a half times 10 s, after a look at the clock that finds it alive
        assert await watcher.is_silent()
        await running.clock.advance(1)
    (told,) = await client.rest()
    assert isinstance(told, p.Disconnect)
    assert told.reason is Reason.KEEP_ALIVE_TIMEOUT
    assert (await watcher.read(p.Publish)).payload == b"?"
    assert await running.payloads("events") == [b"?"]


async def test_a_client_that_says_goodbye_leaves_no_will(running: Plant) -> None:
    client = await running.connect(will=p.Will(topic="gone", payload=b"?"))
    client.send(p.Disconnect())
    assert await client.rest() == []
    other = await running.connect(will=p.Will(topic="gone", payload=b"!"))
    await other.close()
    third = await running.connect()
    await third.publish("a", b"end")
    assert await running.payloads("events") == [b"!", b"end"]


async def test_the_same_client_identifier_takes_over(running: Plant) -> None:
    watcher = await running.connect("watcher")
    await watcher.subscribe("gone")
    first = await running.connect("same", will=p.Will(topic="gone", payload=b"first"))
    await first.subscribe("news")
    second = await running.connect("same")
    (told,) = await first.rest()
    assert isinstance(told, p.Disconnect)
    assert told.reason is Reason.SESSION_TAKEN_OVER
    assert (await watcher.read(p.Publish)).payload == b"first"
    await second.publish("news", b"x")
    assert await second.is_silent(), "the subscription went with the first session"
    assert running.statistics["connections"] == 2


async def test_what_follows_connect_at_once_is_not_lost(running: Plant) -> None:
    client = await running.open()
    client.send(p.Connect(version=Version.V5, client_id="x"), p.Publish(topic="a", payload=b"1", qos=1, packet_id=1))
    await client.read(p.Connack)
    await client.read(p.Puback)
    assert await running.payloads("events") == [b"1"]


async def test_a_client_without_identifier_gets_one(running: Plant) -> None:
    client = await running.open()
    client.send(p.Connect(version=Version.V5))
    answer = await client.read(p.Connack)
    assert answer.properties.assigned_client_identifier


async def test_connections_beyond_the_limit_are_told(plant: Plant) -> None:
    await plant.start(limits=limits(connections=1))
    first = await plant.connect("first")
    second = await plant.open()
    second.send(p.Connect(version=Version.V5, client_id="second"))
    (told,) = await second.rest()
    assert isinstance(told, p.Connack)
    assert told.reason is Reason.SERVER_BUSY
    assert await first.is_silent()
    again = await plant.connect("first")
    assert await again.is_silent(), "who takes over needs no further room"


async def test_a_packet_that_trickles_in(running: Plant) -> None:
    client = await running.connect()
    packet = encode(p.Publish(topic="a", payload=b"slow", qos=1, packet_id=1), Version.V5)
    for byte in packet:
        client.write(bytes((byte,)))
        await client.drain()
    await client.read(p.Puback)
    assert await running.payloads("events") == [b"slow"]


async def test_incomplete_packets_have_a_bound_together(plant: Plant) -> None:
    await plant.start(limits=limits(pending_bytes=10_000))
    clients = [await plant.connect(str(number)) for number in range(3)]
    ends = []
    for client in clients:
        client.write(encode(p.Publish(topic="a", payload=bytes(9_000)), Version.V5)[:4_000])
        await client.drain()
        ends.append(asyncio.create_task(client.rest()))
    done, going_on = await asyncio.wait(ends, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    (told,) = done.pop().result()
    assert isinstance(told, p.Disconnect)
    assert told.reason is Reason.QUOTA_EXCEEDED
    assert plant.statistics["connections"] == 2
    for end in going_on:
        end.cancel()
