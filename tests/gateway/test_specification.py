"""What the specifications say of a server and no other test has for its subject, over the wire: mostly a statement a
test, in the order of MQTT 5.0. `docs/mqtt-conformance.md` has all statements with their tests."""

from __future__ import annotations

import asyncio

import pytest
from tests.gateway.test_kept_sessions import HOUR, come, go, publish, take, take_messages, take_one
from tests.gateway.test_retained import retain, subscribe
from tests.support.gateway import Plant, limits
from tests.support.mqtt import RawClient

from millstream.clock import VirtualClock
from millstream.gateway import hash_password
from millstream.mqtt import Properties, Reason, Version
from millstream.mqtt import packet as p

both_versions = pytest.mark.parametrize("version", list(Version))
kept_or_not = pytest.mark.parametrize("kept", [False, True], ids=["not kept", "kept"])


async def subscriber(plant: Plant, kept: bool, version: Version = Version.V5, client_id: str = "s") -> RawClient:
    return await (come(plant, version, client_id) if kept else plant.connect(client_id, version))


# --- 3.1 and 3.2: CONNECT and its answer


@both_versions
async def test_what_follows_a_connect_that_is_refused_is_not_looked_at(plant: Plant, version: Version) -> None:
    await plant.start(allow_anonymous=False, users={"ann": {"password": hash_password("secret"), "publish": ["#"]}})
    client = await plant.open(version)
    client.send(
        p.Connect(version=version, client_id="x", user_name="ann", password=b"wrong", will=p.Will(topic="gone")),
        p.Publish(topic="a", payload=b"1", qos=1, packet_id=1),
        p.Publish(topic="a", payload=b"2"),
    )
    (answer,) = await client.rest()
    assert isinstance(answer, p.Connack)
    assert answer.reason is Reason.BAD_USER_NAME_OR_PASSWORD
    assert not answer.session_present
    assert plant.statistics["received"] == 0


async def test_identifiers_that_the_server_gives_are_different_ones(running: Plant) -> None:
    clients = [await running.open() for _ in range(5)]
    given = set()
    for client in clients:
        client.send(p.Connect(version=Version.V5))
        given.add((await client.read(p.Connack)).properties.assigned_client_identifier)
    assert len(given) == 5 and None not in given


async def test_a_refusal_tells_of_no_session_though_there_is_one(plant: Plant) -> None:
    await plant.start(users={"ann": {"password": hash_password("secret"), "subscribe": ["#"]}}, allow_anonymous=False)
    hers = await come(plant, user_name="ann", password=b"secret")
    await go(plant, hers)
    client = await plant.open()
    client.send(
        p.Connect(
            version=Version.V5, client_id="s", clean_start=False, properties=HOUR, user_name="ann", password=b"wrong"
        )
    )
    assert not (await client.read(p.Connack)).session_present
    assert (await come(plant, user_name="ann", password=b"secret")).session_present


@both_versions
async def test_a_will_without_retain_is_not_retained_and_keeps_its_properties(running: Plant, version: Version) -> None:
    listener = await running.connect("listener")
    await listener.subscribe("gone", 1)
    its = Properties(content_type="x", user_properties=(("b", "1"), ("a", "2"), ("b", "3")))
    will = p.Will(topic="gone", payload=b"!", qos=1, properties=its if version is Version.V5 else Properties())
    await (await running.connect("press-1", version, will=will)).close()
    message = await take_one(listener)
    assert (message.payload, message.retain, message.properties) == (b"!", False, will.properties)
    late = await running.connect("late")
    await late.subscribe("gone", 1)
    assert await late.is_silent()


@both_versions
async def test_who_has_no_will_leaves_none(running: Plant, version: Version) -> None:
    listener = await running.connect("listener")
    await listener.subscribe("#", 1)
    await go(running, await running.connect("press-1", version))
    assert await listener.is_silent()


# --- 3.3: PUBLISH


@kept_or_not
@pytest.mark.parametrize("properties", [Properties(), Properties(content_type="x")], ids=["plain", "with properties"])
async def test_a_duplicate_from_a_publisher_is_none_for_subscribers(
    running: Plant, kept: bool, properties: Properties
) -> None:
    client, publisher = await subscriber(running, kept), await running.connect("p")
    await client.subscribe("a", 2)
    for qos in (1, 2):
        publisher.send(p.Publish(topic="a", qos=qos, packet_id=qos, duplicate=True, properties=properties))
        await publisher.read_any()
        assert not (await take_one(client)).duplicate


@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_retained_message_has_the_quality_that_it_was_published_with(
    running: Plant, version: Version, qos: int
) -> None:
    await retain(running, "a", b"before")
    publisher = await running.connect("p", version)
    publisher.send(p.Publish(topic="a", payload=b"1", qos=qos, packet_id=min(qos, 1), retain=True))
    assert isinstance(await publisher.read_any(), p.Puback | p.Pubrec) if qos else await publisher.is_silent()
    await publisher.publish("b", b"committed")
    for kept in (False, True):
        client = await subscriber(running, kept, version, client_id=f"s{kept}")
        await client.subscribe("a", 2)
        message = await take_one(client)
        assert (message.payload, message.qos, message.retain) == (b"1", qos, True)


async def test_an_empty_retained_message_is_published_as_any_other(running: Plant) -> None:
    await retain(running, "a", b"1")
    listener = await running.connect("listener")
    await subscribe(listener, "a", retain_handling=2)
    await retain(running, "a", b"")
    message = await take_one(listener)
    assert (message.payload, message.retain) == (b"", False)


async def test_without_retain_what_is_retained_stays(running: Plant) -> None:
    await retain(running, "a", b"1")
    publisher = await running.connect("p")
    await publisher.publish("a", b"2")
    await publisher.publish("a", b"")
    client = await running.connect("s")
    await client.subscribe("a", 1)
    assert await take(client, 1) == [b"1"]


async def test_topic_aliases_are_of_one_connection(running: Plant) -> None:
    client, publisher = (
        await come(running, properties=Properties(session_expiry_interval=60, topic_alias_maximum=1)),
        None,
    )
    await client.subscribe("long/topic", 1)
    for _ in range(2):
        publisher = await come(running, client_id="p")
        for number in (1, 2):
            topic = "long/topic" if number == 1 else ""
            await publisher.publish(topic, b"%d" % number, properties=Properties(topic_alias=1))
        got = await take_messages(client, 2)
        assert [(each.topic, each.properties.topic_alias) for each in got] == [("long/topic", 1), ("", 1)]
        await go(running, client)
        await go(running, publisher)
        client = await come(running, properties=Properties(session_expiry_interval=60, topic_alias_maximum=1))
    publisher = await come(running, client_id="p")
    publisher.send(p.Publish(topic="", qos=1, packet_id=1, properties=Properties(topic_alias=1)))
    (last,) = await publisher.rest()
    assert isinstance(last, p.Disconnect)
    assert last.reason is Reason.PROTOCOL_ERROR


async def test_every_topic_alias_up_to_the_maximum_is_taken(running: Plant) -> None:
    client = await running.open()
    client.send(p.Connect(version=Version.V5, client_id="x"))
    most = (await client.read(p.Connack)).properties.topic_alias_maximum
    assert most == 32
    for number in range(1, most + 1):
        await client.publish(f"t/{number}", b"1", properties=Properties(topic_alias=number))
    for number in range(1, most + 1):
        await client.publish("", b"2", properties=Properties(topic_alias=number))
    found = sorted((event.topic, event.payload) for event in await running.read("events"))
    assert found == sorted((f"t/{number}", text) for number in range(1, most + 1) for text in (b"1", b"2"))


async def test_a_message_that_expires_while_the_window_is_full_is_not_delivered(
    running: Plant, clock: VirtualClock
) -> None:
    client = await running.connect("s", properties=Properties(receive_maximum=1))
    await client.subscribe("a", 2)
    publisher = await running.connect("p")
    for number, lifetime in enumerate((60, 5, 60, None)):
        properties = Properties(message_expiry_interval=lifetime)
        await publisher.publish("a", bytes((number,)), properties=properties)
    first = await client.read(p.Publish)
    await clock.advance(20)
    client.send(p.Puback(packet_id=first.packet_id))
    got = await take_messages(client, 2)
    assert [(each.payload[0], each.properties.message_expiry_interval) for each in got] == [(2, 40), (3, None)]
    assert running.statistics["expired"] == 1
    assert await client.is_silent()


@kept_or_not
async def test_a_full_window_delays_nothing_but_messages(running: Plant, kept: bool) -> None:
    properties = Properties(receive_maximum=1, session_expiry_interval=60 if kept else 0)
    client = await running.connect("s", properties=properties)
    await client.subscribe("a", 1)
    await publish(running, b"1", b"2", topic="a")
    first = await client.read(p.Publish)
    assert await client.is_silent(), "a ping is answered"
    assert (await client.subscribe("b", 0)).reasons == (Reason.SUCCESS,)
    assert (await client.publish("c", b"3")).reason is Reason.SUCCESS
    client.send(p.Publish(topic="b", payload=b"quality 0"))
    assert (await client.read(p.Publish)).payload == b"quality 0"
    client.send(p.Unsubscribe(packet_id=2, filters=("b",)))
    await client.read(p.Unsuback)
    client.send(p.Puback(packet_id=first.packet_id))
    assert await take(client, 1) == [b"2"]


# --- 3.8 and 3.10: SUBSCRIBE and UNSUBSCRIBE


@kept_or_not
@both_versions
async def test_nothing_is_lost_while_a_subscription_is_replaced(running: Plant, version: Version, kept: bool) -> None:
    client, publisher = await subscriber(running, kept, version), await running.connect("p")
    await client.subscribe("a/#", 1)
    names = [bytes((number,)) for number in range(40)]
    for number, name in enumerate(names, 1):
        publisher.send(p.Publish(topic="a/b", payload=name, qos=1, packet_id=number))
        client.send(p.Subscribe(packet_id=number, subscriptions=(p.Subscription("a/#", 1 + number % 2),)))
        if number % 8 == 0:
            await asyncio.sleep(0)
    got: list[bytes] = []
    answers = 0
    while len(got) < len(names) or answers < len(names):
        packet = await client.read_any()
        if isinstance(packet, p.Suback):
            answers += 1
        else:
            assert isinstance(packet, p.Publish)
            got.append(packet.payload)
            client.send(p.Puback(packet_id=packet.packet_id))
    assert got == names
    assert await client.is_silent()


async def test_what_waits_stays_when_a_subscription_is_replaced(running: Plant) -> None:
    few = Properties(receive_maximum=1, session_expiry_interval=60)
    client = await come(running, properties=few)
    await client.subscribe("a/#", 1)
    await publish(running, b"1", b"2", b"3")
    first = await client.read(p.Publish)
    await client.subscribe("a/#", 1)
    client.send(p.Puback(packet_id=first.packet_id))
    assert await take(client, 2) == [b"2", b"3"]


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_was_begun_is_finished_after_unsubscribe(running: Plant, qos: int) -> None:
    client = await come(running)
    await client.subscribe("a", qos)
    await publish(running, b"1", topic="a", qos=qos)
    sent = await client.read(p.Publish)
    client.send(p.Unsubscribe(packet_id=2, filters=("a",)))
    await client.read(p.Unsuback)
    await go(running, client)
    client = await come(running)
    again = await take_one(client)
    assert (again.payload, again.packet_id, again.qos, again.duplicate) == (b"1", sent.packet_id, qos, True)
    await go(running, client)
    assert await (await come(running)).is_silent()


# --- 4.1 to 4.4: sessions and deliveries


async def test_a_session_lasts_as_long_as_its_connection(running: Plant, clock: VirtualClock) -> None:
    client = await come(running, properties=Properties(session_expiry_interval=1))
    await client.subscribe("a", 1)
    for _ in range(5):
        await clock.advance(10)
        assert await client.is_silent()
    assert running.statistics["sessions"] == 1
    await publish(running, b"1", topic="a")
    sent = await client.read(p.Publish)
    await go(running, client)
    client = await come(running)
    assert client.session_present
    assert (await take_one(client)).packet_id == sent.packet_id


async def test_an_identifier_that_was_acknowledged_is_a_new_message_whatever_its_flag(running: Plant) -> None:
    client = await running.connect()
    for number in range(3):
        client.send(p.Publish(topic="a", payload=b"%d" % number, qos=1, packet_id=7, duplicate=number > 0))
        assert (await client.read(p.Puback)).packet_id == 7
    assert await running.payloads("events") == [b"0", b"1", b"2"]


@pytest.mark.parametrize("kind", [p.Puback, p.Pubrec])
async def test_an_answer_comes_when_the_message_is_the_servers(running: Plant, kind: type[p.Puback | p.Pubrec]) -> None:
    client = await come(running)
    running.log.gate.clear()
    client.send(p.Publish(topic="a", payload=b"1", qos=1 if kind is p.Puback else 2, packet_id=7))
    await running.log.waiting.wait()
    assert await client.is_silent()
    running.log.gate.set()
    assert (await client.read(kind)).packet_id == 7
    if kind is p.Pubrec:
        client.send(p.Pubrel(packet_id=7))
        assert await client.read(p.Pubcomp) == p.Pubcomp(packet_id=7)


async def test_an_identifier_that_was_refused_is_a_new_message(plant: Plant) -> None:
    await plant.start(anonymous={"publish": ["a"], "subscribe": ["#"]})
    client = await plant.connect()
    client.send(p.Publish(topic="forbidden", payload=b"1", qos=2, packet_id=7))
    assert (await client.read(p.Pubrec)).reason is Reason.NOT_AUTHORIZED
    client.send(p.Publish(topic="a", payload=b"2", qos=2, packet_id=7))
    assert (await client.read(p.Pubrec)).reason is Reason.SUCCESS
    assert await plant.payloads("events") == [b"2"]


@kept_or_not
@pytest.mark.parametrize("qos", [1, 2])
async def test_nothing_is_sent_again_while_the_connection_lasts(
    running: Plant, clock: VirtualClock, kept: bool, qos: int
) -> None:
    client = await subscriber(running, kept)
    await client.subscribe("a", qos)
    await publish(running, b"1", topic="a", qos=qos)
    await client.read(p.Publish)
    for _ in range(5):
        await clock.advance(10)
        assert await client.is_silent()


@pytest.mark.parametrize("answer", [p.Puback, p.Pubrec])
@pytest.mark.parametrize("mqtt_filter", ["a", "$share/line/a"])
async def test_an_answer_that_says_no_is_an_answer(
    running: Plant, answer: type[p.Puback | p.Pubrec], mqtt_filter: str
) -> None:
    qos = 1 if answer is p.Puback else 2
    client, other = await come(running), None
    await client.subscribe(mqtt_filter, qos)
    await publish(running, b"1", topic="a", qos=qos)
    sent = await client.read(p.Publish)
    other = await come(running, client_id="other")
    if mqtt_filter != "a":
        await other.subscribe(mqtt_filter, qos)
    client.send(answer(packet_id=sent.packet_id, reason=Reason.IMPLEMENTATION_SPECIFIC_ERROR))
    assert await client.is_silent(), "not even PUBREL"
    await go(running, client)
    client = await come(running)
    assert await client.is_silent()
    assert await other.is_silent(), "and nobody else of the group"


# --- 4.7 and 4.8: topics and shared subscriptions


@both_versions
async def test_no_character_of_a_topic_is_another_one(running: Plant, version: Version) -> None:
    """Neither normalised nor folded, nor is a byte order mark or a slash left out."""
    client, publisher = await running.connect("s", version), await running.connect("p", version)
    names = ["\u00e9", "e\u0301", "A", "a", "\ufeffa", "a/", "/a", "a ", "\u212b", "\u00c5", "\ufffd"]
    for name in names:
        await client.subscribe(f"t/{name}", 0)
    for name in names:
        await publisher.publish(f"t/{name}", name.encode())
        message = await client.read(p.Publish)
        assert (message.topic, message.payload) == (f"t/{name}", name.encode())
    assert await client.is_silent()


@kept_or_not
async def test_each_member_of_a_shared_subscription_has_its_own_quality(running: Plant, kept: bool) -> None:
    members = {qos: await subscriber(running, kept, client_id=f"m{qos}") for qos in range(3)}
    for qos, member in members.items():
        await member.subscribe("$share/line/a", qos)
    await publish(running, *[bytes((number,)) for number in range(6)], topic="a", qos=2)
    for qos, member in members.items():
        assert [each.qos for each in await take_messages(member, 2)] == [qos, qos]


@kept_or_not
async def test_quality_2_that_a_member_did_not_finish_goes_to_nobody_else(running: Plant, kept: bool) -> None:
    one, other = await subscriber(running, kept, client_id="one"), await subscriber(running, kept, client_id="other")
    await one.subscribe("$share/line/a", 2)
    await publish(running, b"1", topic="a", qos=2)
    await one.read(p.Publish)
    await other.subscribe("$share/line/a", 2)
    one.send(p.Disconnect(properties=Properties(session_expiry_interval=0) if kept else Properties()))
    await one.rest()
    await publish(running, b"2", topic="a", qos=2)
    assert await take(other, 1) == [b"2"]
    assert await other.is_silent()


# --- 4.13: errors


@pytest.mark.parametrize(
    "answer", [p.Pubrel(packet_id=5), p.Pubrec(packet_id=5), p.Puback(packet_id=5), p.Pubcomp(packet_id=5)]
)
@both_versions
async def test_an_answer_to_nothing_is_no_reason_to_end(running: Plant, version: Version, answer: p.Packet) -> None:
    client = await running.connect("s", version)
    client.send(answer)
    unknown = Reason.PACKET_IDENTIFIER_NOT_FOUND if version is Version.V5 else Reason.SUCCESS
    if isinstance(answer, p.Pubrel):
        assert await client.read(p.Pubcomp) == p.Pubcomp(packet_id=5, reason=unknown)
    if isinstance(answer, p.Pubrec):
        assert await client.read(p.Pubrel) == p.Pubrel(packet_id=5, reason=unknown)
    assert await client.is_silent()


async def test_nothing_comes_behind_disconnect(plant: Plant) -> None:
    await plant.start(limits=limits(publish_maximum=3))
    client, publisher = await plant.connect(), await plant.connect("p")
    await client.subscribe("a", 1)
    plant.log.gate.clear()
    client.send(p.Publish(topic="a", payload=b"mine", qos=1, packet_id=1))
    publisher.send(p.Publish(topic="a", payload=b"other's", qos=1, packet_id=1))
    await plant.log.waiting.wait()
    client.write(b"\xc1\x00")
    (last,) = await client.rest()
    plant.log.gate.set()
    assert isinstance(last, p.Disconnect), "neither PUBACK nor a message"
    assert last.reason is Reason.MALFORMED_PACKET
    await publisher.read(p.Puback)
