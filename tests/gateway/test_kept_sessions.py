"""Sessions that outlive their connections, and the server: what they get, once, in order, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from pydantic import ByteSize
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE, RawClient

from millstream.clock import VirtualClock
from millstream.errors import DiskFullError
from millstream.event import Event, to_columns
from millstream.gateway import hash_password
from millstream.gateway.attributes import Attributes
from millstream.mqtt import Properties, Reason, Version
from millstream.mqtt import packet as p
from millstream.settings import SessionSettings

both_versions = pytest.mark.parametrize("version", list(Version))
HOUR = Properties(session_expiry_interval=3_600)


async def come(plant: Plant, version: Version = Version.V5, client_id: str = "s", **more: object) -> RawClient:
    """A client that wants its session kept, and knows whether it was."""
    client = await plant.open(version)
    asked = {"clean_start": False, "properties": HOUR if version is Version.V5 else Properties(), **more}
    client.send(p.Connect(version=version, client_id=client_id, **asked))  # type: ignore[arg-type]
    answer = await client.read(p.Connack)
    assert answer.reason is Reason.SUCCESS
    client.session_present = answer.session_present
    return client


async def go(plant: Plant, client: RawClient) -> None:
    """Go away without a word, and wait until the server knows."""
    before = plant.statistics["connections"]
    await client.close()
    await plant.until(lambda: plant.statistics["connections"] < before)


async def publish(plant: Plant, *payloads: bytes, topic: str = "a/b", qos: int = 1) -> None:
    """Returns when all are acknowledged."""
    publisher = await plant.connect("publisher")
    for number, payload in enumerate(payloads, 1):
        publisher.send(p.Publish(topic=topic, payload=payload, qos=qos, packet_id=number))
        if qos == 1:
            await publisher.read(p.Puback)
        else:
            assert (await publisher.read(p.Pubrec)).reason is Reason.SUCCESS
            publisher.send(p.Pubrel(packet_id=number))
            assert (await publisher.read(p.Pubcomp)).reason is Reason.SUCCESS
    publisher.send(p.Disconnect())
    await publisher.rest()


async def take(client: RawClient, count: int) -> list[bytes]:
    """So many messages, acknowledged as their quality wants it."""
    return [message.payload for message in await take_messages(client, count)]


async def take_one(client: RawClient) -> p.Publish:
    (message,) = await take_messages(client, 1)
    return message


async def take_messages(client: RawClient, count: int) -> list[p.Publish]:
    found: list[p.Publish] = []
    open_ids: set[int] = set()
    while len(found) < count or open_ids:
        packet = await client.read_any()
        if isinstance(packet, p.Publish):
            found.append(packet)
            if packet.qos == 1:
                client.send(p.Puback(packet_id=packet.packet_id))
            elif packet.qos == 2:
                open_ids.add(packet.packet_id)
                client.send(p.Pubrec(packet_id=packet.packet_id))
        else:
            assert isinstance(packet, p.Pubrel), packet
            open_ids.remove(packet.packet_id)
            client.send(p.Pubcomp(packet_id=packet.packet_id))
    return found


async def pass_time(clock: VirtualClock, condition: Callable[[], bool]) -> None:
    """Let time pass until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await clock.advance(1)


async def restart(plant: Plant) -> None:
    await plant.gateway.stop()
    await plant.start()


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_client_that_takes_less_than_before_does_not_get_what_is_too_large(running: Plant, qos: int) -> None:
    subscriber = await come(running)
    await subscriber.subscribe("a/#", qos)
    await publish(running, bytes(1_000), qos=qos)
    await subscriber.read(p.Publish)
    await go(running, subscriber)
    smaller = await come(running, properties=Properties(session_expiry_interval=60, maximum_packet_size=200))
    await publish(running, b"small", qos=qos)
    assert await take(smaller, 1) == [b"small"]
    assert running.statistics["dropped"] == 1
    await go(running, smaller)
    assert await (await come(running)).is_silent(), "it counts as sent"


@both_versions
@pytest.mark.parametrize("qos", [1, 2])
async def test_who_was_away_gets_everything_in_order(running: Plant, version: Version, qos: int) -> None:
    subscriber = await come(running, version)
    assert not subscriber.session_present
    await subscriber.subscribe("a/#", qos)
    await publish(running, b"1", qos=qos)
    assert await take(subscriber, 1) == [b"1"]
    await go(running, subscriber)
    await publish(running, b"2", b"3", qos=qos)
    subscriber = await come(running, version)
    assert subscriber.session_present
    assert await take(subscriber, 2) == [b"2", b"3"]
    await publish(running, b"4", qos=qos)
    assert await take(subscriber, 1) == [b"4"]
    assert await subscriber.is_silent()


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_session_survives_a_restart(running: Plant, qos: int) -> None:
    subscriber = await come(running)
    await subscriber.subscribe("a/+", qos)
    await go(running, subscriber)
    await publish(running, b"1", b"2", qos=qos)
    await restart(running)
    await publish(running, b"3", qos=qos)
    subscriber = await come(running)
    assert subscriber.session_present
    assert await take(subscriber, 3) == [b"1", b"2", b"3"]
    assert await subscriber.is_silent()
    await restart(running)
    subscriber = await come(running)
    assert await subscriber.is_silent(), "it has acknowledged all of them"


async def test_a_message_is_stored_once_for_all_sessions(running: Plant) -> None:
    for number in range(5):
        subscriber = await come(running, client_id=f"s{number}")
        await subscriber.subscribe("a/#" if number % 2 else "+/b", 1)
        await go(running, subscriber)
    await publish(running, b"1", b"2")
    assert len(await running.read("$sessions")) == 2
    for number in range(5):
        assert await take(await come(running, client_id=f"s{number}"), 2) == [b"1", b"2"]


async def test_what_nobody_wants_or_quality_0_is_not_queued(running: Plant) -> None:
    subscriber = await come(running)
    await subscriber.subscribe("a/#", 1)
    await subscriber.subscribe("c", 0)
    await go(running, subscriber)
    publisher = await running.connect("publisher")
    publisher.send(p.Publish(topic="a/b", payload=b"0"))
    await publisher.publish("c", b"1")
    await publisher.publish("d", b"2")
    assert running.statistics["queued"] == 0
    assert await (await come(running)).is_silent()


async def test_quality_0_reaches_who_is_there(running: Plant) -> None:
    subscriber = await come(running)
    await subscriber.subscribe("a", 0)
    await subscriber.subscribe("b", 1)
    publisher = await running.connect("publisher")
    publisher.send(p.Publish(topic="b", payload=b"0"))
    await publisher.publish("a", b"1")
    assert await subscriber.read(p.Publish) == p.Publish(topic="b", payload=b"0")
    assert await subscriber.read(p.Publish) == p.Publish(topic="a", payload=b"1")


async def test_overlapping_subscriptions_give_one_copy_with_all_identifiers(running: Plant) -> None:
    subscriber = await come(running)
    for identifier, (wanted, qos) in enumerate({"a/#": 1, "a/+": 2, "+/b": 0}.items(), 1):
        subscriber.send(
            p.Subscribe(
                packet_id=1,
                subscriptions=(p.Subscription(wanted, qos),),
                properties=Properties(subscription_identifiers=(identifier,)),
            )
        )
        await subscriber.read(p.Suback)
    await publish(running, b"x", qos=2)
    message = await take_one(subscriber)
    assert (message.qos, message.payload) == (2, b"x")
    assert sorted(message.properties.subscription_identifiers) == [1, 2, 3]
    assert await subscriber.is_silent()


async def test_no_local_holds_for_a_session_that_is_kept(running: Plant) -> None:
    client = await come(running)
    await client.subscribe("a", 1, no_local=True)
    await client.publish("a", b"mine")
    await publish(running, b"other's", topic="a")
    assert await take(client, 1) == [b"other's"]


async def test_what_was_not_acknowledged_comes_again_under_its_identifier(running: Plant) -> None:
    subscriber = await come(running)
    await subscriber.subscribe("#", 2)
    await publish(running, b"1")
    await publish(running, b"2", qos=2)
    first = [await subscriber.read(p.Publish) for _ in range(2)]
    assert [each.duplicate for each in first] == [False, False]
    await go(running, subscriber)
    await publish(running, b"3")
    subscriber = await come(running)
    again = [await subscriber.read(p.Publish) for _ in range(3)]
    assert [each.duplicate for each in again] == [True, True, False]
    assert [(each.packet_id, each.payload) for each in again[:2]] == [(each.packet_id, each.payload) for each in first]


@pytest.mark.parametrize("again", ["the connection is lost", "the server restarts"])
async def test_quality_2_to_a_subscriber_goes_on_where_it_was(running: Plant, again: str) -> None:
    async def interrupt(client: RawClient) -> RawClient:
        await (go(running, client) if again == "the connection is lost" else restart(running))
        return await come(running)

    subscriber = await come(running)
    await subscriber.subscribe("#", 2)
    await publish(running, b"1", qos=2)
    message = await subscriber.read(p.Publish)
    subscriber = await interrupt(subscriber)
    assert (await subscriber.read(p.Publish)).packet_id == message.packet_id
    subscriber.send(p.Pubrec(packet_id=message.packet_id))
    assert (await subscriber.read(p.Pubrel)).packet_id == message.packet_id
    subscriber = await interrupt(subscriber)
    assert await subscriber.read(p.Pubrel) == p.Pubrel(packet_id=message.packet_id)
    subscriber.send(p.Pubcomp(packet_id=message.packet_id))
    assert await subscriber.is_silent()
    subscriber = await interrupt(subscriber)
    assert await subscriber.is_silent()


@pytest.mark.parametrize("again", ["the connection is lost", "the server restarts"])
async def test_quality_2_from_a_publisher_is_taken_once(running: Plant, again: str) -> None:
    async def interrupt(client: RawClient) -> RawClient:
        await (go(running, client) if again == "the connection is lost" else restart(running))
        return await come(running)

    publisher = await come(running)
    message = p.Publish(topic="a", payload=b"1", qos=2, packet_id=7)
    publisher.send(message)
    await publisher.read(p.Pubrec)
    publisher = await interrupt(publisher)
    publisher.send(message)
    assert await publisher.read(p.Pubrec) == p.Pubrec(packet_id=7)
    publisher.send(p.Pubrel(packet_id=7))
    await publisher.read(p.Pubcomp)
    publisher = await interrupt(publisher)
    publisher.send(p.Pubrel(packet_id=7))
    assert (await publisher.read(p.Pubcomp)).reason is Reason.PACKET_IDENTIFIER_NOT_FOUND
    assert await running.payloads("events") == [b"1"]
    publisher.send(p.Publish(topic="a", payload=b"2", qos=2, packet_id=7))
    await publisher.read(p.Pubrec)
    assert await running.payloads("events") == [b"1", b"2"], "the identifier was free"


async def test_a_client_is_told_only_what_is_on_disk(running: Plant) -> None:
    client = await come(running)
    client.send(p.Publish(topic="a", payload=b"1", qos=2, packet_id=1))
    await client.read(p.Pubrec)
    running.log.gate.clear()
    client.send(p.Subscribe(packet_id=9, subscriptions=(p.Subscription("b", 1),)), p.Pubrel(packet_id=1))
    await running.log.waiting.wait()
    assert await client.is_silent()
    running.log.gate.set()
    assert (await client.read(p.Suback)).packet_id == 9
    assert (await client.read(p.Pubcomp)).packet_id == 1


async def test_a_message_of_quality_2_goes_out_when_its_identifier_is_on_disk(running: Plant) -> None:
    subscriber, publisher = await come(running), await running.connect("publisher")
    await subscriber.subscribe("a", 2)
    running.log.gate.clear()
    publisher.send(p.Publish(topic="a", payload=b"1", qos=2, packet_id=1))
    await running.log.waiting.wait()
    running.log.gate.set()
    await running.until(lambda: not running.log.waiting.is_set())
    running.log.gate.clear()
    await publisher.read(p.Pubrec)
    await running.log.waiting.wait()
    assert await subscriber.is_silent()
    running.log.gate.set()
    assert (await subscriber.read(p.Publish)).payload == b"1"


@both_versions
async def test_a_clean_start_forgets(running: Plant, version: Version) -> None:
    subscriber = await come(running, version)
    await subscriber.subscribe("a/#", 1)
    await go(running, subscriber)
    await publish(running, b"1")
    fresh = await come(running, version, clean_start=True, properties=Properties())
    assert not fresh.session_present
    await publish(running, b"2")
    assert await fresh.is_silent()
    await go(running, fresh)
    assert not (await come(running, version)).session_present


async def test_a_session_ends_when_its_time_has_come(running: Plant, clock: VirtualClock) -> None:
    subscriber = await come(running, properties=Properties(session_expiry_interval=60))
    await subscriber.subscribe("a/#", 1)
    await go(running, subscriber)
    await clock.advance(59)
    assert running.statistics["sessions"] == 1
    await restart(running)
    await pass_time(clock, lambda: running.statistics["sessions"] == 0)
    await restart(running)
    assert not (await come(running)).session_present


async def test_disconnect_says_how_long_a_session_is_kept(running: Plant, clock: VirtualClock) -> None:
    for expiry, kept in ((0, 0), (10, 1)):
        subscriber = await come(running)
        subscriber.send(p.Disconnect(properties=Properties(session_expiry_interval=expiry)))
        await subscriber.rest()
        await running.until(lambda kept=kept: running.statistics["sessions"] == kept)  # type: ignore[misc]
    await pass_time(clock, lambda: running.statistics["sessions"] == 0)


async def test_a_session_is_taken_over_with_what_is_on_its_way(running: Plant) -> None:
    first = await come(running)
    await first.subscribe("a/#", 1)
    await publish(running, b"1")
    await first.read(p.Publish)
    second = await come(running)
    assert second.session_present
    assert (await first.read(p.Disconnect)).reason is Reason.SESSION_TAKEN_OVER
    message = await second.read(p.Publish)
    assert (message.payload, message.duplicate) == (b"1", True)


async def test_unsubscribing_ends_what_waits(running: Plant) -> None:
    subscriber = await come(running, properties=Properties(session_expiry_interval=60, receive_maximum=1))
    await subscriber.subscribe("a/#", 1)
    await publish(running, b"1", b"2")
    message = await subscriber.read(p.Publish)
    subscriber.send(p.Unsubscribe(packet_id=2, filters=("a/#",)))
    assert (await subscriber.read(p.Unsuback)).reasons == (Reason.SUCCESS,)
    subscriber.send(p.Puback(packet_id=message.packet_id))
    assert await subscriber.is_silent()
    await publish(running, b"3")
    assert running.statistics["queued"] == 2


async def test_a_window_bounds_what_is_sent(running: Plant) -> None:
    subscriber = await come(running, properties=Properties(session_expiry_interval=60, receive_maximum=2))
    await subscriber.subscribe("a/#", 1)
    await publish(running, *(bytes((number,)) for number in range(5)))
    got = [await subscriber.read(p.Publish) for _ in range(2)]
    assert await subscriber.is_silent()
    subscriber.send(p.Puback(packet_id=got[1].packet_id))
    got.append(await subscriber.read(p.Publish))
    assert await subscriber.is_silent()
    await go(running, subscriber)
    subscriber = await come(running, properties=Properties(session_expiry_interval=60, receive_maximum=1))
    assert await take(subscriber, 4) == [b"\0", b"\2", b"\3", b"\4"]


async def test_a_long_backlog_of_some_among_many(running: Plant) -> None:
    """It is read in pages, without what is not its own."""
    few, all_of_them = await come(running, client_id="few"), await come(running, client_id="all")
    await few.subscribe("few", 1)
    await all_of_them.subscribe("#", 1)
    await go(running, few)
    await go(running, all_of_them)
    for number in range(200):
        one = b"middle" if number == 100 else bytes(1_000)
        await running.gateway.publish("few", [(one, Attributes())])
        await running.gateway.publish("many", [(bytes(1_000), Attributes())] * 49)
    await restart(running)
    few = await come(running, client_id="few")
    got = await take(few, 200)
    assert got.index(b"middle") == 100
    assert await few.is_silent()
    all_of_them = await come(running, client_id="all")
    assert (await take(all_of_them, 10_000))[5_000] == b"middle"


async def test_a_message_that_has_expired_is_not_delivered(running: Plant, clock: VirtualClock) -> None:
    subscriber = await come(running)
    await subscriber.subscribe("a", 1)
    await go(running, subscriber)
    publisher = await running.connect("publisher")
    for lifetime in (5, 60):
        await publisher.publish("a", bytes((lifetime,)), properties=Properties(message_expiry_interval=lifetime))
    await clock.advance(20)
    message = await take_one(await come(running))
    assert (message.payload, message.properties.message_expiry_interval) == (bytes((60,)), 40)
    assert running.statistics["expired"] == 1


async def test_what_is_on_its_way_does_not_expire(running: Plant, clock: VirtualClock) -> None:
    subscriber = await come(running)
    await subscriber.subscribe("a", 2)
    publisher = await running.connect("publisher")
    properties = Properties(message_expiry_interval=5)
    publisher.send(p.Publish(topic="a", payload=b"1", qos=2, packet_id=1, properties=properties))
    await publisher.read(p.Pubrec)
    sent = await subscriber.read(p.Publish)
    await go(running, subscriber)
    await clock.advance(20)
    publisher.send(p.Pubrel(packet_id=1))
    assert (await publisher.read(p.Pubcomp)).reason is Reason.SUCCESS
    again = await take_one(await come(running))
    assert (again.payload, again.packet_id, again.duplicate) == (b"1", sent.packet_id, True)


async def test_what_retention_takes_from_a_session_is_counted_and_told(
    plant: Plant, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await plant.start(sessions=SessionSettings(queue_age=timedelta(seconds=30)))
    subscriber = await come(plant)
    await subscriber.subscribe("a/#", 1)
    await go(plant, subscriber)
    await publish(plant, b"1", b"2")
    await pass_time(clock, lambda: plant.statistics["overflowed"] > 0)
    await publish(plant, b"3")
    assert plant.statistics["overflowed"] == 2
    assert "client 's' was away or too slow for too long: 2 of its messages were dropped" in caplog.text
    assert await take(await come(plant), 1) == [b"3"]


@pytest.mark.parametrize("mqtt_filter", ["a/#", "$share/line/a/#"])
async def test_only_so_much_waits_for_one_session(plant: Plant, clock: VirtualClock, mqtt_filter: str) -> None:
    settings = SessionSettings(backlog_bytes=ByteSize(3_500))
    await plant.start(sessions=settings)
    greedy, modest = await come(plant, client_id="greedy"), await come(plant, client_id="modest")
    await greedy.subscribe(mqtt_filter, 1)
    await modest.subscribe("a/0", 1)
    await go(plant, greedy)
    await go(plant, modest)
    for number in range(5):
        await publish(plant, bytes((number,)) * 1_000, topic=f"a/{number}")
    await pass_time(clock, lambda: plant.statistics["overflowed"] == 2)
    await plant.gateway.stop()
    await plant.start(sessions=settings)
    got = await take(await come(plant, client_id="greedy"), 3)
    assert [payload[0] for payload in got] == [2, 3, 4], "its oldest are dropped"
    assert (await take(await come(plant, client_id="modest"), 1))[0][0] == 0, "and nobody else's"
    assert plant.statistics["overflowed"] == 0


async def test_a_queue_that_somebody_has_dropped_begins_anew(running: Plant) -> None:
    subscriber = await come(running)
    await subscriber.subscribe("a/#", 1)
    await publish(running, b"1", b"2", b"3")
    await take(subscriber, 2)
    await running.gateway.stop()
    await running.log.drop("$sessions")
    await running.start()
    await publish(running, b"4")
    subscriber = await come(running)
    assert await take(subscriber, 1) == [b"4"]
    assert await subscriber.is_silent()


async def test_rights_that_were_taken_away_end_a_subscription(plant: Plant) -> None:
    for may_hear, got in (("a/#", [b"1"]), ("c/#", [])):
        user = {"password": hash_password("secret"), "subscribe": [may_hear, "b"]}
        gateway = await plant.start(allow_anonymous=False, users={"ann": user})
        client = await come(plant, user_name="ann", password=b"secret")
        assert client.session_present is (not got)
        if got:
            await client.subscribe("a/#", 1)
        await gateway.publish("a/b", [(b"1", Attributes())])
        assert await take(client, len(got)) == got
        assert await client.is_silent()
        await gateway.stop()


async def test_a_session_is_its_users_alone(plant: Plant) -> None:
    users = {name: {"password": hash_password(name), "subscribe": ["#"]} for name in ("ann", "bob")}
    gateway = await plant.start(allow_anonymous=False, users=users)
    hers = await come(plant, user_name="ann", password=b"ann")
    await hers.subscribe("a", 1)
    await go(plant, hers)
    await gateway.publish("a", [(b"for ann", Attributes())])
    his = await come(plant, user_name="bob", password=b"bob")
    assert not his.session_present
    assert await his.is_silent()


async def test_who_cannot_have_a_session_is_told(running: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(spec: object) -> None:
        raise DiskFullError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(running.log._log, "create", full)
        client = await running.open()
        client.send(p.Connect(version=Version.V5, client_id="s", properties=HOUR))
        answer = await client.read(p.Connack)
        assert answer.reason is Reason.SERVER_BUSY
        assert "the disk is full" in str(answer.properties.reason_string)
    await come(running)


async def test_only_so_many_sessions_are_kept(plant: Plant) -> None:
    await plant.start(sessions=SessionSettings(count=1))
    await come(plant, client_id="first")
    second = await plant.open()
    second.send(p.Connect(version=Version.V5, client_id="second", properties=HOUR))
    assert (await second.read(p.Connack)).reason is Reason.QUOTA_EXCEEDED
    await come(plant, client_id="first")


async def test_a_slow_session_costs_no_memory_and_slows_nobody(running: Plant) -> None:
    slow, quick = await come(running, client_id="slow"), await come(running, client_id="quick")
    await slow.subscribe("a/#", 1)
    await quick.subscribe("a/#", 1)
    payload = bytes(100_000)
    for _ in range(20):
        await asyncio.gather(publish(running, payload), take(quick, 1))
    assert await quick.is_silent()
    assert await take(slow, 20) == [payload] * 20
    assert await slow.is_silent()


async def test_what_a_function_publishes_reaches_a_session_that_was_away(running: Plant) -> None:
    subscriber = await come(running)
    await subscriber.subscribe("alerts", 1)
    await go(running, subscriber)
    running.gateway.topics.publish(to_columns([Event(topic="alerts", payload=b"hot")]))
    await running.until(lambda: running.statistics["queued"] == 1)
    assert await take(await come(running), 1) == [b"hot"]


@both_versions
async def test_quality_2_without_a_session_that_is_kept(running: Plant, version: Version) -> None:
    subscriber = await running.connect("s", version)
    assert (await subscriber.subscribe("a/#", 2)).reasons == (Reason.GRANTED_QOS_2,)
    await publish(running, b"1", b"2", qos=2)
    assert await take(subscriber, 2) == [b"1", b"2"]
    assert await subscriber.is_silent()
    assert await running.payloads("events") == [b"1", b"2"]
