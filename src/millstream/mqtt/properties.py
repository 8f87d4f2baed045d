"""The properties of MQTT 5 (2.2.2): one typed record for all of them, and the table that says how each is written
and where it may stand."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from millstream.mqtt import wire
from millstream.mqtt.reason import ProtocolError, Reason, malformed, violation


class Place(enum.IntEnum):
    """Where properties stand: a packet's type (its number on the wire), or a will inside of a CONNECT."""

    WILL = 0
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    DISCONNECT = 14
    AUTH = 15


class Properties(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every property there is; None (or empty) where it is absent. Names are those of the specification."""

    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_identifiers: tuple[int, ...] = ()
    session_expiry_interval: int | None = None
    assigned_client_identifier: str | None = None
    server_keep_alive: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_interval: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    maximum_packet_size: int | None = None
    wildcard_subscription_available: int | None = None
    subscription_identifier_available: int | None = None
    shared_subscription_available: int | None = None


NOTHING = Properties()


class Kind(NamedTuple):
    """How a value is written."""

    name: str
    read: Callable[[wire.Reader], Any]
    write: Callable[[Any], bytes]


def _flag(reader: wire.Reader) -> int:
    value = reader.integer(1)
    if value > 1:
        raise violation(f"a property that is 0 or 1 has the value {value}")
    return value


def _positive(size: int) -> Callable[[wire.Reader], int]:
    def read(reader: wire.Reader) -> int:
        value = reader.integer(size)
        if not value:
            raise violation("a property that must not be zero is zero")
        return value

    return read


def _alias(reader: wire.Reader) -> int:
    value = reader.integer(2)
    if not value:
        raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, "topic alias 0")
    return value


def _identifier(reader: wire.Reader) -> int:
    value = reader.variable()
    if not value:
        raise violation("subscription identifier 0")
    return value


def _integer(size: int) -> Callable[[Any], bytes]:
    return lambda value: int(value).to_bytes(size, "big")


_FLAG = Kind("flag", _flag, _integer(1))
_TWO = Kind("two", lambda reader: reader.integer(2), _integer(2))
_FOUR = Kind("four", lambda reader: reader.integer(4), _integer(4))
_TWO_POSITIVE = Kind("two_positive", _positive(2), _integer(2))
_FOUR_POSITIVE = Kind("four_positive", _positive(4), _integer(4))
_TEXT = Kind("text", lambda reader: reader.text(), wire.text)
_BINARY = Kind("binary", lambda reader: reader.binary(), wire.binary)
_PAIR = Kind(
    "pair", lambda reader: (reader.text(), reader.text()), lambda pair: wire.text(pair[0]) + wire.text(pair[1])
)
_ALIAS = Kind("alias", _alias, _integer(2))
_IDENTIFIER = Kind("identifier", _identifier, wire.variable)

_MESSAGE = {Place.PUBLISH, Place.WILL}
_ANSWER = {Place.PUBACK, Place.PUBREC, Place.PUBREL, Place.PUBCOMP, Place.SUBACK, Place.UNSUBACK}


class Property(NamedTuple):
    """A row of the table: identifier, name in `Properties`, form, and the places where it may stand."""

    code: int
    name: str
    kind: Kind
    places: set[Place]
    repeats: bool = False


TABLE: list[Property] = [
    Property(0x01, "payload_format_indicator", _FLAG, _MESSAGE),
    Property(0x02, "message_expiry_interval", _FOUR, _MESSAGE),
    Property(0x03, "content_type", _TEXT, _MESSAGE),
    Property(0x08, "response_topic", _TEXT, _MESSAGE),
    Property(0x09, "correlation_data", _BINARY, _MESSAGE),
    Property(0x0B, "subscription_identifiers", _IDENTIFIER, {Place.PUBLISH, Place.SUBSCRIBE}, repeats=True),
    Property(0x11, "session_expiry_interval", _FOUR, {Place.CONNECT, Place.CONNACK, Place.DISCONNECT}),
    Property(0x12, "assigned_client_identifier", _TEXT, {Place.CONNACK}),
    Property(0x13, "server_keep_alive", _TWO, {Place.CONNACK}),
    Property(0x15, "authentication_method", _TEXT, {Place.CONNECT, Place.CONNACK, Place.AUTH}),
    Property(0x16, "authentication_data", _BINARY, {Place.CONNECT, Place.CONNACK, Place.AUTH}),
    Property(0x17, "request_problem_information", _FLAG, {Place.CONNECT}),
    Property(0x18, "will_delay_interval", _FOUR, {Place.WILL}),
    Property(0x19, "request_response_information", _FLAG, {Place.CONNECT}),
    Property(0x1A, "response_information", _TEXT, {Place.CONNACK}),
    Property(0x1C, "server_reference", _TEXT, {Place.CONNACK, Place.DISCONNECT}),
    Property(0x1F, "reason_string", _TEXT, {Place.CONNACK, Place.DISCONNECT, Place.AUTH} | _ANSWER),
    Property(0x21, "receive_maximum", _TWO_POSITIVE, {Place.CONNECT, Place.CONNACK}),
    Property(0x22, "topic_alias_maximum", _TWO, {Place.CONNECT, Place.CONNACK}),
    Property(0x23, "topic_alias", _ALIAS, {Place.PUBLISH}),
    Property(0x24, "maximum_qos", _FLAG, {Place.CONNACK}),
    Property(0x25, "retain_available", _FLAG, {Place.CONNACK}),
    Property(0x26, "user_properties", _PAIR, set(Place), repeats=True),
    Property(0x27, "maximum_packet_size", _FOUR_POSITIVE, {Place.CONNECT, Place.CONNACK}),
    Property(0x28, "wildcard_subscription_available", _FLAG, {Place.CONNACK}),
    Property(0x29, "subscription_identifier_available", _FLAG, {Place.CONNACK}),
    Property(0x2A, "shared_subscription_available", _FLAG, {Place.CONNACK}),
]
_BY_CODE = {entry.code: entry for entry in TABLE}


def read(reader: wire.Reader, place: Place) -> Properties:
    """The properties of a packet: their length, then each. One that may not stand there, or twice: `ProtocolError`."""
    length = reader.variable()
    if not length:
        return NOTHING
    end = reader.position + length
    if end > reader.end:
        raise malformed("the properties are longer than their packet")
    found: dict[str, Any] = {}
    repeated: dict[str, list[Any]] = {}
    inner = wire.Reader(reader.data, reader.position, end)
    while inner:
        entry = _BY_CODE.get(code := inner.variable())
        if entry is None or place not in entry.places:
            raise malformed(f"property 0x{code:02X} in {place.name}")
        value = entry.kind.read(inner)
        if entry.repeats:
            wire.add(repeated.setdefault(entry.name, []), value, "values of a property")
        elif entry.name in found:
            raise violation(f"property {entry.name} twice")
        else:
            found[entry.name] = value
    reader.position = end
    found.update((name, tuple(values)) for name, values in repeated.items())
    return Properties(**found)


def write(properties: Properties) -> bytes:
    """The properties behind their length."""
    if properties is NOTHING:
        return b"\0"
    pieces: list[bytes] = []
    for entry in TABLE:
        value = getattr(properties, entry.name)
        if value is None:
            continue
        code = bytes((entry.code,))
        pieces.extend(code + entry.kind.write(item) for item in (value if entry.repeats else (value,)))
    body = b"".join(pieces)
    return wire.variable(len(body)) + body
