"""The streams there are, in a compacted topic of one partition: a record a stream, its name as the key.

Kafka's own topics know neither filters nor keys, and tell nobody that they have changed. Every process follows this
topic from its beginning, so that all see the same streams, in the same order of changes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from millstream.errors import LogError
from millstream.log.contract import StreamSpec
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.failure import reason_of
from millstream.log.specs import unknown_stream

_POLL_SECONDS = 0.2
_ASK_SECONDS = 2.0  # between questions whether the brokers are there
_ANSWER_SECONDS = 5.0  # for an answer

_log = logging.getLogger(__name__)


class Stream(msgspec.Struct, frozen=True):
    """A stream; `id` tells one that is made again from the one before."""

    id: str
    spec: StreamSpec


class Catalog:
    """Follows the topic in a thread. `changed` is called from the event loop after every change, and `answered` every
    few seconds: with None, or with why the brokers do not answer."""

    def __init__(
        self, cluster: Cluster, topic: str, changed: Callable[[], None], answered: Callable[[str | None], None]
    ) -> None:
        self.streams: Mapping[str, Stream] = {}
        self._changed = changed
        self._answered = answered
        self._topic = topic
        self._cluster = cluster
        self._loop = asyncio.get_running_loop()
        self._reached = 0
        self._moved = asyncio.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kafka-catalog", daemon=True)
        self._thread.start()

    @property
    def specs(self) -> dict[str, StreamSpec]:
        return {name: stream.spec for name, stream in self.streams.items()}

    def stream(self, name: str) -> Stream:
        """`UnknownStreamError` if there is none of that name."""
        try:
            return self.streams[name]
        except KeyError:
            raise unknown_stream(name, self.streams) from None

    async def reach(self, offset: int) -> None:
        """Return when everything before an offset of the topic is known."""
        while self._reached < offset:
            self._moved.clear()
            await self._moved.wait()

    async def close(self) -> None:
        """Follow no more. Idempotent."""
        self._closing.set()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _take(self, messages: list[tuple[str, bytes | None]], reached: int) -> None:
        """In the event loop."""
        streams = dict(self.streams)
        for name, value in messages:
            if value is None:
                streams.pop(name, None)
            else:
                streams[name] = msgspec.json.decode(value, type=Stream)
        self._reached = max(self._reached, reached)
        self._moved.set()
        if streams != self.streams:
            self.streams = dict(sorted(streams.items()))
            self._changed()

    def _follow(self) -> None:
        consumer = Consumer(self._cluster.reader(fetch_wait_ms=500))
        try:
            consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
            asked = time.monotonic()
            while not self._closing.is_set():
                first = consumer.poll(_POLL_SECONDS)
                if first is not None:
                    self._tell([first, *consumer.consume(1000, 0)])
                if time.monotonic() - asked >= _ASK_SECONDS:
                    self._ask(consumer)
                    asked = time.monotonic()
        finally:
            consumer.close()

    def _ask(self, consumer: Consumer) -> None:
        """Whether somebody answers, also where nothing is read or written."""
        reason = None
        try:
            consumer.get_watermark_offsets(TopicPartition(self._topic, 0), _ANSWER_SECONDS, cached=False)
        except KafkaException as error:
            if reason_of(error).code() < 0:  # of the client; those of brokers are above, and are an answer
                reason = f"Kafka: the brokers do not answer ({reason_of(error).str()})"
        self._loop.call_soon_threadsafe(self._answered, reason)

    def _tell(self, messages: list[Message]) -> None:
        found: list[tuple[str, bytes | None]] = []
        reached = 0
        for message in messages:
            error = message.error()
            if error is None:
                found.append((_bytes(message.key()).decode(), message.value()))
                reached = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                reached = message.offset() or 0
            else:
                _log.warning("following the streams: %s", error.str())
        self._loop.call_soon_threadsafe(self._take, found, reached)


def encode_stream(stream: Stream) -> bytes:
    """The value of a stream's record."""
    return msgspec.json.encode(stream)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise LogError("a record of the catalog has no key; the topic is not ours")
    return value
