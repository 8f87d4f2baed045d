"""Topic aliases (3.3.2.3.4): a number in the place of a topic, within one connection and one direction."""

from __future__ import annotations

from millstream.mqtt.message import Message
from millstream.mqtt.reason import ProtocolError, Reason, violation
from millstream.mqtt.wire import MAX_VARIABLE, Reader, frame, variable

_PROPERTY = b"\x23"
ALIAS_BYTES = 5  # that an alias adds to a packet at most: the property, and longer lengths before it
_LEAST = 4  # characters of a topic that is worth one: it costs three bytes


class IncomingAliases:
    """Those that a client has given, at most `most`."""

    __slots__ = ("_most", "_topics")

    def __init__(self, most: int) -> None:
        self._most = most
        self._topics: dict[int, str] = {}

    def resolve(self, alias: int, topic: str) -> str:
        """The topic of a PUBLISH with an alias; with a topic as well, the alias stands for that from now on."""
        if alias > self._most:
            raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, f"topic alias {alias}; CONNACK allowed {self._most}")
        if topic:
            self._topics[alias] = topic
        elif alias not in self._topics:
            raise violation(f"topic alias {alias}, which stands for nothing yet")
        return self._topics[alias]


class OutgoingAliases:
    """Those that a client is given: at most `most`, to the first topics that it gets."""

    __slots__ = ("_aliases", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._aliases: dict[bytes, int] = {}

    def apply(self, message: Message) -> Message:
        """The same PUBLISH with an alias, and without its topic if the client knows the alias; or as it is."""
        body = frame(message.head, 0, MAX_VARIABLE)
        assert body is not None
        topic = message.head[body[0] :]
        if len(topic) < _LEAST + 2:
            return message
        alias = self._aliases.get(topic)
        if alias is not None:
            return _with_alias(message, body[1] - body[0], len(topic), b"\0\0", alias)
        if len(self._aliases) == self._most:
            return message
        alias = self._aliases[topic] = len(self._aliases) + 1
        return _with_alias(message, body[1] - body[0], len(topic), topic, alias)


def _with_alias(message: Message, size: int, before: int, topic: bytes, alias: int) -> Message:
    """`size` is the packet's remaining length, of which the topic took `before`."""
    reader = Reader(message.tail, 0, len(message.tail))
    length = reader.variable()
    written = variable(length + 3)
    tail = b"".join((written, _PROPERTY, alias.to_bytes(2, "big"), message.tail[reader.position :]))
    size += len(topic) - before + len(tail) - len(message.tail)
    return Message(message.head[:1] + variable(size) + topic, tail)
