"""Topics that are made, and those that are there already."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from tests.kafka.load import messages, wait_for
from tests.support.records import append, contents

from millstream.clock import SystemClock
from millstream.errors import LogError, LogUnavailableError, StreamMismatchError
from millstream.log import StreamSpec
from millstream.log.kafka import Cluster, KafkaLog

pytestmark = pytest.mark.kafka


def config_of(cluster: Cluster, topic: str) -> dict[str, str | None]:
    admin = AdminClient({"bootstrap.servers": cluster.servers})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([resource])[resource].result()
    return {name: entry.value for name, entry in found.items()}


async def test_a_topic_has_the_streams_retention(kafka_log: KafkaLog, cluster: Cluster) -> None:
    spec = StreamSpec("a", partitions=4, retention_age=timedelta(days=8), retention_bytes=400 << 20)
    await kafka_log.create(spec)
    config = config_of(cluster, f"{cluster.prefix}a")
    assert config["retention.ms"] == str(8 * 86_400_000)
    assert config["retention.bytes"] == str(100 << 20)
    assert config["segment.ms"] == str(86_400_000)
    await kafka_log.create(StreamSpec("a", partitions=4))
    wait_for(lambda: config_of(cluster, f"{cluster.prefix}a")["retention.ms"] == "-1")  # the broker hears of it later
    assert config_of(cluster, f"{cluster.prefix}a")["retention.bytes"] == "-1"


async def test_a_topic_that_is_there_is_taken_if_its_partitions_fit(kafka_log: KafkaLog, cluster: Cluster) -> None:
    topic = f"{cluster.prefix}theirs"
    admin = AdminClient({"bootstrap.servers": cluster.servers})
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result()
    with pytest.raises(StreamMismatchError, match="declare it with partitions=3"):
        await kafka_log.create(StreamSpec("theirs", partitions=2))
    await kafka_log.create(StreamSpec("theirs", partitions=3))
    assert config_of(cluster, topic)["max.message.bytes"] == str(8 << 20)
    await append(kafka_log, "theirs", 2, "x" * (2 << 20))
    assert [len(text) for text in await contents(kafka_log, "theirs", 2)] == [2 << 20]


async def test_streams_that_would_share_a_topic_are_refused(kafka_log: KafkaLog) -> None:
    await kafka_log.create(StreamSpec("a b"))
    with pytest.raises(LogError, match="would share the topic"):
        await kafka_log.create(StreamSpec("a_20_b"))


async def test_a_record_that_is_too_large_is_refused_and_what_follows_is_not(kafka_log: KafkaLog) -> None:
    await kafka_log.create(StreamSpec("a", partitions=1))
    with pytest.raises(LogError, match="too large"):
        await append(kafka_log, "a", 0, "small", "x" * (9 << 20))
    await append(kafka_log, "a", 0, "next")
    assert await contents(kafka_log, "a", 0) == ["next"]


async def test_brokers_that_do_not_answer_are_named() -> None:
    with pytest.raises(LogUnavailableError, match=r"no broker answers at 127\.0\.0\.1:1"):
        await KafkaLog.open(Cluster("127.0.0.1:1"), SystemClock())


async def test_two_processes_may_make_the_same_streams_at_the_same_time(kafka_log: KafkaLog, cluster: Cluster) -> None:
    other = await KafkaLog.open(cluster, SystemClock())
    try:
        for number in range(8):
            spec = StreamSpec(f"made-{number}", partitions=2)
            await asyncio.gather(kafka_log.create(spec), other.create(spec))
        written = messages(cluster.servers, kafka_log.names.catalog, 1)
        assert len({message.value() for message in written}) == 8
        spec = StreamSpec("made-0", partitions=2)
        before = await kafka_log.directory.stream(spec.name)
        await kafka_log.drop(spec.name)
        await kafka_log.create(spec)
        assert (await kafka_log.directory.stream(spec.name)).id != before.id
    finally:
        await other.close()
