"""The packets of MQTT 3.1.1 and 5 as values. Both versions share them: 3.1.1 leaves the properties empty, and its
CONNACK and SUBACK codes are given as the reason codes of MQTT 5 that say the same."""

from __future__ import annotations

import enum

import msgspec

from millstream.mqtt.properties import NOTHING, Properties
from millstream.mqtt.reason import Reason


class Version(enum.IntEnum):
    """The protocol level that CONNECT carries (3.1.2.2)."""

    V3_1_1 = 4
    V5 = 5


class Will(msgspec.Struct, frozen=True, kw_only=True):
    """What the server publishes when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    properties: Properties = NOTHING


class Connect(msgspec.Struct, frozen=True, kw_only=True):
    version: Version = Version.V3_1_1
    client_id: str = ""
    clean_start: bool = True
    keep_alive: int = 0  # seconds; 0: none
    user_name: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = NOTHING


class Connack(msgspec.Struct, frozen=True, kw_only=True):
    reason: Reason = Reason.SUCCESS
    session_present: bool = False
    properties: Properties = NOTHING


class Publish(msgspec.Struct, frozen=True, kw_only=True):
    topic: str
    payload: bytes = b""
    qos: int = 0
    packet_id: int = 0  # 0 exactly for QoS 0
    retain: bool = False
    duplicate: bool = False
    properties: Properties = NOTHING


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    packet_id: int
    reason: Reason = Reason.SUCCESS
    properties: Properties = NOTHING


class Puback(_Answer, frozen=True, kw_only=True):
    """The answer to a PUBLISH of QoS 1."""


class Pubrec(_Answer, frozen=True, kw_only=True):
    """The first answer to a PUBLISH of QoS 2."""


class Pubrel(_Answer, frozen=True, kw_only=True):
    """The answer to a PUBREC."""


class Pubcomp(_Answer, frozen=True, kw_only=True):
    """The answer to a PUBREL."""


class Subscription(msgspec.Struct, frozen=True):
    """A filter with its options (3.8.3.1); `retain_handling` 0: send retained messages, 1: if new, 2: never."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0

    def wants_retained(self, is_new: bool) -> bool:
        """Whether the retained messages are to be sent now."""
        return self.retain_handling == 0 or (self.retain_handling == 1 and is_new)


class Subscribe(msgspec.Struct, frozen=True, kw_only=True):
    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = NOTHING


class Suback(msgspec.Struct, frozen=True, kw_only=True):
    packet_id: int
    reasons: tuple[Reason, ...]
    properties: Properties = NOTHING


class Unsubscribe(msgspec.Struct, frozen=True, kw_only=True):
    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = NOTHING


class Unsuback(msgspec.Struct, frozen=True, kw_only=True):
    packet_id: int
    reasons: tuple[Reason, ...] = ()  # 3.1.1 has none
    properties: Properties = NOTHING


class Pingreq(msgspec.Struct, frozen=True):
    """Are you there?"""


class Pingresp(msgspec.Struct, frozen=True):
    """I am."""


class Disconnect(msgspec.Struct, frozen=True, kw_only=True):
    reason: Reason = Reason.SUCCESS
    properties: Properties = NOTHING


class Auth(msgspec.Struct, frozen=True, kw_only=True):
    reason: Reason = Reason.SUCCESS
    properties: Properties = NOTHING


Packet = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
