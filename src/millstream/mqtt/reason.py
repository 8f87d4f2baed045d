"""The reason codes of MQTT 5 (2.4), which everything here speaks, and the error that carries one."""

from __future__ import annotations

import enum

from millstream.errors import MillstreamError


class Reason(enum.IntEnum):
    """Why something succeeded (below 0x80) or failed. One code may have several names: 0 is one of three."""

    SUCCESS = 0x00  # also "normal disconnection" and "granted QoS 0"
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    CONTINUE_AUTHENTICATION = 0x18
    REAUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


def _codes(text: str) -> frozenset[Reason]:
    return frozenset(Reason(int(code, 16)) for code in text.split())


# The reasons that each kind of packet may carry: the tables of chapter 3. For DISCONNECT 2.4 has one more, 0x8C.
OF_CONNACK = _codes("00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F")
OF_PUBACK = OF_PUBREC = _codes("00 10 80 83 87 90 91 97 99")
OF_PUBREL = OF_PUBCOMP = _codes("00 92")
OF_SUBACK = _codes("00 01 02 80 83 87 8F 91 97 9E A1 A2")
OF_UNSUBACK = _codes("00 11 80 83 87 8F 91")
OF_DISCONNECT = _codes("00 04 80 81 82 83 87 89 8B 8C 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2")
OF_AUTH = _codes("00 18 19")


def refusal(why: Reason) -> Reason:
    """What CONNACK says to a client that is not let in for a reason that it may not carry: try again later."""
    return why if why in OF_CONNACK else Reason.SERVER_UNAVAILABLE


class ProtocolError(MillstreamError):
    """The peer broke the protocol or a limit; the connection ends with this reason."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def malformed(text: str) -> ProtocolError:
    """The error for bytes that are no packet (4.13)."""
    return ProtocolError(Reason.MALFORMED_PACKET, text)


def violation(text: str) -> ProtocolError:
    """The error for a packet that is well-formed, and not allowed there (4.13)."""
    return ProtocolError(Reason.PROTOCOL_ERROR, text)
