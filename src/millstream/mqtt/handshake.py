"""CONNECT and its answer: what a client may ask for, and what it is told it gets."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from millstream.errors import TopicError
from millstream.mqtt.encode import encode
from millstream.mqtt.packet import Connack, Connect, Puback, Pubrec, Suback, Version
from millstream.mqtt.properties import NOTHING, Properties
from millstream.mqtt.reason import ProtocolError, Reason
from millstream.topic import check_topic

_ASSIGNED = "x" * 23  # as long as a client identifier that the server makes may be
_ANSWER_BYTES = 7  # of a SUBACK or UNSUBACK without its reasons: type, length, packet identifier, no properties
MAX_CLIENT_ID = 1_024  # characters; AWS IoT Core has 128. It is kept for as long as the session lives


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What a session may cost. Bytes and seconds."""

    packet_bytes: int = 1 << 20
    session_bytes: int = 8 << 20
    receive_maximum: int = 1_000
    publish_maximum: int = 65_535
    subscriptions: int = 100
    connect_timeout: float = 10.0
    max_keep_alive: int = 3_600
    max_session_expiry: int = 604_800
    topic_aliases: int = 32
    client_messages: int = 100_000  # a second, as the next one
    client_bytes: int = 64 << 20


def check_connect(connect: Connect, limits: SessionLimits) -> None:
    """Raise `ProtocolError` for what is asked for and cannot be given."""
    if len(connect.client_id) > MAX_CLIENT_ID:
        raise ProtocolError(
            Reason.CLIENT_IDENTIFIER_NOT_VALID, f"a client identifier of more than {MAX_CLIENT_ID} characters"
        )
    if connect.version is Version.V5:
        _check_connect_5(connect, limits)
    elif not connect.client_id and not connect.clean_start:  # 3.1.3.1
        raise ProtocolError(
            Reason.CLIENT_IDENTIFIER_NOT_VALID, "an empty client identifier needs a clean session (CleanSession 1)"
        )
    if connect.will is not None:
        try:
            check_topic(connect.will.topic)
        except TopicError as error:
            raise ProtocolError(Reason.TOPIC_NAME_INVALID, f"will: {error}") from None


def _check_connect_5(connect: Connect, limits: SessionLimits) -> None:
    if connect.properties.authentication_method is not None:
        raise ProtocolError(
            Reason.BAD_AUTHENTICATION_METHOD,
            f"authentication method {connect.properties.authentication_method!r}; use user name and password",
        )
    largest = connect.properties.maximum_packet_size
    if largest is not None:
        size = len(encode(accepted(connect, limits, connect.client_id or _ASSIGNED, present=False), Version.V5))
        if size > largest:  # 3.1.2.11.4; all other answers but those to many filters are smaller
            raise ProtocolError(Reason.PACKET_TOO_LARGE, f"CONNACK has {size} bytes, and the client takes {largest}")


def check_answer(filters: int, largest: int) -> None:
    """Raise `ProtocolError` if the answer to so many filters would be larger than the client takes."""
    if filters + _ANSWER_BYTES > largest:
        raise ProtocolError(
            Reason.PACKET_TOO_LARGE, f"the answer to {filters} filters is larger than the {largest} bytes it may have"
        )


def keep_alive(connect: Connect, limits: SessionLimits) -> int:
    """The keep-alive that holds, in seconds (0: none). Only an MQTT 5 client can be told another than its own."""
    asked = connect.keep_alive
    if connect.version is Version.V5 and not 0 < asked <= limits.max_keep_alive:
        return limits.max_keep_alive
    return asked


def session_expiry(connect: Connect, limits: SessionLimits) -> int:
    """How long the session shall outlive its connection, in seconds; 0: not at all. One of 3.1.1 that is kept (its
    CleanSession is 0) has no limit of its own."""
    if connect.version is Version.V5:
        return min(connect.properties.session_expiry_interval or 0, limits.max_session_expiry)
    return 0 if connect.clean_start else limits.max_session_expiry


def accepted(connect: Connect, limits: SessionLimits, client_id: str, present: bool) -> Connack:
    """The answer to a client that may come in under `client_id`. What is left out has the meaning "yes" or "without
    a limit" (3.2.2.3): wildcards, subscription identifiers, QoS 2, retained messages, shared subscriptions."""
    if connect.version is not Version.V5:
        return Connack(session_present=present)
    expiry = session_expiry(connect, limits)
    alive = keep_alive(connect, limits)
    return Connack(
        session_present=present,
        properties=Properties(
            session_expiry_interval=expiry if expiry != (connect.properties.session_expiry_interval or 0) else None,
            assigned_client_identifier=client_id if client_id != connect.client_id else None,
            server_keep_alive=alive if alive != connect.keep_alive else None,
            maximum_packet_size=limits.packet_bytes,
            receive_maximum=limits.publish_maximum if limits.publish_maximum < 65_535 else None,
            topic_alias_maximum=limits.topic_aliases or None,
        ),
    )


def because(text: str) -> Properties:
    """A reason string. It is for people (3.1.2.11.7), so its length is bounded like a log line's."""
    return Properties(reason_string=text[:200]) if text else NOTHING


def explained(packet: Puback | Pubrec | Suback, version: Version, most: int) -> bytes:
    """An answer with its reason string, unless that makes it longer than `most` bytes: what the client takes, or 0 if
    it does not want to hear reasons (3.1.2.11.7)."""
    data = encode(packet, version)
    return data if len(data) <= most else encode(msgspec.structs.replace(packet, properties=NOTHING), version)
