"""Bytes to packets. Any bytes are a packet, the beginning of one, or a `ProtocolError`, and never anything else."""

from __future__ import annotations

from collections.abc import Callable, Set

from millstream.mqtt import properties, reason
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
from millstream.mqtt.properties import NOTHING, Place, Properties
from millstream.mqtt.reason import ProtocolError, Reason, malformed, violation
from millstream.mqtt.wire import MAX_VARIABLE, Reader, add, frame

MAX_PACKET = MAX_VARIABLE + 5

# The return codes of a CONNACK in 3.1.1 (3.2.2.3), as the reason codes that say the same.
CONNACK_3_1_1 = (
    Reason.SUCCESS,
    Reason.UNSUPPORTED_PROTOCOL_VERSION,
    Reason.CLIENT_IDENTIFIER_NOT_VALID,
    Reason.SERVER_UNAVAILABLE,
    Reason.BAD_USER_NAME_OR_PASSWORD,
    Reason.NOT_AUTHORIZED,
)

SUBACK_3_1_1 = (Reason.SUCCESS, Reason.GRANTED_QOS_1, Reason.GRANTED_QOS_2, Reason.UNSPECIFIED_ERROR)  # 3.9.3


def decode(
    data: bytes, position: int = 0, *, version: Version = Version.V3_1_1, limit: int = MAX_PACKET
) -> tuple[Packet, int] | None:
    """The packet that begins at `position`, and where it ends; None while it is not complete.

    `version` is what the connection speaks (a CONNECT says its own). Raises `ProtocolError` for bytes that cannot
    become a packet, and for one larger than `limit` as soon as its length is known."""
    if position >= len(data):
        return None
    kind, flags = data[position] >> 4, data[position] & 0x0F
    if kind not in _READERS:
        raise malformed(f"packet type {kind}")
    if kind != Place.PUBLISH and flags != (2 if kind in (6, 8, 10) else 0):
        raise malformed(f"flags {flags:04b} in the first byte of a packet of type {kind}")
    body = frame(data, position, limit)
    if body is None or body[1] > len(data):
        return None
    reader = Reader(data, *body)
    packet = _READERS[kind](reader, flags, version)
    reader.finish()
    return packet, body[1]


def _properties(reader: Reader, place: Place, version: Version) -> Properties:
    return properties.read(reader, place) if version == Version.V5 else NOTHING


def _reason(reader: Reader, allowed: Set[Reason]) -> Reason:
    code = reader.integer(1)
    try:
        found = Reason(code)
    except ValueError:
        raise malformed(f"reason code 0x{code:02X}") from None
    if found not in allowed:
        raise violation(f"reason code 0x{code:02X} in a packet of another kind than those that have it")
    return found


def _packet_id(reader: Reader) -> int:
    packet_id = reader.integer(2)
    if not packet_id:
        raise violation("packet identifier 0")
    return packet_id


def _qos(value: int) -> int:
    if value > 2:
        raise malformed("QoS 3")
    return value


def _connect(reader: Reader, flags: int, version: Version) -> Connect:
    name, level = reader.binary(), reader.integer(1)
    if name != b"MQTT" or level not in (4, 5):
        raise ProtocolError(
            Reason.UNSUPPORTED_PROTOCOL_VERSION,
            f"protocol {name[:16]!r} level {level}; MQTT 3.1.1 (level 4) and 5 are spoken here",
        )
    version = Version(level)
    bits = reader.integer(1)
    has_will, will_qos, will_retain = bool(bits & 0x04), _qos(bits >> 3 & 3), bool(bits & 0x20)
    if bits & 0x01 or (not has_will and (will_qos or will_retain)):
        raise malformed(f"connect flags {bits:08b}")
    if version == Version.V3_1_1 and bits & 0xC0 == 0x40:
        raise malformed("a password without a user name")  # MQTT 5 allows it (3.1.2.9)
    keep_alive = reader.integer(2)
    its = _properties(reader, Place.CONNECT, version)
    if its.authentication_data is not None and its.authentication_method is None:
        raise violation("authentication data without a method")
    client_id = reader.text()
    return Connect(
        version=version,
        client_id=client_id,
        clean_start=bool(bits & 0x02),
        keep_alive=keep_alive,
        properties=its,
        will=_will(reader, will_qos, will_retain, version) if has_will else None,
        user_name=reader.text() if bits & 0x80 else None,
        password=reader.binary() if bits & 0x40 else None,
    )


def _will(reader: Reader, qos: int, retain: bool, version: Version) -> Will:
    its = _properties(reader, Place.WILL, version)
    return Will(topic=reader.text(), payload=reader.binary(), qos=qos, retain=retain, properties=its)


def _connack(reader: Reader, flags: int, version: Version) -> Connack:
    present = reader.integer(1)
    if present > 1:
        raise malformed("CONNACK flags")
    if version == Version.V5:
        why = _reason(reader, reason.OF_CONNACK)
    elif (code := reader.integer(1)) < len(CONNACK_3_1_1):
        why = CONNACK_3_1_1[code]
    else:
        raise malformed(f"CONNACK return code {code}")
    return Connack(reason=why, session_present=bool(present), properties=_properties(reader, Place.CONNACK, version))


def _publish(reader: Reader, flags: int, version: Version) -> Publish:
    qos = _qos(flags >> 1 & 3)
    duplicate = bool(flags & 0x08)
    if duplicate and not qos:
        raise malformed("a PUBLISH of QoS 0 that is marked as a duplicate")
    return Publish(
        topic=reader.text(),
        qos=qos,
        packet_id=_packet_id(reader) if qos else 0,
        retain=bool(flags & 0x01),
        duplicate=duplicate,
        properties=_properties(reader, Place.PUBLISH, version),
        payload=reader.rest(),
    )


_Answers = Puback | Pubrec | Pubrel | Pubcomp


def _answer(
    place: Place, allowed: Set[Reason], make: Callable[..., _Answers]
) -> Callable[[Reader, int, Version], _Answers]:
    def read(reader: Reader, flags: int, version: Version) -> _Answers:
        packet_id = _packet_id(reader)
        if version != Version.V5 or not reader:  # MQTT 5 leaves "success" out (3.4.2.1)
            return make(packet_id=packet_id)
        why = _reason(reader, allowed)
        its = properties.read(reader, place) if reader else NOTHING
        return make(packet_id=packet_id, reason=why, properties=its)

    return read


def _subscribe(reader: Reader, flags: int, version: Version) -> Subscribe:
    packet_id = _packet_id(reader)
    its = _properties(reader, Place.SUBSCRIBE, version)
    if len(its.subscription_identifiers) > 1:
        raise violation("property subscription_identifiers twice")
    subscriptions: list[Subscription] = []
    while reader:
        add(subscriptions, _subscription(reader.text(), reader.integer(1), version), "filters")
    if not subscriptions:
        raise violation("a SUBSCRIBE without a filter")
    return Subscribe(packet_id=packet_id, subscriptions=tuple(subscriptions), properties=its)


def _subscription(mqtt_filter: str, options: int, version: Version) -> Subscription:
    if options & (0xC0 if version == Version.V5 else 0xFC):
        raise malformed(f"subscription options {options:08b}")
    handling = options >> 4
    if handling > 2:
        raise violation("retain handling 3")
    return Subscription(mqtt_filter, _qos(options & 3), bool(options & 0x04), bool(options & 0x08), handling)


def _suback(reader: Reader, flags: int, version: Version) -> Suback:
    packet_id = _packet_id(reader)
    its = _properties(reader, Place.SUBACK, version)
    reasons: list[Reason] = []
    while reader:
        why = _reason(reader, reason.OF_SUBACK)
        if version != Version.V5 and why not in SUBACK_3_1_1:
            raise malformed(f"SUBACK return code {why}")
        add(reasons, why, "reasons")
    return Suback(packet_id=packet_id, reasons=tuple(reasons), properties=its)


def _unsubscribe(reader: Reader, flags: int, version: Version) -> Unsubscribe:
    packet_id = _packet_id(reader)
    its = _properties(reader, Place.UNSUBSCRIBE, version)
    filters: list[str] = []
    while reader:
        add(filters, reader.text(), "filters")
    if not filters:
        raise violation("an UNSUBSCRIBE without a filter")
    return Unsubscribe(packet_id=packet_id, filters=tuple(filters), properties=its)


def _unsuback(reader: Reader, flags: int, version: Version) -> Unsuback:
    packet_id = _packet_id(reader)
    its = _properties(reader, Place.UNSUBACK, version)
    reasons: list[Reason] = []
    while version == Version.V5 and reader:
        add(reasons, _reason(reader, reason.OF_UNSUBACK), "reasons")
    return Unsuback(packet_id=packet_id, reasons=tuple(reasons), properties=its)


def _disconnect(reader: Reader, flags: int, version: Version) -> Disconnect:
    if version != Version.V5 or not reader:  # MQTT 5 leaves "normal" out (3.14.2.1)
        return Disconnect()
    why = _reason(reader, reason.OF_DISCONNECT)
    return Disconnect(reason=why, properties=properties.read(reader, Place.DISCONNECT) if reader else NOTHING)


def _auth(reader: Reader, flags: int, version: Version) -> Auth:
    if version != Version.V5:
        raise malformed("packet type 15 before MQTT 5")
    if not reader:
        return Auth()
    why = _reason(reader, reason.OF_AUTH)
    return Auth(reason=why, properties=properties.read(reader, Place.AUTH) if reader else NOTHING)


_READERS: dict[int, Callable[[Reader, int, Version], Packet]] = {
    1: _connect,
    2: _connack,
    3: _publish,
    4: _answer(Place.PUBACK, reason.OF_PUBACK, Puback),
    5: _answer(Place.PUBREC, reason.OF_PUBREC, Pubrec),
    6: _answer(Place.PUBREL, reason.OF_PUBREL, Pubrel),
    7: _answer(Place.PUBCOMP, reason.OF_PUBCOMP, Pubcomp),
    8: _subscribe,
    9: _suback,
    10: _unsubscribe,
    11: _unsuback,
    12: lambda reader, flags, version: Pingreq(),
    13: lambda reader, flags, version: Pingresp(),
    14: _disconnect,
    15: _auth,
}
