"""What comes from one client: its messages on their way to the columns, and the flow control of that direction.

`scan` takes plain messages by itself, and looks at the attributes here for that; all others come by `publish`. What a
message costs is taken off `credit` and `allowance`.
"""

from __future__ import annotations

import msgspec

from millstream.errors import NotAuthorizedError, TopicError
from millstream.mqtt.action import Declined
from millstream.mqtt.aliases import IncomingAliases
from millstream.mqtt.allowance import Allowance
from millstream.mqtt.handshake import SessionLimits, because, explained
from millstream.mqtt.memory import Memory
from millstream.mqtt.numbering import topic_key
from millstream.mqtt.packet import Puback, Publish, Pubrec, Version
from millstream.mqtt.permitted import PermittedTopics
from millstream.mqtt.properties import NOTHING
from millstream.mqtt.reason import ProtocolError, Reason, violation
from millstream.mqtt.scan import PUBACK, PUBREC, Arrivals, Publisher
from millstream.topic import check_topic

_SERVERS_OWN = "$SYS/"
_ANSWERS = (b"", PUBACK, PUBREC)  # by QoS
_BOUNDLESS = 1 << 62


class Incoming:
    """`active`, `plain_header` and `permitted` are those of `scan.Source`.

    `credit`: messages of QoS 1 and 2 that the client may send before the next acknowledgement (4.9); 3.1.1 knows no
    such bound. `allowance`: what it may send in a while; the owner takes bytes off, and does something about one that
    is used up."""

    __slots__ = (
        "_aliases",
        "_because",
        "_limits",
        "_memory",
        "_most_credit",
        "_most_explained",
        "_version",
        "active",
        "allowance",
        "credit",
        "permitted",
        "plain_header",
    )

    def __init__(self, limits: SessionLimits, now: float) -> None:
        self._limits = limits
        self._version = Version.V3_1_1
        self._memory = Memory()
        self._aliases: IncomingAliases | None = None
        self._because = ""
        self._most_explained = 0
        self._most_credit = _BOUNDLESS
        self.active = False
        self.plain_header = -1
        self.permitted: PermittedTopics | None = None
        self.credit = _BOUNDLESS
        self.allowance = Allowance(limits.client_messages, limits.client_bytes, now)

    def accept(self, version: Version, memory: Memory, permitted: PermittedTopics | None, most_explained: int) -> None:
        """The client is in. Answers with a reason string may have `most_explained` bytes (`explained`)."""
        self._version = version
        self._memory = memory
        self._most_explained = most_explained
        self.permitted = permitted
        if version is Version.V5:
            self.credit = self._most_credit = self._limits.publish_maximum
        self.expect_plain()

    def expect_plain(self) -> None:
        """The next byte to come begins a packet, which `scan` may take."""
        self.plain_header = -1 if self._because else int(self._version is Version.V5)

    def expect_nothing_plain(self) -> None:
        """It does not, or may not."""
        self.plain_header = -1

    def tell(self, text: str) -> None:
        """Let the next acknowledgement tell the client something. 3.1.1 has no room for that."""
        if self._version is Version.V5 and len(text) < self._most_explained:
            self._because = text
            self.plain_header = -1

    def check_credit(self) -> None:
        """Raise `ProtocolError` if the client has sent more than it may before the next acknowledgement."""
        if self.credit < 0:
            raise ProtocolError(
                Reason.RECEIVE_MAXIMUM_EXCEEDED,
                f"more than {self._limits.publish_maximum} messages before an acknowledgement, as CONNACK allows",
            )

    def answered(self, packets: bytes) -> None:
        """Acknowledgements of messages are written: a row of plain PUBACKs, or another one by itself. A PUBREC that
        says no ends an exchange as PUBACK does; another one does not."""
        if packets[0] == PUBACK[0]:
            self.credit += len(packets) >> 2 if packets[1] == PUBACK[1] else 1
        elif packets[1] > PUBREC[1] and packets[4] >= Reason.UNSPECIFIED_ERROR:
            self.credit += 1

    def explain(self, answer: bytes, text: str) -> bytes:
        """A plain PUBACK or PUBREC with a reason string, if the client can be told and wants to hear it."""
        if self._version is not Version.V5 or len(answer) != len(PUBACK) + 2:
            return answer
        kind = Puback if answer[0] == PUBACK[0] else Pubrec
        packet = kind(packet_id=int.from_bytes(answer[2:], "big"), properties=because(text))
        return explained(packet, self._version, self._most_explained)

    def publish(self, packet: Publish, arrivals: Arrivals, publisher: Publisher) -> Declined | None:
        """Take a message, or decline it. Raises `ProtocolError`."""
        self.allowance.messages -= 1
        if packet.qos:
            self.credit -= 1
            self.check_credit()
        packet = self._checked(packet, arrivals)
        if self.permitted is not None:
            try:
                self.permitted.check(packet.topic, arrivals.numbering)
            except NotAuthorizedError as error:
                return self._decline(packet, str(error), arrivals, publisher)
        answer = self._answer(packet) if packet.qos else b""
        if packet.qos == 2 and not self._memory.take(packet.packet_id):
            arrivals.owe(publisher, answer)  # its first one may not be on disk yet
            return None
        properties = packet.properties if packet.properties is not NOTHING else None
        arrivals.add(packet.topic, packet.qos, packet.payload, properties, publisher, answer, retain=packet.retain)
        return None

    def release(self, packet_id: int) -> bool:
        """PUBREL: a message of QoS 2 is through. False: there is none of that identifier."""
        self.credit = min(self.credit + 1, self._most_credit)
        return self._memory.release(packet_id)

    def _checked(self, packet: Publish, arrivals: Arrivals) -> Publish:
        """The same, with its topic as everybody else knows it."""
        its = packet.properties
        if its.topic_alias is not None:
            packet = self._unalias(packet, its.topic_alias)
        if its.subscription_identifiers:
            raise violation("a subscription identifier in a PUBLISH of a client")  # 3.3.4
        if its.response_topic is not None:
            _check_topic(its.response_topic)
        if topic_key(packet.topic) not in arrivals.numbering.known:
            _check_topic(packet.topic)
        return packet

    def _unalias(self, packet: Publish, alias: int) -> Publish:
        if self._aliases is None:
            self._aliases = IncomingAliases(self._limits.topic_aliases)
        topic = self._aliases.resolve(alias, packet.topic)
        its = msgspec.structs.replace(packet.properties, topic_alias=None)
        return msgspec.structs.replace(packet, topic=topic, properties=its if its != NOTHING else NOTHING)

    def _answer(self, packet: Publish) -> bytes:
        answer = _ANSWERS[packet.qos] + packet.packet_id.to_bytes(2, "big")
        if self._because:
            answer = self.explain(answer, self._because)
            self._because = ""
            self.expect_plain()
        return answer

    def _decline(self, packet: Publish, text: str, arrivals: Arrivals, publisher: Publisher) -> Declined:
        """Refuse a PUBLISH for want of a right. A client of 3.1.1 cannot be told, and a PUBACK would promise it that
        its message is kept, so its connection ends (MQTT 3.1.1, 3.3.5)."""
        if packet.qos and self._version is not Version.V5:
            raise ProtocolError(Reason.NOT_AUTHORIZED, text)
        if packet.qos:
            kind = Puback if packet.qos == 1 else Pubrec
            told = kind(packet_id=packet.packet_id, reason=Reason.NOT_AUTHORIZED, properties=because(text))
            arrivals.owe(publisher, explained(told, self._version, self._most_explained))
        return Declined(Reason.NOT_AUTHORIZED, text, packet.topic, packet.payload)


def _check_topic(topic: str) -> None:
    if topic.startswith(_SERVERS_OWN):
        raise ProtocolError(Reason.TOPIC_NAME_INVALID, f"topic name {topic!r} is the server's to publish to")
    try:
        check_topic(topic)
    except TopicError as error:
        raise ProtocolError(Reason.TOPIC_NAME_INVALID, str(error)) from None
