"""Subscribers of the moment: who gets what, in which form, and what a slow one costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.support.gateway import Plant, limits
from tests.support.mqtt import RawClient

from millstream.errors import TopicError
from millstream.event import Event, to_columns
from millstream.mqtt import Properties, Reason, Version
from millstream.mqtt import packet as p

both_versions = pytest.mark.parametrize("version", list(Version))


@both_versions
async def test_a_message_reaches_subscribers_of_both_versions(running: Plant, version: Version) -> None:
    subscriber = await running.connect("subscriber", version)
    assert (await subscriber.subscribe("site/+/press-1/#", 1)).reasons == (Reason.GRANTED_QOS_1,)
    for number, other in enumerate(Version):
        publisher = await running.connect(f"publisher-{other}", other)
        await publisher.publish("site/a/press-1/telemetry", b"21.5")
        message = await subscriber.read(p.Publish)
        assert message == p.Publish(
            topic="site/a/press-1/telemetry", payload=b"21.5", qos=1, packet_id=number + 1, properties=Properties()
        )
        subscriber.send(p.Puback(packet_id=message.packet_id))
    assert running.statistics["delivered"] == 2


async def test_the_quality_is_the_lower_of_both(running: Plant) -> None:
    low, high = await running.connect("low"), await running.connect("high")
    await low.subscribe("a", 0)
    await high.subscribe("a", 2)
    publisher = await running.connect("publisher")
    publisher.send(p.Publish(topic="a", payload=b"0"))
    await publisher.publish("a", b"1")
    assert [(await low.read(p.Publish)).qos for _ in range(2)] == [0, 0]
    assert [(await high.read(p.Publish)).qos for _ in range(2)] == [0, 1]


async def test_subscribers_see_an_event_only_when_it_is_committed(running: Plant) -> None:
    subscriber, publisher = await running.connect("s"), await running.connect("p")
    await subscriber.subscribe("#")
    running.log.gate.clear()
    publisher.send(p.Publish(topic="a", payload=b"1"))
    await running.log.waiting.wait()
    assert await subscriber.is_silent()
    running.log.gate.set()
    assert (await subscriber.read(p.Publish)).payload == b"1"


async def test_overlapping_subscriptions_give_one_copy_with_the_higher_quality(running: Plant) -> None:
    client = await running.connect()
    await client.subscribe("a/#", 0)
    await client.subscribe("a/+", 1)
    publisher = await running.connect("p")
    await publisher.publish("a/b")
    assert (await client.read(p.Publish)).qos == 1
    assert await client.is_silent()


async def test_subscription_identifiers_tell_which_matched(running: Plant) -> None:
    client = await running.connect()
    for identifier, wanted in ((3, "a/#"), (4, "a/+"), (5, "b")):
        client.send(
            p.Subscribe(
                packet_id=1,
                subscriptions=(p.Subscription(wanted),),
                properties=Properties(subscription_identifiers=(identifier,)),
            )
        )
        await client.read(p.Suback)
    await (await running.connect("p")).publish("a/b")
    assert sorted((await client.read(p.Publish)).properties.subscription_identifiers) == [3, 4]


async def test_no_local_keeps_a_client_from_its_own_messages(running: Plant) -> None:
    client = await running.connect()
    await client.subscribe("a", no_local=True)
    other = await running.connect("other")
    await asyncio.gather(client.publish("a", b"mine"), other.publish("a", b"theirs"))
    assert (await client.read(p.Publish)).payload == b"theirs"
    assert await client.is_silent()
    assert (running.statistics["delivered"], running.statistics["dropped"]) == (1, 0)


async def test_subscribing_again_replaces_and_unsubscribing_ends_it(running: Plant) -> None:
    client, publisher = await running.connect(), await running.connect("p")
    await client.subscribe("a", 0)
    await client.subscribe("a", 1)
    await publisher.publish("a")
    assert (await client.read(p.Publish)).qos == 1
    client.send(p.Unsubscribe(packet_id=2, filters=("a", "b")))
    assert (await client.read(p.Unsuback)).reasons == (Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED)
    await publisher.publish("a")
    assert await client.is_silent()


async def test_wildcards_do_not_match_hidden_topics(running: Plant) -> None:
    client, publisher = await running.connect(), await running.connect("p")
    await client.subscribe("#")
    await publisher.publish("$hidden/a")
    assert await client.is_silent()
    await client.subscribe("$hidden/#")
    await publisher.publish("$hidden/a")
    assert (await client.read(p.Publish)).topic == "$hidden/a"


async def test_properties_go_through_to_a_subscriber_that_knows_them(running: Plant) -> None:
    new, old = await running.connect("new"), await running.connect("old", Version.V3_1_1)
    await new.subscribe("a")
    await old.subscribe("a")
    its = Properties(
        content_type="text/plain",
        response_topic="answers",
        correlation_data=b"7",
        payload_format_indicator=1,
        message_expiry_interval=60,
        user_properties=(("id", "1"), ("b", "2"), ("b", "3")),
    )
    await (await running.connect("p")).publish("a", b"x", properties=its)
    assert (await new.read(p.Publish)).properties == its
    assert (await old.read(p.Publish)).payload == b"x"


async def test_a_message_larger_than_a_subscriber_takes_is_dropped(running: Plant) -> None:
    client = await running.connect(properties=Properties(maximum_packet_size=50))
    await client.subscribe("a")
    publisher = await running.connect("p")
    await publisher.publish("a", bytes(100))
    await publisher.publish("a", b"small")
    assert (await client.read(p.Publish)).payload == b"small"
    assert running.statistics["dropped"] == 1


async def test_only_a_window_of_messages_is_sent_without_acknowledgement(running: Plant) -> None:
    client = await running.connect(properties=Properties(receive_maximum=2))
    await client.subscribe("a")
    publisher = await running.connect("p")
    for number in range(5):
        await publisher.publish("a", bytes((number,)))
    first = [await client.read(p.Publish) for _ in range(2)]
    assert await client.is_silent()
    client.send(*(p.Puback(packet_id=each.packet_id) for each in first))
    more = [await client.read(p.Publish) for _ in range(2)]
    assert [each.payload[0] for each in (*first, *more)] == [0, 1, 2, 3]


async def flood(publisher: RawClient, messages: int, size: int) -> None:
    for number in range(messages):
        await publisher.publish("flood", bytes(size), 1 + number)


async def test_a_slow_subscriber_loses_quality_0_and_slows_nobody(plant: Plant) -> None:
    await plant.start(limits=limits(session_bytes=200_000))
    slow, quick, publisher = [await plant.connect(name) for name in ("slow", "quick", "publisher")]
    await slow.subscribe("flood", 0)
    await quick.subscribe("flood", 0)
    reading = asyncio.create_task(_count(quick, 300))
    await flood(publisher, 300, 50_000)  # 15 MB: more than the socket's buffers take
    assert await reading == 300
    assert 0 < plant.statistics["dropped"] < 300
    assert plant.statistics["connections"] == 3


async def test_a_subscriber_too_slow_for_quality_1_is_told_and_closed(plant: Plant) -> None:
    await plant.start(limits=limits(session_bytes=200_000, receive_maximum=5))
    slow, publisher = await plant.connect("slow"), await plant.connect("publisher")
    await slow.subscribe("flood", 1)
    await flood(publisher, 20, 50_000)
    packets = await slow.rest()
    assert [type(each) for each in packets] == [p.Publish] * 5 + [p.Disconnect]
    assert isinstance(packets[-1], p.Disconnect)
    assert packets[-1].reason is Reason.QUOTA_EXCEEDED
    assert plant.statistics["ended"] == {"quota_exceeded": 1}


async def test_who_does_not_read_his_last_words_is_cut_off(plant: Plant) -> None:
    await plant.start(limits=limits(session_bytes=8_000_000))
    stuck, publisher = await plant.connect("stuck"), await plant.connect("publisher")
    await stuck.subscribe("flood", 0)
    await flood(publisher, 200, 50_000)
    again = await plant.connect("stuck")  # takes over: the first connection cannot be told, its buffers are full
    for _ in range(8):
        await plant.clock.advance(1)
    assert await again.is_silent()
    assert b"connected again" not in await stuck.rest_of_bytes_or_reset()


async def _count(client: RawClient, wanted: int) -> int:
    count = 0
    while count < wanted:
        await client.read(p.Publish)
        count += 1
    return count


@pytest.mark.parametrize("unheard", [1, 100])
async def test_other_parts_subscribe_and_publish_as_well(running: Plant, unheard: int) -> None:
    topics = running.gateway.topics
    got: list[Event] = []
    subscription = await topics.subscribe("site/#", "handler", got.extend)
    client = await running.connect()
    await client.subscribe("alerts/#")
    await client.publish("site/a", b"1", properties=Properties(user_properties=(("id", "7"), ("line", "2"))))
    (event,) = got
    assert (event.topic, event.payload, event.id, dict(event.headers)) == ("site/a", b"1", "7", {"line": "2"})
    assert event.time is not None
    alert = Event(topic="alerts/hot", payload=b"!", id="9", type="alert", content_type="text/plain", headers={"a": "b"})
    assert topics.hears({"nobody/listens", "alerts/hot"})
    assert topics.hears({"site/b"})
    assert not topics.hears({"nobody/listens"})
    topics.publish(to_columns([alert, *[Event(topic="nobody/listens")] * unheard]))
    message = await client.read(p.Publish)
    assert (message.topic, message.payload, message.qos) == ("alerts/hot", b"!", 1)
    assert message.properties == Properties(
        content_type="text/plain", user_properties=(("id", "9"), ("type", "alert"), ("a", "b"))
    )
    assert await running.payloads("events") == [b"1"], "what is published there is stored by others"
    await subscription.close()
    await subscription.close()
    await client.publish("site/a", b"2")
    assert len(got) == 1


async def test_of_several_subscribers_of_one_name_one_gets_an_event(running: Plant) -> None:
    topics = running.gateway.topics
    got: list[list[str]] = [[], []]

    def take(number: int, events: Sequence[Event]) -> None:
        got[number] += [event.payload.decode() for event in events]

    for number in range(2):
        await topics.subscribe("a", "same", lambda events, number=number: take(number, events))  # type: ignore[misc]
    client = await running.connect()
    for number in range(4):
        await client.publish("a", str(number).encode())
    assert sorted(got[0] + got[1]) == ["0", "1", "2", "3"]
    assert all(got)


async def test_a_wrong_filter_is_refused(running: Plant) -> None:
    with pytest.raises(TopicError, match="last level"):
        await running.gateway.topics.subscribe("a/#/b", "x", lambda events: None)
