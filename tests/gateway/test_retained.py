"""Retained messages: who gets them when, and that they survive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.test_kept_sessions import come, go, restart, take, take_one
from tests.support.gateway import Plant, limits
from tests.support.mqtt import RawClient

from millstream.clock import VirtualClock
from millstream.gateway.pubsub.post import Post
from millstream.gateway.pubsub.topic_table import Topic
from millstream.gateway.sessions.queued import Queued
from millstream.gateway.sessions.retained import Retained
from millstream.mqtt import Properties, Reason, Version, topic_key
from millstream.mqtt import packet as p
from millstream.topic import filter_matches

both_versions = pytest.mark.parametrize("version", list(Version))


async def retain(plant: Plant, topic: str, payload: bytes, qos: int = 1, **properties: int) -> None:
    publisher = await plant.connect("publisher")
    publisher.send(
        p.Publish(topic=topic, payload=payload, qos=1, packet_id=1, retain=True, properties=Properties(**properties))  # type: ignore[arg-type]
    )
    await publisher.read(p.Puback)
    publisher.send(p.Disconnect())
    await publisher.rest()


async def subscribe(client: RawClient, mqtt_filter: str, qos: int = 1, **options: object) -> None:
    client.send(p.Subscribe(packet_id=1, subscriptions=(p.Subscription(mqtt_filter, qos, **options),)))  # type: ignore[arg-type]
    await client.read(p.Suback)


@both_versions
@pytest.mark.parametrize("kept", [False, True])
async def test_a_new_subscriber_gets_the_last_one_also_after_a_restart(
    running: Plant, version: Version, kept: bool
) -> None:
    await retain(running, "a/b", b"1")
    await retain(running, "a/b", b"2")
    await retain(running, "a/c", b"3")
    for _ in range(2):
        client = await (come(running, version) if kept else running.connect("s", version))
        await subscribe(client, "a/+")
        got = [await take_one(client) for _ in range(2)]
        assert sorted((each.topic, each.payload, each.qos, each.retain) for each in got) == [
            ("a/b", b"2", 1, True),
            ("a/c", b"3", 1, True),
        ]
        assert await client.is_silent()
        await restart(running)
    assert running.statistics["retained"] == 2


async def test_an_empty_one_clears(running: Plant) -> None:
    await retain(running, "a", b"1")
    await retain(running, "a", b"")
    await restart(running)
    client = await running.connect("s")
    await subscribe(client, "a")
    assert await client.is_silent()
    assert running.statistics["retained"] == 0


async def test_who_listens_already_sees_the_flag_only_if_it_asked_for_it(running: Plant) -> None:
    plain, asked, kept = await running.connect("plain"), await running.connect("asked"), await come(running)
    await subscribe(plain, "a")
    await subscribe(asked, "a", retain_as_published=True)
    await subscribe(kept, "a", retain_as_published=True)
    await retain(running, "a", b"1")
    assert [(await take_one(each)).retain for each in (plain, asked, kept)] == [False, True, True]


@pytest.mark.parametrize(("handling", "counts"), [(0, [1, 1]), (1, [1, 0]), (2, [0, 0])])
async def test_retain_handling(running: Plant, handling: int, counts: list[int]) -> None:
    await retain(running, "a", b"1")
    client = await running.connect("s")
    for count in counts:
        await subscribe(client, "a", retain_handling=handling)
        assert await take(client, count) == [b"1"] * count
        assert await client.is_silent()


async def test_a_retained_message_expires(running: Plant, clock: VirtualClock) -> None:
    await retain(running, "a", b"1", message_expiry_interval=60)
    await clock.advance(20)
    for number, client in enumerate([await running.connect("s"), await come(running, client_id="kept")]):
        await subscribe(client, "a")
        assert (await take_one(client)).properties.message_expiry_interval == 40, number
    await clock.advance(50)
    late = await running.connect("late")
    await subscribe(late, "a")
    assert await late.is_silent()


async def test_a_retained_message_of_a_session_that_is_kept_is_not_lost(running: Plant) -> None:
    await retain(running, "a", b"1")
    client = await come(running)
    await subscribe(client, "a")
    await client.read(p.Publish)
    await go(running, client)
    await restart(running)
    assert await take(await come(running), 1) == [b"1"]


async def test_retained_messages_are_sent_as_the_window_allows(running: Plant) -> None:
    for number in range(5):
        await retain(running, f"a/{number}", bytes(60_000))
    client = await running.connect("s", properties=Properties(receive_maximum=1))
    await subscribe(client, "#")
    assert len(await take(client, 5)) == 5
    assert await client.is_silent()


async def test_beyond_the_limit_a_message_is_published_and_not_retained(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    await plant.start(limits=limits(retained=1))
    listener = await plant.connect("listener")
    await subscribe(listener, "#", 0)
    for topic in ("a", "b", "a"):
        await retain(plant, topic, b"1")
    assert await take(listener, 3) == [b"1"] * 3
    late = await plant.connect("late")
    await subscribe(late, "#", 0)
    assert (await late.read(p.Publish)).topic == "a"
    assert await late.is_silent()
    assert "'b' is not retained" in caplog.text


@pytest.mark.parametrize("qos", [1, 2])
async def test_who_publishes_one_without_room_is_told(plant: Plant, qos: int) -> None:
    await plant.start(limits=limits(retained_bytes=10_000))
    client, old = await plant.connect(), await plant.connect("old", Version.V3_1_1)
    await retain(plant, "a", b"before")
    client.send(p.Publish(topic="a", payload=bytes(20_000), qos=qos, packet_id=7, retain=True))
    answer = await (client.read(p.Puback) if qos == 1 else client.read(p.Pubrec))
    assert (answer.packet_id, answer.reason) == (7, Reason.SUCCESS)
    assert "not retained" in str(answer.properties.reason_string)
    old.send(p.Publish(topic="a", payload=bytes(20_000), qos=1, packet_id=7, retain=True))
    assert await old.read(p.Puback) == p.Puback(packet_id=7)
    assert sorted(map(len, await plant.payloads("events"))) == [6, 20_000, 20_000]
    late = await plant.connect("late")
    await subscribe(late, "a")
    assert await late.is_silent(), "the one before it is not the last one any more"


async def test_a_large_one_survives(running: Plant) -> None:
    payload = bytes(range(256)) * 4_000
    await retain(running, "a", payload)
    await restart(running)
    client = await running.connect("s")
    await subscribe(client, "a")
    assert await take(client, 1) == [payload]


topics = st.lists(st.sampled_from(["a", "b", "", "$x"]), min_size=1, max_size=3).map("/".join).filter(bool)
filters = st.lists(st.sampled_from(["a", "b", "", "+", "$x"]), min_size=1, max_size=3).flatmap(
    lambda levels: st.sampled_from(["/".join(levels), "/".join([*levels, "#"]), "#"])
)


def message(topic: str, payload: bytes) -> Queued:
    return Queued(Post(Topic(topic, topic_key(topic)), 1, payload, payload, properties=Properties(), retain=True))


@given(st.lists(st.tuples(topics, st.sampled_from([b"", b"1", b"2"]))), filters.filter(bool))
def test_the_tree_finds_what_a_search_of_all_finds(published: list[tuple[str, bytes]], mqtt_filter: str) -> None:
    retained = Retained(1_000, 1 << 20)
    state: dict[str, bytes] = {}
    expected: dict[str, bytes] = {}
    for topic, payload in published:
        for name, chunk in retained.apply(message(topic, payload)).items():
            if chunk is None:
                state.pop(name, None)
            else:
                state[name] = chunk
        expected.pop(topic, None)
        if payload:
            expected[topic] = payload
    again = Retained(1_000, 1 << 20)
    again.restore(state)
    wanted = {topic: payload for topic, payload in expected.items() if filter_matches(mqtt_filter, topic)}
    for each in (retained, again):
        assert {found.post.topic.name: found.post.payload for found in each.match(mqtt_filter)} == wanted
        assert len(each) == len(expected)
