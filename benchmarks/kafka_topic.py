"""The broker and the topic of the Kafka benchmark, and what is in it.

The events of a run are written in one transaction of Kafka while everybody who will read them is there already, and
waits. When it is committed, all of them come into sight in the same moment.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.kafka import brokers

from benchmarks.events import Events
from benchmarks.peers import kafka_jars
from benchmarks.process import RunError
from benchmarks.windows_millstream import batches
from millstream.event import to_columns
from millstream.ledger.names import GATEWAY
from millstream.log import Router, StreamSpec
from millstream.log.kafka.record import encode

TOPIC = "telemetry"
GROUP = "averages"
PARTITIONS = 8

_HEAP = ["-Xms512m", "-Xmx512m"]
_WAIT_SECONDS = 120.0
_CALL_SECONDS = 30.0
_POLL_SECONDS = 0.05


@contextmanager
def broker() -> Iterator[str]:
    """The address of a fresh broker, with Java's own choice of compiler and collector."""
    kafka_jars()
    more = {"log.segment.delete.delay.ms": "1000", "transaction.max.timeout.ms": "3600000"}
    with brokers(1, more, java=_HEAP) as (one,):
        yield one.address


class Place:
    """Names of a run's own on the broker, and what the benchmark does there beside reading and writing."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.prefix = f"run-{secrets.token_hex(4)}-"
        self.topic = f"{self.prefix}{TOPIC}"
        self.group = f"{self.prefix}{GROUP}"
        self._admin = AdminClient({"bootstrap.servers": servers})

    def named(self, name: str) -> str:
        """A name of this run's own."""
        return f"{self.prefix}{name}"

    def erase(self) -> None:
        """Delete all topics of the run."""
        topics = [
            name for name in self._admin.list_topics(timeout=_CALL_SECONDS).topics if name.startswith(self.prefix)
        ]
        for deleted in self._admin.delete_topics(topics).values() if topics else ():
            deleted.result()

    def create(self, topic: str) -> None:
        """Make a topic."""
        self._admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result()
        _wait(lambda: topic in self._admin.list_topics(timeout=_CALL_SECONDS).topics, f"topic {topic} is not there")

    def wait_for_members(self, topic: str, count: int) -> None:
        """Return when so many members of the group share all partitions of the topic."""
        _wait(lambda: self._shared(topic) == [PARTITIONS // count] * count, f"nobody shares {topic}")

    def wait_for_positions(self, ends: dict[int, int]) -> float:
        """Return when the group has committed all positions: the time at which it was seen."""
        topics = [TopicPartition(self.topic, number) for number in ends]

        def reached() -> bool:
            with suppress(KafkaException):  # nobody coordinates the group yet
                asked = [ConsumerGroupTopicPartitions(self.group, topics)]
                (group,) = self._admin.list_consumer_group_offsets(asked).values()
                return all(one.offset >= ends[one.partition] for one in group.result().topic_partitions)
            return False

        _wait(reached, "not all events are committed", 600)
        return time.time()

    def _shared(self, topic: str) -> list[int]:
        """How many partitions of the topic each member has."""
        with suppress(KafkaException):  # as above
            (group,) = self._admin.describe_consumer_groups([self.group]).values()
            owned = [member.assignment.topic_partitions for member in group.result().members]
            return [sum(place.topic == topic for place in places) for places in owned]
        return []


class Release:
    """Events that are written, and cannot be read before `commit`."""

    def __init__(self, place: Place, made: Events) -> None:
        self._topic = place.topic
        self.ends: dict[int, int] = dict.fromkeys(range(PARTITIONS), 0)
        """By partition, the offset after the last event."""
        self._producer = Producer(
            {
                "bootstrap.servers": place.servers,
                "transactional.id": place.group,
                "transaction.timeout.ms": 600_000,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._producer.init_transactions(_CALL_SECONDS)
        self._producer.begin_transaction()
        self._write(made)
        if self._producer.flush(_CALL_SECONDS):
            raise RunError("the broker does not take the events")

    def commit(self) -> float:
        """Let them be seen; the time just before."""
        now = time.time()
        self._producer.commit_transaction(_CALL_SECONDS)
        return now

    def _write(self, made: Events) -> None:
        """As records of the gateway."""
        router = Router([StreamSpec(TOPIC, ("site/{site}/{device}/telemetry",), "device", PARTITIONS)])
        for batch in batches(made):
            for _, partition, columns in router.split(to_columns(batch)).appends:
                for key, value, headers in encode(columns, GATEWAY):
                    self._put(partition, key, value, headers)
                self.ends[partition] += columns.num_rows

    def _put(self, partition: int, key: bytes | None, value: bytes, headers: object) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, partition, headers=cast("Any", headers))
                return
            except BufferError:
                self._producer.poll(0.1)


def read_all(servers: str, topic: str) -> Iterator[bytes]:
    """The values of a topic's records, up to its end."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "benchmark", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    ended: set[int] = set()
    while len(ended) < PARTITIONS:
        for message in consumer.consume(1000, 0.2):
            error = message.error()
            if error is None:
                yield message.value() or b""
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition() or 0)
            else:
                raise RunError(f"reading {topic}: {error.str()}")
    consumer.close()


def _wait(condition: Any, complaint: str, seconds: float = _WAIT_SECONDS) -> None:
    deadline = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > deadline:
            raise RunError(f"Kafka: {complaint} after {seconds:g} s")
        time.sleep(_POLL_SECONDS)
