"""Reading any place of a topic: where it begins and ends, what stands there.

Every method blocks, and is called from one thread. What is not committed is not seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from millstream.clock import Micros
from millstream.errors import LogUnavailableError
from millstream.log.contract import Bounds
from millstream.log.kafka.cluster import CALL_SECONDS, Cluster
from millstream.log.kafka.failure import GONE, MOVING, log_error, reason_of

T = TypeVar("T")

_FETCH_WAIT_MS = 5  # who reads wants what is there
_MARKER_SECONDS = 0.002  # between looks for the end of a transaction
_MOVING_SECONDS = 0.1  # between looks for a new leader
_AT_ONCE = 1000  # messages from the client's queue
_OVERHEAD = 100  # bytes that a record counts beside its payload
_STEPS = (4, 64, 4096)  # how far back a last record is looked for, behind markers of transactions


class Reader:
    """Over one consumer."""

    def __init__(self, cluster: Cluster) -> None:
        self._consumer = Consumer(cluster.reader(_FETCH_WAIT_MS))
        self._times: dict[tuple[str, int, int], Micros] = {}
        self.written: dict[tuple[str, int], int] = {}
        """Places up to which this process has committed: a commit is over before all partitions know of it, and whoever
        has made it is to find it."""

    def close(self) -> None:
        self._consumer.close()

    def range(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset, and the one after everything that is committed."""
        place = TopicPartition(topic, partition)
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            try:
                low, high = self._consumer.get_watermark_offsets(place, CALL_SECONDS, cached=False)
            except KafkaException as error:
                reason = reason_of(error)
                if reason.code() not in MOVING:
                    raise log_error(f"reading {topic!r}", reason) from None
                if time.monotonic() >= deadline:
                    raise LogUnavailableError(f"Kafka: reading {topic!r}: nobody leads it ({reason.str()})") from None
                time.sleep(_MOVING_SECONDS)
                continue
            if high >= self.written.get((topic, partition), 0) or time.monotonic() >= deadline:
                return low, high
            time.sleep(_MARKER_SECONDS)

    def bounds(self, topic: str, partition: int) -> Bounds:
        """See the contract. Ticks and the markers of transactions are counted as events."""
        low, high = self.range(topic, partition)
        first, last = self._time_from(topic, partition, low, high), self._last_time(topic, partition, low, high)
        return Bounds(low, high, high - low, first, last) if last is not None else Bounds(high, high)

    def offset_at(self, topic: str, partition: int, at: Micros) -> int:
        """See the contract."""
        millis = max(0, -(-at // 1000))
        asked = [TopicPartition(topic, partition, millis)]
        found = self._call(topic, lambda: self._consumer.offsets_for_times(asked, CALL_SECONDS))[0]
        if found.error is not None:
            raise log_error(f"reading {topic!r}", found.error)
        _, high = self.range(topic, partition)
        return found.offset if 0 <= found.offset <= high else high

    def read(self, topic: str, partition: int, offset: int, limit_bytes: int) -> tuple[list[Message], int]:
        """Messages from an offset on, about `limit_bytes` of payload (at least one if there is any), and where to read
        on."""
        low, high = self.range(topic, partition)
        start = max(offset, low)
        if start >= high:
            return [], offset
        return self._read(topic, partition, start, high, limit_bytes)

    def until(
        self, topic: str, partition: int, start: int, end: int, limit_bytes: int = 1 << 62
    ) -> tuple[list[Message], int]:
        """Messages from `start` to before `end`, and where to read on. What lies behind transactions that have not
        ended yet is waited for."""
        low, _ = self.range(topic, partition)  # after which the client knows who leads it, and reads at once
        messages, next_offset = self._read(topic, partition, max(start, low), end, limit_bytes)
        return [message for message in messages if (message.offset() or 0) < end], min(next_offset, end)

    def everything(self, topic: str, partition: int, end: int) -> list[Message]:
        """Every message before `end`, see `until`."""
        messages: list[Message] = []
        start = 0
        while start < end:
            found, start = self.until(topic, partition, start, end)
            messages += found
        return messages

    def _read(self, topic: str, partition: int, start: int, high: int, limit_bytes: int) -> tuple[list[Message], int]:
        consumer = self._consumer
        consumer.assign([TopicPartition(topic, partition, start)])
        messages: list[Message] = []
        next_offset, size = start, 0
        deadline = time.monotonic() + CALL_SECONDS
        try:
            while next_offset < high and size < limit_bytes:
                first = self._call(topic, lambda: consumer.poll(0.5))
                if first is None:
                    if time.monotonic() >= deadline:
                        raise LogUnavailableError(f"Kafka: reading {topic!r}: no answer in {CALL_SECONDS:g} s")
                    continue
                for message in (first, *consumer.consume(min(_AT_ONCE, 1 + limit_bytes // _OVERHEAD), 0)):
                    error = message.error()
                    if error is None:
                        if size < limit_bytes and (offset := message.offset() or 0) >= next_offset:
                            messages.append(message)
                            next_offset = offset + 1
                            size += len(message.value() or b"") + _OVERHEAD
                    elif error.code() == KafkaError._PARTITION_EOF:
                        if size < limit_bytes:
                            next_offset = max(next_offset, message.offset() or 0)
                    elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                        return messages, max(next_offset, self.range(topic, partition)[0])
                    elif error.code() in GONE or error.fatal():
                        raise log_error(f"reading {topic!r}", error)
        finally:
            consumer.unassign()
        return messages, next_offset

    def _time_from(self, topic: str, partition: int, start: int, high: int) -> Micros | None:
        """The time of the first record at or after `start`."""
        if start >= high:
            return None
        known = self._times.get((topic, partition, start))
        if known is not None:
            return known
        messages, _ = self._read(topic, partition, start, high, 1)
        return self._note(topic, partition, start, messages[0]) if messages else None

    def _last_time(self, topic: str, partition: int, low: int, high: int) -> Micros | None:
        if low >= high:
            return None
        known = self._times.get((topic, partition, -high))
        if known is not None:
            return known
        for step in (*_STEPS, high - low):
            messages, _ = self._read(topic, partition, max(low, high - step), high, 1 << 62)
            if messages:
                return self._note(topic, partition, -high, messages[-1])
        return None

    def _note(self, topic: str, partition: int, key: int, message: Message) -> Micros:
        if len(self._times) > 10_000:
            self._times.clear()
        time_of = self._times[topic, partition, key] = max(message.timestamp()[1], 0) * 1000
        return time_of

    def _call(self, topic: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except KafkaException as error:
            raise log_error(f"reading {topic!r}", reason_of(error)) from None
