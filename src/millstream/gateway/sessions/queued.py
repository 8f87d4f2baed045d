"""A message in the queue of the sessions that are kept, and its record there.

A record has the topic, as key the client that published it, and as data a byte with QoS and RETAIN as in the first
byte of a PUBLISH, then properties and payload as MQTT 5 writes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from millstream.clock import SECOND, Micros, to_micros
from millstream.event import Event
from millstream.gateway.pubsub.post import Post, encode_post
from millstream.gateway.pubsub.topic_table import Topic
from millstream.mqtt import Message, Properties, Version, topic_key
from millstream.mqtt.properties import Place
from millstream.mqtt.properties import read as read_properties
from millstream.mqtt.properties import write as write_properties
from millstream.mqtt.wire import Reader

_ENTRY_BYTES = 500  # what one costs in memory besides its payload
_FOR = "for"  # the header that names the one session that a message is for


def only_for(headers: Sequence[tuple[str, str]] | None) -> str:
    """The client identifier of the only session that a record is for, by its headers; empty: it is for all."""
    return next((value for name, value in headers or () if name == _FOR), "")


class Queued:
    """`publisher` and `session` (the only one that it is for, if it is) are client identifiers; `offset` and `time`
    are known once it is committed."""

    __slots__ = ("_encoded", "offset", "post", "publisher", "session", "time")

    def __init__(self, post: Post, publisher: str = "", session: str = "") -> None:
        self.post = post
        self.publisher = publisher
        self.session = session
        self.offset = -1
        self.time: Micros = 0
        self._encoded: dict[tuple[Version, int, tuple[int, ...], bool, int], Message] = {}

    @property
    def size(self) -> int:
        """About what it costs in memory."""
        return len(self.post.payload) + _ENTRY_BYTES

    def is_expired(self, now: Micros) -> bool:
        """Whether its publisher does not want it delivered any more (3.3.2.3.3)."""
        lifetime = self.post.carried.message_expiry_interval
        return lifetime is not None and now - self.time >= lifetime * SECOND

    def remaining(self, now: Micros) -> Properties:
        """Its properties, for one who gets it now."""
        its = self.post.carried
        if its.message_expiry_interval is None:
            return its
        left = its.message_expiry_interval - (now - self.time) // SECOND
        return msgspec.structs.replace(its, message_expiry_interval=max(1, left))

    def encode(self, version: Version, qos: int, identifiers: tuple[int, ...], retain: bool, now: Micros) -> Message:
        """Its PUBLISH, which all share that want it in the same form."""
        waited = (now - self.time) // SECOND if self.post.carried.message_expiry_interval is not None else 0
        form = (version, qos, identifiers, retain, waited)
        message = self._encoded.get(form)
        if message is None:
            message = encode_post(self.post, version, qos, identifiers, retain=retain, waited=waited)
            self._encoded[form] = message
        return message

    def event(self) -> Event:
        """Its record."""
        post = self.post
        first = bytes((post.qos << 1 | post.retain,))
        return Event(
            topic=post.topic.name,
            key=self.publisher,
            payload=first + write_properties(post.carried) + post.payload,
            headers={_FOR: self.session} if self.session else {},
        )

    @classmethod
    def of(cls, event: Event) -> Queued:
        """The inverse of `event`, of a record that was read."""
        first, reader = event.payload[0], Reader(event.payload, 1, len(event.payload))
        properties = read_properties(reader, Place.PUBLISH)
        payload = reader.rest()
        topic = Topic(event.topic, topic_key(event.topic))
        post = Post(topic, first >> 1 & 3, payload, payload, properties=properties, retain=bool(first & 1))
        found = cls(post, event.key or "", event.headers.get(_FOR, ""))
        found.offset = event.offset
        found.time = to_micros(event.time) if event.time is not None else 0
        return found
