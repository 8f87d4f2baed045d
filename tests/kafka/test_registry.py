"""The registry's life-cycle events, where the log is on Kafka: each once, in order, whenever the server dies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.devices.test_relay import Published, read, relayed
from tests.support.kafka_logs import fresh_prefix

from millstream.clock import SystemClock
from millstream.devices import Change, Definition, Name, Registry, Relay, lifecycle
from millstream.errors import DiskFullError
from millstream.log.kafka import Cluster, KafkaLog

pytestmark = pytest.mark.kafka

CLOCK = SystemClock()
PRESS = Name("press-1")


@pytest.fixture
def cluster(kafka_servers: str) -> Cluster:
    return Cluster(kafka_servers, fresh_prefix(), session_seconds=6.0)


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    registry = await Registry.open("", tmp_path, CLOCK)
    yield registry
    await registry.close()


async def test_events_come_in_order_and_the_next_server_goes_on(cluster: Cluster, registry: Registry) -> None:
    log = await KafkaLog.open(cluster, CLOCK)
    published = Published()
    relay = Relay(registry, log, published, CLOCK)
    await relay.start()
    await registry.put_many([Definition(Name(f"d{n}"), Change()) for n in range(1_500)], by="ann")
    await relay.drain()
    assert [event.data["device"] for event in await read(log)] == [f"d{n}" for n in range(1_500)]
    assert len(published.topics) == 1_500
    await relay.close()
    await log.close()
    await registry.patch(Name("d7"), Change(tags={"a": 1}))
    log = await KafkaLog.open(cluster, CLOCK)
    relay = await relayed(registry, log, CLOCK)
    events = await read(log)
    assert len(events) == 1_501
    assert events[-1].topic == "$devices/d7/updated"
    (tags,) = await read(log, "$twins")
    assert (tags.key, tags.data["patch"]) == ("d7", {"a": 1})
    await relay.close()
    await log.close()


async def test_a_crash_between_log_and_outbox_repeats_nothing(
    cluster: Cluster, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(connection: object, up_to: int) -> None:
        raise DiskFullError("")

    log = await KafkaLog.open(cluster, CLOCK)
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "take_out", crash)
        await registry.put(PRESS, Change())
        relay = Relay(registry, log, Published(), CLOCK)
        await relay.start()
        await relay.close()
    await log.close()
    assert len(await registry.database.read(lambda connection: lifecycle.waiting(connection, "", 0, 9))) == 1
    log = await KafkaLog.open(cluster, CLOCK)
    again = await relayed(registry, log, CLOCK)
    await registry.put(PRESS, Change(tags={"a": 1}))
    await again.drain()
    assert [event.topic for event in await read(log)] == ["$devices/press-1/created", "$devices/press-1/updated"]
    await again.close()
    await log.close()
