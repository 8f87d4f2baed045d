"""Shared subscriptions: each message goes to one member, and to another one when that one's session ends."""

from __future__ import annotations

import itertools

import pytest
from tests.gateway.test_kept_sessions import come, go, publish, restart, take, take_messages
from tests.support.gateway import Plant
from tests.support.mqtt import RawClient

from millstream.mqtt import Properties, Reason
from millstream.mqtt import packet as p

NAMES = [bytes((number,)) for number in range(12)]


async def join(client: RawClient, name: str = "$share/g/a/#", qos: int = 1, identifier: int = 5) -> None:
    client.send(
        p.Subscribe(
            packet_id=1,
            subscriptions=(p.Subscription(name, qos),),
            properties=Properties(subscription_identifiers=(identifier,)),
        )
    )
    assert (await client.read(p.Suback)).reasons == (Reason(qos),)


async def member(plant: Plant, name: str, kept: bool) -> RawClient:
    return await (come(plant, client_id=name) if kept else plant.connect(name))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_each_message_goes_to_one_member_in_turn(running: Plant, kept: bool, qos: int) -> None:
    members = [await member(running, f"m{number}", kept) for number in range(3)]
    for each in members:
        await join(each, qos=qos)
    await publish(running, *NAMES, qos=max(qos, 1))
    got = [await take(each, 4) for each in members]
    assert sorted(itertools.chain(*got)) == NAMES
    for each in members:
        assert await each.is_silent()


async def test_quality_0_of_the_publisher_goes_to_one_member(running: Plant) -> None:
    members = [await member(running, f"m{number}", kept=bool(number)) for number in range(2)]
    for each in members:
        await join(each)
    publisher = await running.connect("publisher")
    publisher.send(*(p.Publish(topic="a/b", payload=name) for name in NAMES))
    got = [await take(each, 6) for each in members]
    assert sorted(itertools.chain(*got)) == NAMES


@pytest.mark.parametrize("kept", [False, True])
async def test_what_a_member_did_not_finish_goes_to_another(running: Plant, kept: bool) -> None:
    one, other = await member(running, "one", kept), await member(running, "other", kept)
    await join(one)
    await publish(running, b"1", b"2", topic="a/x")
    assert len([await one.read(p.Publish) for _ in range(2)]) == 2
    await join(other)
    one.send(p.Disconnect(properties=Properties(session_expiry_interval=0) if kept else Properties()))
    assert await take(other, 2) == [b"1", b"2"]


async def test_messages_wait_for_a_kept_member_and_survive_a_restart(running: Plant) -> None:
    for name in ("one", "other"):
        client = await come(running, client_id=name)
        await join(client)
        await go(running, client)
    await publish(running, *NAMES)
    await restart(running)
    one = await come(running, client_id="one", properties=Properties(session_expiry_interval=60, receive_maximum=6))
    got = await take_messages(one, 12)
    assert [each.payload for each in got] == NAMES
    assert got[0].properties.subscription_identifiers == (5,)
    assert await one.is_silent()
    await restart(running)
    assert await (await come(running, client_id="other")).is_silent()


async def test_what_is_on_its_way_comes_again_to_the_same_member(running: Plant) -> None:
    one, other = await come(running, client_id="one"), await come(running, client_id="other")
    await join(one, qos=2)
    await publish(running, b"1", qos=2)
    first = await one.read(p.Publish)
    await join(other, qos=2)
    await go(running, one)
    await restart(running)
    other, one = await come(running, client_id="other"), await come(running, client_id="one")
    again = (await take_messages(one, 1))[0]
    assert (again.packet_id, again.payload, again.duplicate) == (first.packet_id, b"1", True)
    assert await other.is_silent()


async def test_a_full_window_leaves_the_rest_to_others(running: Plant) -> None:
    slow = await running.connect("slow", properties=Properties(receive_maximum=1))
    quick = await running.connect("quick")
    await join(slow)
    await join(quick)
    await publish(running, *NAMES)
    assert len(await take(quick, 11)) == 11
    assert len(await take(slow, 1)) == 1


async def test_a_shared_subscription_is_beside_the_clients_own(running: Plant) -> None:
    client = await come(running)
    await join(client, identifier=1)
    await client.subscribe("a/#", 1)
    await publish(running, b"1")
    got = await take_messages(client, 2)
    assert sorted(each.properties.subscription_identifiers for each in got) == [(), (1,)]


async def test_leaving_ends_it(running: Plant) -> None:
    client = await come(running)
    await join(client)
    client.send(p.Unsubscribe(packet_id=1, filters=("$share/g/a/#",)))
    assert (await client.read(p.Unsuback)).reasons == (Reason.SUCCESS,)
    await publish(running, b"1")
    assert await client.is_silent()
    assert running.statistics["queued"] == 0


@pytest.mark.parametrize("name", ["$share/g", "$share//a", "$share/g/", "$share/+/a", "$share/g#/a", "$share/g/a/#/b"])
async def test_a_wrong_name_is_refused(running: Plant, name: str) -> None:
    client = await running.connect()
    assert (await client.subscribe(name, 1)).reasons == (Reason.TOPIC_FILTER_INVALID,)
