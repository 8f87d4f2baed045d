"""Retained messages: the last one of each topic that was published with RETAIN (3.3.1.3).

They live in memory, and as chunks `retained/PART/TOPIC` of the gateway's state, which commit in the transaction of
their events.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from millstream.clock import Micros
from millstream.event import Event
from millstream.gateway.sessions.queued import Queued
from millstream.log.contract import MAX_CHUNK_BYTES
from millstream.topic import Trie

_log = logging.getLogger(__name__)

RETAINED = "retained/"
_PART_BYTES = MAX_CHUNK_BYTES - 1024


class _Chunk(msgspec.Struct, array_like=True):
    time: Micros
    publisher: str
    parts: int
    payload: bytes


class Retained:
    """At most `count` messages of `size` bytes together. One that has no room is not retained, which is told."""

    def __init__(self, count: int, size: int) -> None:
        self._most = count
        self._largest = size
        self._topics: Trie[str] = Trie()
        self._messages: dict[str, Queued] = {}
        self._parts: dict[str, int] = {}  # chunks, by topic
        self._size = 0
        self._is_full = False

    def __len__(self) -> int:
        return len(self._messages)

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        """Take on what was committed, by name."""
        for name, data in chunks.items():
            number, _, topic = name.removeprefix(RETAINED).partition("/")
            if number != "0":
                continue
            first = msgspec.msgpack.decode(data, type=_Chunk)
            rest = (chunks[f"{RETAINED}{part}/{topic}"] for part in range(1, first.parts))
            payload = first.payload + b"".join(rest)
            message = Queued.of(Event(topic=topic, key=first.publisher, payload=payload))
            message.time = first.time
            self._keep(message, first.parts)

    def apply(self, message: Queued) -> dict[str, bytes | None]:
        """A message with RETAIN has come: it is the topic's now, or (without a payload) the topic has none. What
        changes in the state: chunks by name, None for those to drop."""
        topic = message.post.topic.name
        changes: dict[str, bytes | None] = {}
        before = self.get(topic)
        had = self._parts.get(topic, 0)
        if message.post.payload and self._has_room(message, before):
            changes = _chunks(message)
            self._forget(topic)
            self._keep(message, len(changes))
        else:
            self._forget(topic)
        return {f"{RETAINED}{part}/{topic}": None for part in range(had)} | changes

    def get(self, topic: str) -> Queued | None:
        """A topic's message."""
        return self._messages.get(topic)

    def match(self, mqtt_filter: str) -> list[Queued]:
        """The messages of all topics that match a filter."""
        return [self._messages[topic] for topic in self._topics.matched_by(mqtt_filter)]

    def _has_room(self, message: Queued, before: Queued | None) -> bool:
        count = len(self) + (before is None)
        size = self._size + message.size - (before.size if before is not None else 0)
        has_room = count <= self._most and size <= self._largest
        if not has_room and not self._is_full:
            _log.warning(
                "a message on topic %r is not retained, because there are %d already, of %d bytes; see settings "
                "'limits.retained' and 'limits.retained_bytes'",
                message.post.topic.name,
                len(self),
                self._size,
            )
        self._is_full = not has_room
        return has_room

    def _keep(self, message: Queued, parts: int) -> None:
        topic = message.post.topic.name
        self._topics.add(topic, topic)
        self._messages[topic] = message
        self._parts[topic] = parts
        self._size += message.size

    def _forget(self, topic: str) -> None:
        gone = self._messages.pop(topic, None)
        if gone is not None:
            self._topics.remove(topic, topic)
            self._size -= gone.size
            del self._parts[topic]


def _chunks(message: Queued) -> dict[str, bytes | None]:
    topic, payload = message.post.topic.name, message.event().payload
    pieces = [payload[start : start + _PART_BYTES] for start in range(0, len(payload), _PART_BYTES)]
    first = msgspec.msgpack.encode(_Chunk(message.time, message.publisher, len(pieces), pieces[0]))
    return {f"{RETAINED}{part}/{topic}": piece for part, piece in enumerate([first, *pieces[1:]])}
