"""What holds between arrival and commit: bounds, a full disk, a broken one, duplicates, and a stop in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.support.gateway import Plant, limits
from tests.support.mqtt import PATIENCE, RawClient

from millstream.clock import VirtualClock
from millstream.errors import DiskFaultError, DiskFullError, FencedError, MillstreamError
from millstream.gateway.listeners.connection import Connection
from millstream.ledger.names import GATEWAY
from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog
from millstream.mqtt import Properties, Reason, Version
from millstream.mqtt import packet as p
from millstream.settings import LogSettings
from millstream.testing.rest import rest

T = TypeVar("T")


def with_id(event_id: str) -> Properties:
    return Properties(user_properties=(("id", event_id),))


async def test_what_arrives_while_a_commit_runs_is_one_commit(running: Plant) -> None:
    client = await running.connect()
    running.log.gate.clear()
    client.send(p.Publish(topic="a", qos=1, packet_id=1))
    await running.log.waiting.wait()
    client.send(*(p.Publish(topic="a", qos=1, packet_id=number) for number in range(2, 102)))
    assert await client.is_silent()
    assert running.statistics["pending"] == 101
    running.log.gate.set()
    for _ in range(101):
        await client.read(p.Puback)
    assert running.statistics["commits"] == 2


async def test_acknowledgements_of_a_commit_are_one_write_for_each_connection(
    running: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    tell = Connection._tell

    def telling(connection: Connection, packets: bytes) -> None:
        written.append(packets)
        tell(connection, packets)

    monkeypatch.setattr(Connection, "_tell", telling)
    clients = [await running.connect(str(number)) for number in range(2)]
    running.log.gate.clear()
    clients[0].send(p.Publish(topic="a", qos=1, packet_id=1))
    await running.log.waiting.wait()
    for number in range(2, 5):  # each is a read of its own
        for client in clients:
            client.send(p.Publish(topic="a", qos=1, packet_id=number))
            assert await client.is_silent()
    running.log.gate.set()
    for client, first in zip(clients, (1, 2), strict=True):
        assert await _acknowledged(client, 5 - first) == list(range(first, 5))
    assert len(written) == 3


async def test_above_the_bound_nothing_is_read_until_there_is_room(plant: Plant) -> None:
    await plant.start(limits=limits(pending_bytes=100_000))
    clients = [await plant.connect(str(number)) for number in range(3)]
    plant.log.gate.clear()
    clients[0].send(p.Publish(topic="a", payload=b"0", qos=1, packet_id=1))
    await plant.log.waiting.wait()
    sending = [asyncio.create_task(_publish_much(client)) for client in clients]
    await plant.until(lambda: plant.statistics["pending_bytes"] > 100_000)
    before = plant.statistics["received"]
    late = await plant.open()  # new connections wait as well
    late.send(p.Connect(version=Version.V5, client_id="late"), p.Publish(topic="a", qos=1, packet_id=1))
    await rest()
    assert plant.statistics["received"] == before
    assert plant.statistics["pending_bytes"] < 100_000 + 2 * 262_144, "no more than one read beyond the bound"
    assert not any(task.done() for task in sending)
    plant.log.gate.set()
    await asyncio.gather(*sending)
    await late.read(p.Connack)
    await late.read(p.Puback)
    assert plant.statistics["pending_bytes"] == 0
    assert plant.statistics["committed"] == 2 + 3 * 100


async def _publish_much(client: RawClient, count: int = 100, size: int = 50_000) -> None:
    for number in range(count):
        client.send(p.Publish(topic="a", payload=bytes(size), qos=1, packet_id=100 + number))
        await client.drain()
    got = 0
    while got < count:
        got += (await client.read(p.Puback)).packet_id >= 100


async def test_a_full_disk_delays_acknowledgements_and_loses_nothing(running: Plant) -> None:
    client = await running.connect(keep_alive=0)
    running.log.errors += [DiskFullError("the disk is full"), DiskFullError("the disk is full")]
    client.send(p.Publish(topic="a", payload=b"1", qos=1, packet_id=1, properties=with_id("x")))
    await running.until(lambda: running.gateway.unready() is not None)
    assert running.gateway.unready() == "the disk is full"
    client.send(p.Publish(topic="a", payload=b"2", qos=1, packet_id=2))
    assert await client.is_silent()
    await running.clock.advance(1)
    assert [(await client.read(p.Puback)).packet_id for _ in range(2)] == [1, 2]
    assert await running.payloads("events") == [b"1", b"2"]
    assert running.gateway.unready() is None


async def test_a_broken_disk_ends_everything_without_an_acknowledgement(running: Plant) -> None:
    client, other = await running.connect(), await running.connect("other")
    running.log.errors.append(DiskFaultError("fsync failed"))
    client.send(p.Publish(topic="a", payload=b"1", qos=1, packet_id=1))
    with pytest.raises(DiskFaultError, match="fsync failed"):
        await asyncio.wait_for(running.gateway.wait(), PATIENCE)
    assert await client.rest_of_bytes_or_reset() == b""
    assert await other.rest_of_bytes_or_reset() == b""
    assert running.gateway.unready() == "the gateway is not running"
    with pytest.raises(ConnectionRefusedError):
        await running.open()


async def test_a_membership_that_has_ended_delays_acknowledgements_and_ends_no_connection(running: Plant) -> None:
    client = await running.connect(keep_alive=0)
    client.send(p.Publish(topic="a", payload=b"1", qos=1, packet_id=1, properties=with_id("x")))
    assert (await client.read(p.Puback)).packet_id == 1
    running.log.errors += [FencedError("gone to another member"), FencedError("gone to another member")]
    client.send(p.Publish(topic="a", payload=b"1", qos=1, packet_id=2, properties=with_id("x")))
    client.send(p.Publish(topic="a", payload=b"2", qos=1, packet_id=3))
    assert await client.is_silent()
    assert await passing(running, _acknowledged(client, 2)) == [2, 3]
    assert await running.payloads("events") == [b"1", b"2"]


@pytest.mark.parametrize("first", [True, False], ids=["before the first commit", "after commits"])
async def test_a_gateway_ends_when_another_one_has_committed_since(running: Plant, first: bool) -> None:
    client = await running.connect()
    if not first:
        client.send(p.Publish(topic="a", payload=b"1", qos=1, packet_id=1))
        assert (await client.read(p.Puback)).packet_id == 1
    another = running.log.members[GATEWAY].transaction()  # of the same log, in the same group
    another.save(0, "owner", b"another")
    await another.commit()
    running.log.errors.append(FencedError("gone to another member"))
    client.send(p.Publish(topic="a", payload=b"2", qos=1, packet_id=2))
    with pytest.raises(FencedError, match="another gateway has taken over"):
        await passing(running, running.gateway.wait())
    assert await client.rest_of_bytes_or_reset() == b""


async def _acknowledged(client: RawClient, count: int) -> list[int]:
    return [(await client.read(p.Puback)).packet_id for _ in range(count)]


async def passing(running: Plant, what: Coroutine[Any, Any, T]) -> T:
    """Let seconds pass until something has happened."""
    async with asyncio.timeout(PATIENCE):
        happening = asyncio.ensure_future(what)
        while not happening.done():
            await running.clock.advance(1)
        return await happening


async def test_a_stop_commits_and_acknowledges_what_is_under_way(running: Plant) -> None:
    client, old = await running.connect(), await running.connect("old", Version.V3_1_1)
    running.log.gate.clear()
    client.send(p.Publish(topic="a", payload=b"1", qos=1, packet_id=1))
    await running.log.waiting.wait()
    client.send(p.Publish(topic="a", payload=b"2", qos=1, packet_id=2))
    assert await client.is_silent()
    stopping = asyncio.create_task(running.gateway.stop())
    await asyncio.sleep(0)
    running.log.gate.set()
    packets = await client.rest()
    assert [getattr(each, "packet_id", None) for each in packets[:-1]] == [1, 2]
    assert isinstance(packets[-1], p.Disconnect)
    assert packets[-1].reason is Reason.SERVER_SHUTTING_DOWN
    assert await old.rest() == []
    await stopping
    await running.gateway.wait()
    assert await running.payloads("events") == [b"1", b"2"]


async def test_a_stop_does_not_wait_for_a_log_that_hangs(running: Plant) -> None:
    client = await running.connect()
    running.log.gate.clear()
    client.send(p.Publish(topic="a", payload=b"1", qos=1, packet_id=1))
    await running.log.waiting.wait()
    stopping = asyncio.create_task(running.gateway.stop())
    while not stopping.done():
        await running.clock.advance(1)
    packets = await client.rest()
    assert [type(each) for each in packets] == [p.Disconnect], "no acknowledgement"


async def test_an_id_is_kept_once_and_acknowledged_every_time(running: Plant) -> None:
    client, watcher = await running.connect(), await running.connect("watcher")
    await watcher.subscribe("#")
    for number in range(3):
        await client.publish("a", b"same", 1 + number, properties=with_id("x"))
    await client.publish("a", b"other id", properties=with_id("y"))
    await client.publish("b", b"other topic", properties=with_id("x"))
    assert await running.payloads("events") == [b"other id", b"other topic", b"same"]
    assert running.statistics["duplicates"] == 2
    assert running.statistics["committed"] == 3
    assert [(await watcher.read(p.Publish)).payload for _ in range(3)] == [b"same", b"other id", b"other topic"]


async def test_a_duplicate_of_what_is_not_committed_yet_waits_for_that_commit(running: Plant) -> None:
    one, two = await running.connect("one"), await running.connect("two")
    running.log.gate.clear()
    for client in (one, one, two):
        client.send(p.Publish(topic="a", payload=b"same", qos=1, packet_id=1, properties=with_id("x")))
    await running.log.waiting.wait()
    two.send(p.Publish(topic="a", payload=b"same", qos=1, packet_id=2, properties=with_id("x")))
    assert await one.is_silent()
    assert await two.is_silent()
    running.log.gate.set()
    assert [(await two.read(p.Puback)).packet_id for _ in range(2)] == [1, 2]
    assert [(await one.read(p.Puback)).packet_id for _ in range(2)] == [1, 1]
    assert await running.payloads("events") == [b"same"]


async def test_an_id_is_forgotten_after_its_window(plant: Plant) -> None:
    await plant.start(log=LogSettings(deduplication_window=timedelta(seconds=60)))
    client = await plant.connect(keep_alive=0)
    await client.publish("a", b"1", properties=with_id("x"))
    await plant.clock.advance(59)
    await client.publish("a", b"2", properties=with_id("x"))
    await plant.clock.advance(30)
    await client.publish("a", b"3", properties=with_id("x"))
    assert await plant.payloads("events") == [b"1", b"3"]


async def test_a_full_disk_does_not_make_an_event_its_own_duplicate(running: Plant) -> None:
    client = await running.connect()
    running.log.errors.append(DiskFullError("the disk is full"))
    client.send(p.Publish(topic="a", payload=b"1", qos=1, packet_id=1, properties=with_id("x")))
    await running.until(lambda: running.gateway.unready() is not None)
    await running.clock.advance(1)
    await client.read(p.Puback)
    await client.publish("a", b"again", properties=with_id("x"))
    assert await running.payloads("events") == [b"1"]


async def test_ids_survive_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    settings = LogSettings()
    for attempt in range(3):
        log = await SqliteLog.open(tmp_path, settings, clock)
        await log.create(StreamSpec("events", ("#",)))
        plant = Plant(log, clock)
        await plant.start()
        client = await plant.connect(keep_alive=0)
        await client.publish("a", str(attempt).encode(), properties=with_id("x"))
        await client.publish("a", b"new", properties=with_id(f"new {attempt}"))
        assert plant.statistics["duplicates"] == bool(attempt)
        assert await plant.payloads("events") == [b"0", *[b"new"] * (attempt + 1)]
        await plant.stop()
        await log.close()


async def test_what_no_stream_captures_has_no_duplicates(running: Plant) -> None:
    client = await running.connect()
    await client.subscribe("$news")
    for payload in (b"1", b"2"):
        await client.publish_and_forget("$news", payload, properties=with_id("x"))
        assert (await client.read(p.Publish)).payload == payload
    assert running.statistics["transient"] == 2


async def test_a_key_of_its_own_chooses_the_partition_where_the_stream_has_no_key(running: Plant) -> None:
    client = await running.connect()
    for key in ("k1", "k2", "k1"):
        its = Properties(user_properties=(("partitionkey", key),))
        await client.publish("site/a/press-1/telemetry", key.encode(), properties=its)
    events = await running.read("events")
    assert {event.key for event in events} == {"k1", "k2"}
    assert len({(event.key, event.partition) for event in events}) == 2
    assert {event.key for event in await running.read("telemetry")} == {"press-1"}


async def test_another_gateway_cannot_be_started_for_nobody(plant: Plant) -> None:
    with pytest.raises(MillstreamError, match=r"millstream password.*--allow-anonymous"):
        await plant.start(allow_anonymous=False)


async def test_a_full_table_of_topics_begins_anew(running: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.gateway.pubsub.topic_table._TOPICS", 5)
    client, watcher = await running.connect(), await running.connect("watcher")
    await watcher.subscribe("#")
    for number in range(40):
        await client.publish(f"site/a/d{number % 13}/telemetry", str(number).encode())
        assert (await watcher.read(p.Publish)).topic == f"site/a/d{number % 13}/telemetry"
        watcher.send(p.Puback(packet_id=number + 1))
    for event in await running.read("telemetry"):
        assert event.key == f"d{int(event.payload) % 13}"
    assert running.statistics["committed"] == 40
