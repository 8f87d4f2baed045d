"""Clients that mean harm, or are broken: each costs little, ends in time, and the others do not feel it."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tests.gateway.test_kept_sessions import both_versions, pass_time
from tests.support.gateway import Plant, limits

from millstream.clock import VirtualClock
from millstream.mqtt import Reason, Version, encode
from millstream.mqtt import packet as p

LEVELS = "/".join("x" * 10_000)


async def check_others(plant: Plant) -> None:
    """Somebody else is served."""
    client = await plant.connect("somebody-else")
    await client.subscribe("a/#", 1)
    assert (await client.publish("a/b", b"1")).reason is Reason.SUCCESS
    assert (await client.read(p.Publish)).payload == b"1"
    client.send(p.Disconnect())
    await client.rest()


@both_versions
async def test_a_connect_that_drips_in_is_cut_in_time(running: Plant, version: Version, clock: VirtualClock) -> None:
    client = await running.open(version)
    data = encode(p.Connect(version=version, client_id="slow" * 10), version)
    for byte in data[:9]:
        client.write(bytes((byte,)))
        await client.drain()
        await clock.advance(1)
    await check_others(running)
    client.write(data[9:-1])
    await client.drain()
    await clock.advance(2)
    assert await client.rest_of_bytes_or_reset() == b""
    assert running.statistics["ended"]["unspecified_error"] == 1
    assert running.statistics["connections"] == 0


async def test_connections_that_say_nothing_are_cut_in_time(running: Plant, clock: VirtualClock) -> None:
    silent = [await running.open() for _ in range(300)]
    await check_others(running)
    await pass_time(clock, lambda: running.statistics["ended"].get("unspecified_error") == 300)
    assert 10 < clock.monotonic() < 13
    for client in silent:
        assert await client.rest_of_bytes_or_reset() == b""


async def test_a_peer_that_is_gone_without_a_word_is_found_out(running: Plant, clock: VirtualClock) -> None:
    """It neither reads nor writes, so that not even its DISCONNECT can be delivered."""
    watcher = await running.connect("watcher")
    await watcher.subscribe("gone", 1)
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(peer, running.address)
    connect = p.Connect(
        version=Version.V5, client_id="peer", keep_alive=10, will=p.Will(topic="gone", payload=b"!", qos=1)
    )
    subscribe = p.Subscribe(packet_id=1, subscriptions=(p.Subscription("much", 0),))
    await loop.sock_sendall(peer, encode(connect, Version.V5) + encode(subscribe, Version.V5))
    await running.until(lambda: running.statistics["connections"] == 2)
    publisher = await running.connect("publisher", keep_alive=3_600)
    for number in range(30):
        await publisher.publish("much", bytes(500_000), packet_id=number + 1)
    will: list[p.Publish] = []
    waiting = asyncio.create_task(watcher.read(p.Publish))
    waiting.add_done_callback(lambda done: will.append(done.result()))
    await pass_time(clock, lambda: bool(will))
    assert will[0].payload == b"!"
    assert running.statistics["ended"] == {"keep_alive_timeout": 1}
    await pass_time(clock, lambda: len(running.gateway._mqtt._connections) == 2)  # cut, with all that it did not read
    peer.close()


async def test_a_flood_of_connections(plant: Plant) -> None:
    await plant.start(limits=limits(connections=50))
    regular = await plant.connect("regular")

    async def flood(number: int) -> Reason | None:
        client = await plant.open()
        client.send(p.Connect(version=Version.V5, client_id=f"flood-{number}"))
        try:
            return (await client.read(p.Connack)).reason
        except (AssertionError, ConnectionError):  # beyond even those that are told
            return None

    answers = await asyncio.gather(*map(flood, range(500)))
    assert answers.count(Reason.SUCCESS) == 49
    assert answers.count(Reason.SERVER_BUSY) >= 200
    assert await regular.is_silent(), "who is in stays in"
    again = await plant.connect("regular")
    assert await again.is_silent(), "and comes back in its own place"


async def test_a_bomb_of_subscriptions(plant: Plant) -> None:
    await plant.start(limits=limits(subscriptions=1_000))
    client = await plant.connect("bomb")
    for start in range(0, 5_000, 1_000):
        filters = tuple(p.Subscription(f"+/{number}/#/".rstrip("/"), 2) for number in range(start, start + 1_000))
        client.send(p.Subscribe(packet_id=1, subscriptions=filters))
        reasons = set((await client.read(p.Suback)).reasons)
        assert reasons == {Reason.GRANTED_QOS_2 if start == 0 else Reason.QUOTA_EXCEEDED}
    await check_others(plant)
    too_many = tuple(p.Subscription("a", 0) for _ in range(1_025))
    client.send(p.Subscribe(packet_id=2, subscriptions=too_many))
    (last,) = await client.rest()
    assert isinstance(last, p.Disconnect) and last.reason is Reason.QUOTA_EXCEEDED


async def test_a_topic_of_ten_thousand_levels(running: Plant) -> None:
    client = await running.connect("levels")
    assert (await client.subscribe(LEVELS)).reasons == (Reason.TOPIC_FILTER_INVALID,)
    assert (await client.subscribe(f"{LEVELS}/#")).reasons == (Reason.TOPIC_FILTER_INVALID,)
    client.send(p.Unsubscribe(packet_id=2, filters=(LEVELS,)))
    assert (await client.read(p.Unsuback)).reasons == (Reason.NO_SUBSCRIPTION_EXISTED,)
    client.send(p.Publish(topic=LEVELS, qos=1, packet_id=1))
    (last,) = await client.rest()
    assert isinstance(last, p.Disconnect) and last.reason is Reason.TOPIC_NAME_INVALID
    will = await running.open()
    will.send(p.Connect(version=Version.V5, client_id="will", will=p.Will(topic=LEVELS)))
    assert (await will.read(p.Connack)).reason is Reason.TOPIC_NAME_INVALID
    await check_others(running)


@pytest.mark.parametrize("packet", [p.Auth(), p.Auth(reason=Reason.REAUTHENTICATE)])
async def test_steps_of_an_authentication_that_never_began(running: Plant, packet: p.Auth) -> None:
    client = await running.connect("auth")
    client.send(packet)
    (last,) = await client.rest()
    assert isinstance(last, p.Disconnect) and last.reason is Reason.PROTOCOL_ERROR
