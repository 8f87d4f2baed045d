"""The trace of an event that the gateway refused: when, why, from whom, and how its payload begins."""

from __future__ import annotations

from typing import NamedTuple

from millstream.event import Event
from millstream.ledger.names import REJECTIONS
from millstream.log import StreamSpec

SAMPLES = StreamSpec(REJECTIONS, partitions=1, retention_bytes=16 << 20)
"""The stream of the traces. Its size is bounded, so that nobody fills the disk with rubbish."""

_PAYLOAD_BYTES = 256
_TEXT = 512  # characters of what a client says and is told

_REASON, _TOLD, _CLIENT, _TOPIC = "rejected-reason", "rejected-text", "rejected-client", "rejected-topic"


class Rejection(NamedTuple):
    """A refused event. `text` is what its client was told; `client` its identifier or address, and `topic` the topic
    that it gave, both as far as they are known; `payload` how the payload (of MQTT, the packet) begins."""

    reason: str
    text: str = ""
    client: str = ""
    topic: str = ""
    payload: bytes = b""

    def event(self) -> Event:
        """As it is kept: nothing in it is longer than a few hundred characters."""
        headers = {_REASON: self.reason, _TOLD: self.text, _CLIENT: self.client, _TOPIC: self.topic}
        return Event(
            topic=REJECTIONS,
            key=self.reason,
            payload=self.payload[:_PAYLOAD_BYTES],
            content_type="application/octet-stream",
            headers={name: value[:_TEXT] for name, value in headers.items() if value},
        )

    @classmethod
    def of(cls, event: Event) -> Rejection:
        """The inverse of `event`."""
        reason, text, client, topic = (event.headers.get(name, "") for name in (_REASON, _TOLD, _CLIENT, _TOPIC))
        return cls(reason, text, client, topic, event.payload)
