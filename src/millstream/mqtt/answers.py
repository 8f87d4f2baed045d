"""What a client says that changes what the server remembers of it, and the answers to that.

PUBREC, PUBREL, SUBSCRIBE and UNSUBSCRIBE each change the `Memory`. Of a session that is kept, the change must be on
disk before the client is told of it: its answer is *owed* until the next commit. Any other goes out at once.
"""

from __future__ import annotations

from millstream.mqtt.action import Action
from millstream.mqtt.encode import encode
from millstream.mqtt.handshake import SessionLimits, check_answer, explained
from millstream.mqtt.incoming import Incoming
from millstream.mqtt.memory import Memory
from millstream.mqtt.outgoing import Outgoing
from millstream.mqtt.packet import Pubcomp, Pubrec, Pubrel, Subscribe, Unsubscribe, Version
from millstream.mqtt.reason import Reason
from millstream.mqtt.subscribing import subscribe, unsubscribe
from millstream.rights import Rights


class Answers:
    """Made when the client is let in."""

    __slots__ = ("_incoming", "_limits", "_memory", "_most_explained", "_outgoing", "_rights", "_version", "owed")

    def __init__(
        self,
        version: Version,
        limits: SessionLimits,
        rights: Rights,
        memory: Memory,
        incoming: Incoming,
        outgoing: Outgoing,
        most_explained: int,
    ) -> None:
        """Answers with a reason string may have `most_explained` bytes (`explained`)."""
        self._version = version
        self._limits = limits
        self._rights = rights
        self._memory = memory
        self._incoming = incoming
        self._outgoing = outgoing
        self._most_explained = most_explained
        self.owed: list[bytes] | None = None

    def take(self) -> bytes:
        """What is owed, to be written after the next commit."""
        owed, self.owed = self.owed, None
        return b"".join(owed or ())

    def release(self, packet: Pubrel) -> None:
        """The client knows that its message of QoS 2 was taken."""
        known = self._incoming.release(packet.packet_id)
        reason = Reason.SUCCESS if known else Reason.PACKET_IDENTIFIER_NOT_FOUND
        self._tell(encode(Pubcomp(packet_id=packet.packet_id, reason=reason), self._version))

    def receive(self, packet: Pubrec) -> None:
        """The client has a message of QoS 2, or refuses it."""
        refused = packet.reason >= Reason.UNSPECIFIED_ERROR
        known = self._outgoing.receive(packet.packet_id, refused)
        if not refused:  # else the identifier is free at once (4.3.3)
            reason = Reason.SUCCESS if known else Reason.PACKET_IDENTIFIER_NOT_FOUND
            self._tell(encode(Pubrel(packet_id=packet.packet_id, reason=reason), self._version))

    def subscribe(self, packet: Subscribe, actions: list[Action]) -> None:
        """It wants to hear of something. Raises `ProtocolError`."""
        check_answer(len(packet.subscriptions), self._outgoing.largest)
        answer, granted = subscribe(packet, self._memory, self._rights, self._limits.subscriptions)
        actions += granted
        self._tell(explained(answer, self._version, self._most_explained))

    def unsubscribe(self, packet: Unsubscribe, actions: list[Action]) -> None:
        """It does not any more. Raises `ProtocolError`."""
        check_answer(len(packet.filters), self._outgoing.largest)
        answer, ended = unsubscribe(packet, self._memory)
        actions += ended
        self._tell(encode(answer, self._version))

    def _tell(self, packet: bytes) -> None:
        if not self._memory.durable:
            self._outgoing.send(packet)
        elif self.owed is None:
            self.owed = [packet]
        else:
            self.owed.append(packet)
