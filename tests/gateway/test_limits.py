"""Clients that want too much: each is told, or slowed down, and the others do not feel it."""

from __future__ import annotations

import pytest
from tests.gateway.test_kept_sessions import HOUR, both_versions, come, go
from tests.support.gateway import Plant, limits
from tests.support.mqtt import RawClient

from millstream.clock import VirtualClock
from millstream.gateway import hash_password
from millstream.mqtt import Properties, Reason, Version
from millstream.mqtt import packet as p

USERS = {name: {"password": hash_password(name), "publish": ["#"], "subscribe": ["#"]} for name in ("ann", "bob")}


async def publish_all(client: RawClient, numbers: range) -> list[p.Puback]:
    """In one write, which is one read for the server."""
    client.send(*(p.Publish(topic="a", payload=b"x", qos=1, packet_id=number) for number in numbers))
    return [await client.read(p.Puback) for _ in numbers]


@both_versions
async def test_a_client_that_is_too_quick_is_slowed_down_and_told_why(
    plant: Plant, version: Version, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await plant.start(limits=limits(client_messages=10))
    quick, other = await plant.connect("quick", version, keep_alive=1), await plant.connect("other")
    await publish_all(quick, range(1, 31))  # at once, which nobody could prevent
    told = await publish_all(quick, range(31, 32))
    assert plant.statistics["throttled"] == 1
    text = told[0].properties.reason_string or ""
    assert ("limits.client_messages" in text) is (version is Version.V5)
    quick.send(p.Publish(topic="a", payload=b"x", qos=1, packet_id=32))
    await quick.drain()
    await publish_all(other, range(1, 11))
    assert plant.statistics["received"] == 31 + 10
    while plant.statistics["received"] < 42:
        await clock.advance(0.1)
    assert clock.monotonic() == pytest.approx(2.2, abs=0.2)  # 21 messages more than allowed, 10 a second
    answer = await quick.read(p.Puback)
    assert answer.reason is Reason.SUCCESS and answer.properties.reason_string is None
    await publish_all(quick, range(40, 60))
    await publish_all(quick, range(60, 61))
    assert plant.statistics["throttled"] > 1
    assert caplog.text.count("client 'quick' is slowed down") == 1
    while plant.gateway._mqtt.throttle._waiting:
        await clock.advance(0.1)
    assert await quick.is_silent(), "it is not cut off, though it was not heard for longer than its keep-alive"


async def test_bytes_count_too_also_those_of_pings(plant: Plant, clock: VirtualClock) -> None:
    await plant.start(limits=limits(client_bytes=1_000))
    client = await plant.connect()
    client.write(bytes((0xC0, 0)) * 900)
    for _ in range(900):
        await client.read(p.Pingresp)
    assert plant.statistics["throttled"] == 1
    client.send(p.Pingreq())
    await client.drain()
    while clock.monotonic() < 1:
        await clock.advance(0.1)
    await client.read(p.Pingresp)


async def test_a_wait_ends_with_its_connection(plant: Plant, clock: VirtualClock) -> None:
    await plant.start(limits=limits(client_messages=1))
    client = await plant.connect()
    await publish_all(client, range(1, 4))
    await publish_all(client, range(4, 5))
    assert plant.statistics["throttled"] == 1
    await plant.gateway.stop()
    assert plant.statistics["connections"] == 0


@pytest.mark.parametrize("qos", [1, 2])
async def test_more_on_their_way_than_connack_allows(plant: Plant, qos: int) -> None:
    await plant.start(limits=limits(publish_maximum=3))
    client = await plant.open()
    client.send(p.Connect(version=Version.V5, client_id="x"))
    assert (await client.read(p.Connack)).properties.receive_maximum == 3
    plant.log.gate.clear()  # nothing is acknowledged
    for number in range(1, 5):
        client.send(p.Publish(topic="a", qos=qos, packet_id=number, payload=b"x"))
    last = (await client.rest())[-1]
    assert isinstance(last, p.Disconnect)
    assert last.reason is Reason.RECEIVE_MAXIMUM_EXCEEDED
    assert "as CONNACK allows" in str(last.properties.reason_string)


@pytest.mark.parametrize("qos", [1, 2])
async def test_every_end_of_an_exchange_allows_another_one(plant: Plant, qos: int) -> None:
    await plant.start(limits=limits(publish_maximum=2), anonymous={"publish": ["a"], "subscribe": ["#"]})
    client = await plant.connect()
    for number in range(1, 9):
        topic = "a" if number % 2 else "forbidden"  # an answer that says no ends the exchange, too
        client.send(p.Publish(topic=topic, qos=qos, packet_id=number, payload=b"x"))
        answer = await (client.read(p.Puback) if qos == 1 else client.read(p.Pubrec))
        assert answer.reason is (Reason.SUCCESS if topic == "a" else Reason.NOT_AUTHORIZED)
        if qos == 2 and topic == "a":
            client.send(p.Pubrel(packet_id=number))
            await client.read(p.Pubcomp)
    assert await client.is_silent()


async def test_exchanges_of_an_earlier_connection_do_not_count(plant: Plant) -> None:
    await plant.start(limits=limits(publish_maximum=2))
    client = await come(plant)
    for number in (1, 2):
        client.send(p.Publish(topic="a", qos=2, packet_id=number))
        await client.read(p.Pubrec)
    await go(plant, client)
    client = await come(plant)
    for number in (3, 4):
        client.send(p.Publish(topic="a", qos=2, packet_id=number))
        await client.read(p.Pubrec)
    for number in (1, 2, 3, 4):
        client.send(p.Pubrel(packet_id=number))
        assert (await client.read(p.Pubcomp)).reason is Reason.SUCCESS
    assert await client.is_silent()


async def test_a_client_of_3_1_1_knows_no_such_limit(plant: Plant) -> None:
    await plant.start(limits=limits(publish_maximum=2))
    client = await plant.connect(version=Version.V3_1_1)
    await publish_all(client, range(1, 21))
    assert await client.is_silent()


@both_versions
async def test_the_client_identifier_of_another_user_cannot_be_taken_over(plant: Plant, version: Version) -> None:
    await plant.start(users=USERS, allow_anonymous=False)
    hers = await plant.connect("press-1", user_name="ann", password=b"ann", properties=HOUR)
    thief = await plant.open(version)
    thief.send(p.Connect(version=version, client_id="press-1", user_name="bob", password=b"bob"))
    answer = await thief.read(p.Connack)
    assert answer.reason is Reason.NOT_AUTHORIZED
    if version is Version.V5:
        assert answer.properties.reason_string == "client identifier 'press-1' is in use by another user"
    assert await hers.is_silent()
    again = await come(plant, client_id="press-1", user_name="ann", password=b"ann")
    assert again.session_present, "she takes over what is hers"
    (last,) = await hers.rest()
    assert isinstance(last, p.Disconnect) and last.reason is Reason.SESSION_TAKEN_OVER


async def test_too_many_subscriptions_are_refused_one_by_one(plant: Plant) -> None:
    await plant.start(limits=limits(subscriptions=3))
    client = await plant.connect(properties=Properties())
    filters = tuple(p.Subscription(f"a/{number}", 1) for number in range(1_000))
    client.send(p.Subscribe(packet_id=1, subscriptions=filters))
    reasons = (await client.read(p.Suback)).reasons
    assert reasons == (Reason.GRANTED_QOS_1,) * 3 + (Reason.QUOTA_EXCEEDED,) * 997
    client.send(p.Unsubscribe(packet_id=2, filters=("a/0",)))
    await client.read(p.Unsuback)
    assert (await client.subscribe("b")).reasons == (Reason.GRANTED_QOS_1,)


async def test_clients_that_are_checked_at_the_same_time_keep_to_the_limit_too(plant: Plant) -> None:
    await plant.start(limits=limits(connections=1), users=USERS, allow_anonymous=False)
    both = [await plant.open() for _ in USERS]
    for client, name in zip(both, USERS, strict=True):
        client.send(p.Connect(version=Version.V5, client_id=name, user_name=name, password=name.encode()))
    answers = {(await client.read(p.Connack)).reason for client in both}
    assert answers == {Reason.SUCCESS, Reason.SERVER_BUSY}
    assert plant.statistics["connections"] == 1
