"""Packets to bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from millstream.mqtt import properties
from millstream.mqtt.decode import CONNACK_3_1_1
from millstream.mqtt.message import Message
from millstream.mqtt.packet import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Version,
    Will,
)
from millstream.mqtt.properties import NOTHING, Properties
from millstream.mqtt.reason import Reason
from millstream.mqtt.wire import binary, text, variable

# For what is encoded with every message.
_V5 = Version.V5
_PUBLISH = [bytes((0x30 | flags,)) for flags in range(6)]  # by QoS and RETAIN
_SHORT = [variable(length) for length in range(128)]
_NO_PROPERTIES = properties.write(NOTHING)


def encode(packet: Packet, version: Version = Version.V3_1_1) -> bytes:
    """The packet's bytes as `version` writes them (a CONNECT says its own). What 3.1.1 has no place for (properties,
    most reason codes) is left out. A field that does not fit MQTT's lengths is a `ValueError`."""
    first, write = _WRITERS[type(packet)]
    body = write(packet, version)
    if isinstance(packet, Publish):
        first |= packet.duplicate << 3 | packet.qos << 1 | packet.retain
    return bytes((first,)) + variable(len(body)) + body


def encode_message(
    topic: bytes, qos: int, payload: bytes, version: Version, its: Properties = NOTHING, *, retain: bool = False
) -> Message:
    """A PUBLISH for many subscribers. `topic` is encoded already (`wire.text`)."""
    if version is not _V5:
        tail = payload
    elif its is NOTHING:
        tail = _NO_PROPERTIES + payload
    else:
        tail = properties.write(its) + payload
    size = len(topic) + len(tail) + (2 if qos else 0)
    first = _PUBLISH[qos << 1 | retain]
    return Message(first + (_SHORT[size] if size < 128 else variable(size)) + topic, tail)


def _identifier(packet_id: int) -> bytes:
    return packet_id.to_bytes(2, "big")


def _properties(its: Properties, version: Version) -> bytes:
    return properties.write(its) if version == Version.V5 else b""


def _connect(packet: Connect, version: Version) -> bytes:
    will = packet.will
    flags = packet.clean_start << 1 | (packet.user_name is not None) << 7 | (packet.password is not None) << 6
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
    return b"".join(
        [
            b"\0\4MQTT",
            bytes((packet.version, flags)),
            packet.keep_alive.to_bytes(2, "big"),
            _properties(packet.properties, packet.version),
            text(packet.client_id),
            _will(will, packet.version) if will is not None else b"",
            text(packet.user_name) if packet.user_name is not None else b"",
            binary(packet.password) if packet.password is not None else b"",
        ]
    )


def _will(will: Will, version: Version) -> bytes:
    return _properties(will.properties, version) + text(will.topic) + binary(will.payload)


def _connack(packet: Connack, version: Version) -> bytes:
    if version == Version.V5:
        return bytes((packet.session_present, packet.reason)) + properties.write(packet.properties)
    known = packet.reason in CONNACK_3_1_1
    # Of six codes, "server unavailable" is the one for all else that a client may try again after.
    return bytes((packet.session_present, CONNACK_3_1_1.index(packet.reason) if known else 3))


def _publish(packet: Publish, version: Version) -> bytes:
    identifier = _identifier(packet.packet_id) if packet.qos else b""
    return text(packet.topic) + identifier + _properties(packet.properties, version) + packet.payload


def _answer(packet: Puback | Pubrec | Pubrel | Pubcomp, version: Version) -> bytes:
    return _identifier(packet.packet_id) + _reason_and_properties(packet, version)


def _subscribe(packet: Subscribe, version: Version) -> bytes:
    its = _identifier(packet.packet_id) + _properties(packet.properties, version)
    return its + b"".join(text(each.filter) + bytes((_options(each, version),)) for each in packet.subscriptions)


def _options(subscription: Subscription, version: Version) -> int:
    if version != Version.V5:
        return subscription.qos
    return (
        subscription.qos
        | subscription.no_local << 2
        | subscription.retain_as_published << 3
        | subscription.retain_handling << 4
    )


def _suback(packet: Suback, version: Version) -> bytes:
    its = _identifier(packet.packet_id) + _properties(packet.properties, version)
    if version == Version.V5:
        return its + bytes(packet.reasons)
    return its + bytes(min(reason, Reason.UNSPECIFIED_ERROR) for reason in packet.reasons)  # 3.1.1 has one failure


def _unsubscribe(packet: Unsubscribe, version: Version) -> bytes:
    its = _identifier(packet.packet_id) + _properties(packet.properties, version)
    return its + b"".join(text(each) for each in packet.filters)


def _unsuback(packet: Unsuback, version: Version) -> bytes:
    its = _identifier(packet.packet_id) + _properties(packet.properties, version)
    return its + (bytes(packet.reasons) if version == Version.V5 else b"")


def _nothing(packet: Pingreq | Pingresp, version: Version) -> bytes:
    return b""


def _reason_and_properties(packet: Puback | Pubrec | Pubrel | Pubcomp | Disconnect | Auth, version: Version) -> bytes:
    """MQTT 5 leaves them out from behind: success without properties is nothing (3.4.2.1, 3.14.2.1)."""
    if version != Version.V5 or (packet.properties == NOTHING and packet.reason == Reason.SUCCESS):
        return b""
    if packet.properties == NOTHING:
        return bytes((packet.reason,))
    return bytes((packet.reason,)) + properties.write(packet.properties)


_WRITERS: dict[type[Packet], tuple[int, Callable[[Any, Version], bytes]]] = {
    Connect: (0x10, _connect),
    Connack: (0x20, _connack),
    Publish: (0x30, _publish),
    Puback: (0x40, _answer),
    Pubrec: (0x50, _answer),
    Pubrel: (0x62, _answer),
    Pubcomp: (0x70, _answer),
    Subscribe: (0x82, _subscribe),
    Suback: (0x90, _suback),
    Unsubscribe: (0xA2, _unsubscribe),
    Unsuback: (0xB0, _unsuback),
    Pingreq: (0xC0, _nothing),
    Pingresp: (0xD0, _nothing),
    Disconnect: (0xE0, _reason_and_properties),
    Auth: (0xF0, _reason_and_properties),
}
