"""Topics made for streams, checked where they exist, and the catalog's records of them.

Every method blocks, and is called from one thread."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from millstream.errors import LogError, LogUnavailableError, StreamMismatchError
from millstream.log.contract import StreamSpec
from millstream.log.kafka.admin import Admin
from millstream.log.kafka.catalog import Stream, encode_stream
from millstream.log.kafka.cluster import CALL_SECONDS, MAX_RECORD_BYTES, Cluster
from millstream.log.kafka.failure import log_error, reason_of
from millstream.log.kafka.names import Names
from millstream.log.specs import check_same, check_spec

_SLICES = 8  # retention takes about so many parts of what it keeps at a time
_LEAST_SEGMENT, _LARGEST_SEGMENT = 1 << 20, 1 << 30  # bytes; brokers take no smaller ones
_LEAST_SEGMENT_AGE = timedelta(minutes=1)
_STATE_CONFIG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(32 << 20),  # the newest segment is not compacted
    "min.cleanable.dirty.ratio": "0.2",
}


class Streams:
    """Makes and drops them."""

    def __init__(self, cluster: Cluster, names: Names, admin: Admin) -> None:
        self._cluster = cluster
        self._names = names
        self._admin = admin
        self._producer: Producer | None = None

    def close(self) -> None:
        """What is written was flushed."""
        self._producer = None

    @staticmethod
    def make_catalog(admin: Admin, names: Names) -> None:
        """Make the topic that tells which streams there are."""
        if not admin.partitions(names.catalog):
            admin.create(names.catalog, 1, {"cleanup.policy": "compact"})

    def make_state(self, group: str, count: int) -> None:
        """Make the topic of a group's state, with a partition for each number."""
        topic = self._names.state(group)
        there = self._admin.partitions(topic)
        if not there:
            if self._admin.create(topic, count, _STATE_CONFIG):
                return
            there = self._admin.partitions(topic)
        if there < count:
            self._admin.grow(topic, count)

    def create(self, spec: StreamSpec, known: Mapping[str, Stream]) -> int | None:
        """Make a stream, or bring it up to date. The offset of the catalog where that is known; None if nothing was to
        be done."""
        check_spec(spec)
        topic = self._names.topic(spec.name)
        twin = next((name for name in known if name != spec.name and self._names.topic(name) == topic), None)
        if twin is not None:
            raise LogError(
                f"the streams {twin!r} and {spec.name!r} would share the topic {topic!r}; rename one of them"
            )
        stream = known.get(spec.name)
        if stream is None:
            if not self._admin.create(topic, spec.partitions, _config(self._kept(spec))):
                self._adopt(topic, spec)
            # Of two processes that make it at the same time, both have to write down the same.
            return self._write(
                spec.name, encode_stream(Stream(self._admin.identity(topic) or secrets.token_hex(4), spec))
            )
        check_same(stream.spec, spec)
        if stream.spec == spec:
            return None
        self._admin.configure(topic, _retention(self._kept(spec)))
        return self._write(spec.name, encode_stream(Stream(stream.id, spec)))

    def drop(self, name: str) -> int:
        """Drop a stream; see `create` for what is returned."""
        self._admin.delete(self._names.topic(name))
        return self._write(name, None)

    def _kept(self, spec: StreamSpec) -> StreamSpec:
        """With the retention of streams that say none."""
        age = self._cluster.retention_age if spec.retention_age is None else spec.retention_age
        size = self._cluster.retention_bytes if spec.retention_bytes is None else spec.retention_bytes
        return replace(spec, retention_age=age, retention_bytes=size)

    def _adopt(self, topic: str, spec: StreamSpec) -> None:
        """A topic that somebody else has made: its partitions must be those of the stream, its retention stays."""
        there = self._admin.partitions(topic)
        if there != spec.partitions:
            raise StreamMismatchError(
                f"the topic {topic!r} exists with {there} partitions, and stream {spec.name!r} is declared with "
                f"{spec.partitions}; these never change: declare it with partitions={there}, or under another name"
            )
        # An event that its topic refused would be sent again and again, so it must take all that we let in.
        if int(self._admin.property(topic, "max.message.bytes") or 0) < MAX_RECORD_BYTES:
            self._admin.configure(topic, {"max.message.bytes": str(MAX_RECORD_BYTES)})

    def _write(self, name: str, value: bytes | None) -> int:
        if self._producer is None:
            self._producer = Producer(self._cluster.producer(None))
        outcome: list[int | KafkaError] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            outcome.append((message.offset() or 0) + 1 if error is None else error)

        try:
            self._producer.produce(self._names.catalog, value, name.encode(), 0, delivered)
            self._producer.flush(2 * CALL_SECONDS)
        except KafkaException as error:
            raise log_error("writing down a stream", reason_of(error)) from None
        if not outcome:
            raise LogUnavailableError("Kafka: writing down a stream: no answer in time")
        if isinstance(outcome[0], KafkaError):
            raise log_error("writing down a stream", outcome[0])
        return outcome[0]


def _config(spec: StreamSpec) -> dict[str, str]:
    return {"cleanup.policy": "delete", "max.message.bytes": str(MAX_RECORD_BYTES), **_retention(spec)}


def _retention(spec: StreamSpec) -> dict[str, str]:
    """Kafka's limit of size is a partition's, and it drops whole segments, of which the newest stays."""
    config = {"retention.ms": "-1", "retention.bytes": "-1"}
    if spec.retention_age is not None:
        config["retention.ms"] = str(-(-spec.retention_age // timedelta(milliseconds=1)))
        age = max(spec.retention_age / _SLICES, _LEAST_SEGMENT_AGE)
        config["segment.ms"] = str(age // timedelta(milliseconds=1))
    if spec.retention_bytes is not None:
        a_partition = -(-spec.retention_bytes // spec.partitions)
        config["retention.bytes"] = str(a_partition)
        config["segment.bytes"] = str(min(max(a_partition // _SLICES, _LEAST_SEGMENT), _LARGEST_SEGMENT))
    return config
