"""A published event on its way to subscribers, and how MQTT writes it for them."""

from __future__ import annotations

import msgspec

from millstream.gateway.attributes import PLAIN, Attributes, to_properties
from millstream.gateway.pubsub.topic_table import Topic
from millstream.mqtt import Message, Properties, Version, encode_message

_V5 = Version.V5  # slow to look up, for what is looked up with every message


class Post(msgspec.Struct, frozen=True):
    """An event. `publisher` is the connection that it came from. Connections get the `payload` as it was published
    (3.3.3); `data` is what a CloudEvent in it carries, else the same."""

    topic: Topic
    qos: int
    payload: bytes
    data: bytes
    attributes: Attributes = PLAIN
    properties: Properties | None = None
    publisher: object = None
    retain: bool = False

    @property
    def client_id(self) -> str:
        """The client that published it, if one did."""
        return getattr(self.publisher, "client_id", "")

    @property
    def carried(self) -> Properties:
        """What an MQTT 5 subscriber gets beside the payload: the publisher's own properties if it has any (3.3.2.3),
        and what CloudEvents has for the attributes of an event that came otherwise."""
        return self.properties or to_properties(self.attributes)


def encode_post(
    post: Post,
    version: Version,
    qos: int,
    identifiers: tuple[int, ...] = (),
    *,
    retain: bool = False,
    waited: int = 0,
) -> Message:
    """The PUBLISH of an event that has waited for so many seconds (3.3.2.3.3)."""
    if version is not _V5:
        return encode_message(post.topic.encoded, qos, post.payload, version, retain=retain)
    its = post.carried
    if its.message_expiry_interval is not None and waited:
        its = msgspec.structs.replace(its, message_expiry_interval=max(1, its.message_expiry_interval - waited))
    if identifiers:
        its = msgspec.structs.replace(its, subscription_identifiers=identifiers)
    return encode_message(post.topic.encoded, qos, post.payload, version, its, retain=retain)
