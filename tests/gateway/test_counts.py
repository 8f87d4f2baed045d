"""What the gateway counts for good, and the traces of what it refused."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import pytest
from tests.support.gateway import Plant
from tests.support.streams import read_all

from millstream.clock import VirtualClock
from millstream.errors import DiskFullError, FencedError, LogError
from millstream.gateway.tally import BURST, REFILL_SECONDS, Tally
from millstream.ledger import equations
from millstream.ledger.names import GATEWAY, REJECTIONS
from millstream.ledger.rejection import SAMPLES, Rejection
from millstream.log import StreamSpec
from millstream.mqtt import Properties, claimed_topic
from millstream.mqtt import packet as p
from millstream.mqtt.encode import encode

DAY = 86_400.0


async def durable(plant: Plant) -> Mapping[str, int]:
    """The gateway's counts as another process reads them, once they balance."""
    accounts = await plant.log.accounts()
    wrong = [str(row) for row in equations(accounts) if not row.holds]
    assert not wrong
    counts: Mapping[str, int] = accounts.groups[GATEWAY].status.counts if GATEWAY in accounts.groups else {}
    return counts


async def refuse(plant: Plant, topic: bytes = b"a/+", client_id: str = "press-1") -> None:
    client = await plant.connect(client_id)
    client.write(b"\x30" + bytes((len(topic) + 6,)) + len(topic).to_bytes(2, "big") + topic + b"\0{\xff}")
    await client.rest()


async def test_counts_commit_with_their_batch(running: Plant) -> None:
    client = await running.connect()
    await client.publish("a", b"1")
    await client.publish("a", b"2")
    assert await durable(running) == {"received": 2, "committed": 2}


async def test_a_batch_that_could_not_be_committed_is_counted_once(running: Plant) -> None:
    running.log.errors = [DiskFullError("full"), DiskFullError("full")]
    client = await running.connect()
    client.send(p.Publish(topic="a", qos=1, packet_id=1))
    await running.log.waiting.wait()
    for _ in range(2):
        await running.until(lambda: bool(running.clock._sleepers))
        await running.clock.advance(1)
    await client.read(p.Puback)
    assert await durable(running) == {"received": 1, "committed": 1}


async def test_what_no_batch_takes_along_is_committed_a_second_later(running: Plant) -> None:
    client = await running.connect()
    seen = Properties(user_properties=(("id", "1"),))
    await client.publish("a", b"1", properties=seen)
    await running.log.drop("events")
    await client.publish("site/a/press-1/telemetry", b"1", properties=seen)
    await client.publish("site/a/press-1/telemetry", b"1", properties=seen)
    await client.publish("nobody/wants", b"it")
    before = await durable(running)
    assert before == {"received": 2, "committed": 2}
    await running.clock.advance(1)
    await running.until(lambda: running.gateway._statistics.tally._settling.done())  # type: ignore[union-attr]
    assert await durable(running) == {"received": 4, "committed": 2, "duplicates": 1, "transient": 1}
    assert running.statistics["commits"] == 2


async def test_the_last_counts_are_committed_at_the_end_and_go_on_after_it(plant: Plant) -> None:
    gateway = await plant.start()
    await refuse(plant)
    await gateway.stop()
    assert await durable(plant) == {"received": 1, "rejected:topic_name_invalid": 1}
    await plant.start()
    client = await plant.connect()
    await client.publish("a", b"1")
    assert await durable(plant) == {"received": 2, "committed": 1, "rejected:topic_name_invalid": 1}


async def test_a_refused_event_leaves_a_trace(plant: Plant) -> None:
    gateway = await plant.start(http="127.0.0.1:0")
    await refuse(plant)
    assert gateway.http_address is not None
    async with httpx.AsyncClient(base_url="http://{}:{}".format(*gateway.http_address)) as http:
        body = b'{"n": 1}\n{"n": }\n'
        response = await http.post("/topics/a/b", content=body, headers={"Content-Type": "application/x-ndjson"})
        assert response.status_code == 400
    await gateway.stop()
    mqtt, by_http = [Rejection.of(event) for event in await read_all(plant.log, REJECTIONS)]
    assert (mqtt.reason, mqtt.client, mqtt.topic) == ("topic_name_invalid", "press-1", "a/+")
    assert mqtt.payload.endswith(b"{\xff}")
    assert "a/+" in mqtt.text
    assert (by_http.reason, by_http.client, by_http.topic, by_http.payload) == ("bad_request", "127.0.0.1", "a/b", body)
    assert "line 2" in by_http.text


@pytest.mark.parametrize("error", [DiskFullError("full"), FencedError("gone to another member")])
async def test_traces_wait_for_room_on_the_disk_and_for_a_membership(running: Plant, error: LogError) -> None:
    running.log.errors = [error]
    await refuse(running)
    await running.until(lambda: running.statistics["rejected"])
    await running.clock.advance(1)
    await running.until(lambda: not running.log.errors)
    await running.clock.advance(1)
    await running.until(lambda: running.gateway._statistics.tally._settling.done())  # type: ignore[union-attr]
    assert len(await running.read(REJECTIONS)) == 1
    assert (await durable(running))["received"] == 1


async def test_the_stream_of_traces_is_bounded_and_captures_nothing(running: Plant) -> None:
    await refuse(running)
    await running.gateway.stop()
    spec: StreamSpec = (await running.log.streams())[REJECTIONS]
    assert spec == SAMPLES
    assert spec.retention_bytes is not None
    assert not spec.topics


def traces_of(tally: Tally) -> list[Rejection]:
    """The traces that would be committed next, which are gone then."""
    traces = list(tally._traces)
    tally._traces.clear()
    return traces


async def test_of_many_refusals_a_few_leave_traces_and_all_are_counted() -> None:
    clock = VirtualClock()
    tally = Tally(clock)
    for _ in range(1000):
        tally.reject(Rejection("malformed_packet"), 1)
    tally.reject(Rejection("too_large"), 3)
    assert tally.take() == {"received": 1003, "rejected:malformed_packet": 1000, "rejected:too_large": 3}
    assert [trace.reason for trace in traces_of(tally)] == ["malformed_packet"] * BURST + ["too_large"]
    traces = 0
    for _ in range(int(DAY / REFILL_SECONDS)):
        await clock.advance(REFILL_SECONDS)
        for _ in range(3):
            tally.reject(Rejection("malformed_packet"), 1)
        traces += len(traces_of(tally))
    assert traces <= DAY / REFILL_SECONDS + BURST


def test_a_trace_is_small_whatever_was_sent() -> None:
    event = Rejection("r", "t" * 10_000, "c" * 10_000, "ä" * 10_000, b"\xff" * 1_000_000).event()
    assert len(event.payload) == 256
    assert all(len(value) <= 512 for value in event.headers.values())
    assert Rejection.of(event).reason == "r"


@pytest.mark.parametrize("topic", ["a", "a/" * 100, "ü" * 5_000])
def test_the_topic_of_a_refused_packet_is_read_as_far_as_it_goes(topic: str) -> None:
    packet = encode(p.Publish(topic=topic, payload=b"x" * 300, qos=1, packet_id=1))
    assert claimed_topic(packet) == topic
    for end in range(min(len(packet), 300)):
        assert topic.startswith(claimed_topic(packet[:end]).rstrip("�"))


async def test_a_device_cannot_address_an_event_to_a_group(running: Plant) -> None:
    client = await running.connect()
    named = Properties(user_properties=(("resend-group", "g"), ("resend-of", "events:0:0"), ("resend-x", "kept")))
    await client.publish("a", b"1", properties=named)
    (event,) = await running.read("events")
    assert event.headers == {"resend-x": "kept"}
