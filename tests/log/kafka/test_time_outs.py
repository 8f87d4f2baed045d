"""A transaction that the brokers end, because its process was frozen in the middle of it."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Producer
from tests.support.kafka_logs import fresh_prefix
from tests.support.records import WAIT, contents, events, gain

from millstream.clock import SystemClock
from millstream.log import StreamSpec
from millstream.log.kafka import Cluster, KafkaLog
from millstream.log.kafka.admin import Admin
from millstream.log.kafka.producing import Job, Producing

pytestmark = pytest.mark.kafka


async def test_a_transaction_that_was_ended_meanwhile_is_made_again(
    kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(kafka_servers, fresh_prefix(), session_seconds=30.0, options={"transaction.timeout.ms": "1000"})
    produce = Producing._produce
    frozen: list[Job] = []

    def freeze_once(self: Producing, producer: Producer, job: Job) -> None:
        produce(self, producer, job)
        if not frozen and job.appends:
            frozen.append(job)
            producer.flush(WAIT)
            await_abort(cluster)

    log = await KafkaLog.open(cluster, SystemClock())
    await log.create(StreamSpec("a", partitions=1))
    group = await log.join("g", [])
    await gain(group)
    monkeypatch.setattr(Producing, "_produce", freeze_once)
    transaction = group.transaction()
    transaction.append("a", 0, events("x", "y"))
    transaction.count("made", 2)
    await transaction.commit()
    assert frozen
    assert await contents(log, "a") == ["x", "y"]
    assert [dict(status.counts) for status in await log.groups()] == [{"made": 2}]
    await log.close()


def await_abort(cluster: Cluster) -> None:
    """Return when the brokers have ended the open transaction."""
    admin = Admin(cluster)
    place = (f"{cluster.prefix}a", 0)
    deadline = time.monotonic() + WAIT
    while admin.ends([place], committed=True) != admin.ends([place], committed=False):
        assert time.monotonic() < deadline
        time.sleep(0.05)
