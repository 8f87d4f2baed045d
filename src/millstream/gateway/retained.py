"""Retained messages: the last one of each topic that was published with RETAIN (3.3.1.3).

They live in memory, in a tree of the topics' levels in which a filter finds what it matches, and as chunks
`retained/PART/TOPIC` of the gateway's state, which commit in the transaction of their events.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import msgspec

from millstream.clock import Micros
from millstream.event import Event
from millstream.gateway.queued import Queued
from millstream.log.contract import MAX_CHUNK_BYTES

_log = logging.getLogger(__name__)

RETAINED = "retained/"
_PART_BYTES = MAX_CHUNK_BYTES - 1024


class _Chunk(msgspec.Struct, array_like=True):
    time: Micros
    publisher: str
    parts: int
    payload: bytes


class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.message: Queued | None = None


class Retained:
    """At most `count` messages of `size` bytes together. One that has no room is not retained, which is told."""

    def __init__(self, count: int, size: int) -> None:
        self._most = count
        self._largest = size
        self._root = _Node()
        self._parts: dict[str, int] = {}  # chunks, by topic
        self._size = 0
        self._is_full = False

    def __len__(self) -> int:
        return len(self._parts)

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
        node = self._root
        for level in topic.split("/"):
            found = node.children.get(level)
            if found is None:
                return None
            node = found
        return node.message

    def match(self, mqtt_filter: str) -> list[Queued]:
        """The messages of all topics that match a filter."""
        levels = mqtt_filter.split("/")
        nodes = [self._root]
        for number, level in enumerate(levels):
            if level == "#":
                hidden = number == 0
                below = [child for node in nodes for child in _children(node, hidden)]
                found = [] if hidden else [node.message for node in nodes]  # "a/#" matches "a" too (4.7.1.2)
                found += [node.message for child in below for node in _walk(child)]
                return [message for message in found if message is not None]
            if level == "+":
                nodes = [child for node in nodes for child in _children(node, number == 0)]
            else:
                nodes = [node.children[level] for node in nodes if level in node.children]
        return [node.message for node in nodes if node.message is not None]

    def _has_room(self, message: Queued, before: Queued | None) -> bool:
        count = len(self._parts) + (before is None)
        size = self._size + message.size - (before.size if before is not None else 0)
        has_room = count <= self._most and size <= self._largest
        if not has_room and not self._is_full:
            _log.warning(
                "a message on topic %r is not retained, because there are %d already, of %d bytes; see settings "
                "'limits.retained' and 'limits.retained_bytes'",
                message.post.topic.name,
                len(self._parts),
                self._size,
            )
        self._is_full = not has_room
        return has_room

    def _keep(self, message: Queued, parts: int) -> None:
        node = self._root
        topic = message.post.topic.name
        for level in topic.split("/"):
            node = node.children.setdefault(level, _Node())
        node.message = message
        self._parts[topic] = parts
        self._size += message.size

    def _forget(self, topic: str) -> None:
        path = [self._root]
        levels = topic.split("/")
        for level in levels:
            child = path[-1].children.get(level)
            if child is None:
                return
            path.append(child)
        gone, path[-1].message = path[-1].message, None
        if gone is not None:
            self._size -= gone.size
            del self._parts[topic]
        for parent, level, node in zip(reversed(path[:-1]), reversed(levels), reversed(path[1:]), strict=True):
            if node.message is not None or node.children:
                break
            del parent.children[level]


def _children(node: _Node, is_root: bool) -> list[_Node]:
    """What a wildcard finds: at the first level no topics that begin with `$` (4.7.2)."""
    return [child for level, child in node.children.items() if not (is_root and level.startswith("$"))]


def _walk(node: _Node) -> Iterator[_Node]:
    nodes = [node]
    while nodes:
        node = nodes.pop()
        yield node
        nodes.extend(node.children.values())


def _chunks(message: Queued) -> dict[str, bytes | None]:
    topic, payload = message.post.topic.name, message.event().payload
    pieces = [payload[start : start + _PART_BYTES] for start in range(0, len(payload), _PART_BYTES)]
    first = msgspec.msgpack.encode(_Chunk(message.time, message.publisher, len(pieces), pieces[0]))
    return {f"{RETAINED}{part}/{topic}": piece for part, piece in enumerate([first, *pieces[1:]])}
