"""A group whose position an open transaction is about to move: that is no group without a position.

A member that was killed in the middle of a commit leaves such a transaction behind, until the brokers end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.support.records import WAIT, append, gain

from millstream.clock import SystemClock
from millstream.ledger import equations
from millstream.log import EARLIEST, LATEST, Position, StreamSpec
from millstream.log.kafka import Cluster, KafkaLog

pytestmark = pytest.mark.kafka


@contextmanager
def half_committed(cluster: Cluster, offset: int) -> Iterator[Producer]:
    """A transaction that has moved the position of group `g` in partition 0 of stream `a`, and is still open."""
    consumer = Consumer({"bootstrap.servers": cluster.servers, "group.id": f"{cluster.prefix}g"})
    producer = Producer({"bootstrap.servers": cluster.servers, "transactional.id": f"{cluster.prefix}dead"})
    producer.init_transactions(WAIT)
    producer.begin_transaction()
    place = TopicPartition(f"{cluster.prefix}a", 0, offset)
    producer.send_offsets_to_transaction([place], consumer.consumer_group_metadata(), WAIT)
    yield producer
    consumer.close()


@pytest.mark.parametrize("ends", ["commits", "aborts"])
async def test_a_position_that_is_about_to_move_is_waited_for(kafka_log: KafkaLog, cluster: Cluster, ends: str) -> None:
    await kafka_log.create(StreamSpec("a", partitions=1))
    await append(kafka_log, "a", 0, *"abcdef")
    group = await kafka_log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    transaction = group.transaction()
    transaction.position("a", 0, Position(1))
    await transaction.commit()
    await group.leave()
    with half_committed(cluster, 3) as producer:
        joining = asyncio.ensure_future(kafka_log.join("g", ["a"], start=LATEST))
        assert not (await asyncio.wait([joining], timeout=0.5))[0]
        await asyncio.to_thread(producer.commit_transaction if ends == "commits" else producer.abort_transaction)
        again = await asyncio.wait_for(joining, WAIT)
    assert await gain(again) == {0: {"a": Position(3 if ends == "commits" else 1)}}


async def test_a_first_position_that_is_about_to_be_given_is_not_given_again(
    kafka_log: KafkaLog, cluster: Cluster
) -> None:
    await kafka_log.create(StreamSpec("a", partitions=1))
    await append(kafka_log, "a", 0, *"abcdef")
    with half_committed(cluster, 2) as producer:
        joining = asyncio.ensure_future(kafka_log.join("g", ["a"], start=LATEST))
        assert not (await asyncio.wait([joining], timeout=0.5))[0]
        await asyncio.to_thread(producer.commit_transaction)
        group = await asyncio.wait_for(joining, WAIT)
    assert await gain(group) == {0: {"a": Position(2)}}


async def test_what_is_half_committed_is_counted_in_neither_place(kafka_log: KafkaLog, cluster: Cluster) -> None:
    await kafka_log.create(StreamSpec("a", partitions=1))
    await append(kafka_log, "a", 0, *"abcdef")
    group = await kafka_log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    transaction = group.transaction()
    transaction.position("a", 0, Position(1))
    await transaction.commit()
    await group.leave()
    with half_committed(cluster, 3) as producer:
        producer.produce(f"{cluster.prefix}a", b"made of b and c", headers=[("millstream-group", b"g")])
        producer.flush()
        (status,) = await kafka_log.groups()
        assert status.positions == {("a", 0): Position(1)}
        looking = asyncio.ensure_future(kafka_log.accounts())
        assert not (await asyncio.wait([looking], timeout=0.5))[0]
        await asyncio.to_thread(producer.commit_transaction)
        accounts = await asyncio.wait_for(looking, WAIT)
    assert accounts.streams["a"].sources == {"": 6, "g": 1}
    assert accounts.groups["g"].read == {"a": 3}


async def test_what_is_gone_is_counted_by_its_offsets(kafka_log: KafkaLog, cluster: Cluster) -> None:
    await kafka_log.create(StreamSpec("a", partitions=1))
    await append(kafka_log, "a", 0, *"abcdef")
    await kafka_log.join("g", ["a"], start=EARLIEST)
    before = (await kafka_log.accounts()).streams["a"]
    assert (before.events, before.dropped, before.unknown) == (6, 0, 0)
    admin = AdminClient({"bootstrap.servers": cluster.servers})
    place = TopicPartition(f"{cluster.prefix}a", 0, 4)
    admin.delete_records([place])[place].result()
    seen = await kafka_log.accounts()
    assert (seen.streams["a"].events, seen.streams["a"].dropped, seen.streams["a"].unknown) == (6, 4, 0)
    assert seen.groups["g"].expired == 4
    other = await KafkaLog.open(cluster, SystemClock())
    unseen = await other.accounts()
    assert (unseen.streams["a"].events, unseen.streams["a"].dropped, unseen.streams["a"].unknown) == (6, 4, 4)
    assert unseen.groups["g"].expired == 4
    assert all(equation.holds for equation in equations(unseen))
    await other.close()
