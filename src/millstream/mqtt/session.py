"""One MQTT connection as the server sees it: a state machine without I/O and without a clock.

Bytes go in (`receive`), with the columns that published messages go to; what the owner has to do comes out as
actions, and what it has to write gathers in `outgoing`. Published messages are not acknowledged by the session: their
PUBACKs stand with them in the columns, in order (4.6), and the owner writes them once the messages are committed.

What outlives a connection is in its `memory`, which the owner gives to `accept`. A change of one that is `durable` must
be on disk before the client is told of it: `answers` has what is owed, and the owner writes that after the commit.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from millstream.mqtt.action import Action, Connecting, Ended, Granted
from millstream.mqtt.answers import Answers
from millstream.mqtt.decode import decode
from millstream.mqtt.encode import encode
from millstream.mqtt.handshake import (
    SessionLimits,
    accepted,
    because,
    check_connect,
    keep_alive,
    session_expiry,
)
from millstream.mqtt.incoming import Incoming
from millstream.mqtt.memory import Memory
from millstream.mqtt.outgoing import Outgoing
from millstream.mqtt.packet import (
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
    Subscribe,
    Unsubscribe,
    Version,
    Will,
)
from millstream.mqtt.permitted import PermittedTopics
from millstream.mqtt.reason import ProtocolError, Reason, refusal, violation
from millstream.mqtt.rest import Rest
from millstream.mqtt.scan import Arrivals, Publisher, scan, scan_acknowledgements
from millstream.mqtt.wire import beginning
from millstream.rights import EVERYTHING, Rights

_PUBLISH, _PUBACK = 3, 4
_TRACE_BYTES = 1024  # of a refused PUBLISH, for whoever wants to know what it was
_GRACE = 1.5  # times the keep-alive may nothing come (3.1.2.10)


class State(enum.Enum):
    """How far a connection is: each goes to the next, and from everywhere to ENDED."""

    CONNECTING = "connecting"  # nothing but a CONNECT may come
    AUTHENTICATING = "authenticating"  # it came; what follows waits for `accept`
    CONNECTED = "connected"
    ENDED = "ended"


# A member of an enumeration is slow to look up, for what is looked up with every read.
_CONNECTED = State.CONNECTED


class Session:
    """The state of one connection, made at `now` (seconds)."""

    __slots__ = (
        "_asked",
        "_expiry",
        "_heard",
        "_keep_alive",
        "_limits",
        "_will",
        "answers",
        "client_id",
        "incoming",
        "memory",
        "outgoing",
        "rest",
        "state",
        "version",
    )

    def __init__(self, limits: SessionLimits, now: float) -> None:
        self._limits = limits
        self._heard = now  # when the connection was last known to be alive
        self._keep_alive = 0
        self._expiry = 0  # of the session, in seconds
        self.rest = Rest()
        self._asked: Connect | None = None
        self._will: Will | None = None
        self.state = State.CONNECTING
        self.version = Version.V3_1_1
        self.client_id = ""
        self.incoming = Incoming(limits, now)
        self.outgoing = Outgoing(limits.receive_maximum, limits.session_bytes)
        self.answers: Answers | None = None  # from `accept` on
        self.memory: Memory | None = None

    @property
    def subscriptions(self) -> list[Granted]:
        """What the client is subscribed to."""
        return list(self.memory.subscriptions.values()) if self.memory is not None else []

    def accept(
        self, client_id: str, rights: Rights = EVERYTHING, memory: Memory | None = None, *, present: bool = False
    ) -> None:
        """Let the client in, under its own identifier or (if it gave none) another, into a new session or (`present`)
        one that was kept. It may do what its rights say."""
        asked, self._asked = self._asked, None
        assert asked is not None and self.state is State.AUTHENTICATING, self.state
        self.state = State.CONNECTED
        self.client_id = client_id
        self._will = asked.will
        self._keep_alive = keep_alive(asked, self._limits)
        self._expiry = session_expiry(asked, self._limits)
        self.memory = memory if memory is not None else Memory()
        its = asked.properties
        self.outgoing.accept(its.receive_maximum, its.maximum_packet_size, self.memory, its.topic_alias_maximum or 0)
        most_explained = self.outgoing.largest if its.request_problem_information != 0 else 0
        permitted = None if rights is EVERYTHING else PermittedTopics(rights)
        self.incoming.accept(self.version, self.memory, permitted, most_explained)
        self.answers = Answers(
            self.version, self._limits, rights, self.memory, self.incoming, self.outgoing, most_explained
        )
        if self.rest:
            self.incoming.expect_nothing_plain()
        self.outgoing.send(encode(accepted(asked, self._limits, client_id, present), self.version))

    def end(self, reason: Reason, text: str = "", *, rejected: bytes | None = None) -> Ended:
        """End the connection for a reason of the server's: tells the client if its version can be told. Idempotent.
        `rejected` is how a PUBLISH begins that is the reason."""
        if self.state is State.AUTHENTICATING:
            self._send_last(Connack(reason=refusal(reason), properties=because(text)))
        elif self.state is State.CONNECTED and self.version is Version.V5:
            self._send_last(Disconnect(reason=reason, properties=because(text)))
        return self._ended(reason, text, rejected)

    def lost(self) -> Ended:
        """The connection is gone."""
        return self._ended(Reason.UNSPECIFIED_ERROR, "the connection was lost")

    def overdue(self, now: float) -> Ended | None:
        """Look at the clock (seconds): the end of a connection that was silent for too long."""
        if self.state is _CONNECTED:
            if self.incoming.active:
                self.incoming.active = False
                self._heard = now
            elif self._keep_alive and now - self._heard > self._keep_alive * _GRACE:
                return self.end(Reason.KEEP_ALIVE_TIMEOUT, f"nothing came for {_GRACE} × {self._keep_alive} s")
        elif self.state is State.CONNECTING and now - self._heard > self._limits.connect_timeout:
            return self.end(Reason.UNSPECIFIED_ERROR, "no CONNECT came in time")
        return None

    def receive(self, data: bytes, position: int, arrivals: Arrivals, publisher: Publisher) -> Sequence[Action]:
        """Take bytes from the client, from a position on: `scan` has gone so far. An error of the protocol is not
        raised but an `Ended`, always the last action."""
        self.incoming.active = True
        if self.rest:
            together = self.rest.take(data)
            if together is None:
                return ()
            data = together
            if self.state is _CONNECTED:
                self.incoming.expect_plain()
        actions: list[Action] = []
        try:
            self.incoming.check_credit()
            while position < len(data):
                if self.state is _CONNECTED:
                    position = self._scan(data, position, arrivals, publisher)
                elif self.state is not State.CONNECTING:
                    break
                found = decode(data, position, version=self.version, limit=self._limits.packet_bytes)
                if found is None:
                    break
                self._handle(found[0], arrivals, publisher, actions)
                position = found[1]
        except ProtocolError as error:
            actions.append(self._refuse(error, data, position))
        if position < len(data) and self.state is not State.ENDED:
            self.incoming.expect_nothing_plain()
            self.rest.keep(
                data, position, self._limits.packet_bytes if self.state is not State.AUTHENTICATING else None
            )
        return actions

    def _scan(self, data: bytes, position: int, arrivals: Arrivals, publisher: Publisher) -> int:
        """The quick way for what comes most: PUBLISH, and PUBACK from a subscriber."""
        kind = data[position] >> 4
        if kind == _PUBLISH:
            stops = scan(((publisher, self.incoming, data, position),), self._limits.packet_bytes, arrivals)
            position = next((position for _, position in stops), len(data))
            self.incoming.check_credit()
        elif kind == _PUBACK:
            acknowledged: list[int] = []
            position = scan_acknowledgements(data, position, acknowledged)
            for packet_id in acknowledged:
                self.outgoing.acknowledge(packet_id)
        return position

    def _refuse(self, error: ProtocolError, data: bytes, position: int) -> Ended:
        if self.state is State.CONNECTING:
            # A CONNECT that does not decode is answered in the version that it claims; 3.1.1 has an answer only for a
            # wrong version (3.1.4), and other bytes get none.
            if data[position] == 0x10 and b"\0\4MQTT\5" in data[position : position + 12]:
                self.version = Version.V5
            if self.version is Version.V5 or error.reason is Reason.UNSUPPORTED_PROTOCOL_VERSION:
                self._send_last(Connack(reason=error.reason, properties=because(str(error))))
        rejected = self.state is State.CONNECTED and position < len(data) and data[position] >> 4 == _PUBLISH
        return self.end(
            error.reason, str(error), rejected=beginning(data, position, _TRACE_BYTES) if rejected else None
        )

    def _send_last(self, packet: Connack | Disconnect) -> None:
        data = encode(packet, self.version)
        if len(data) > self.outgoing.largest:  # the client takes no packet of this size (3.1.2.11.4): no explanation
            data = encode(type(packet)(reason=packet.reason), self.version)
        if len(data) <= self.outgoing.largest:
            self.outgoing.send(data)

    @property
    def _answers(self) -> Answers:
        assert self.answers is not None, "the client was let in"
        return self.answers

    def _ended(
        self, reason: Reason, text: str, rejected: bytes | None = None, session_expiry: int | None = None
    ) -> Ended:
        will, self._will = self._will, None
        self.state = State.ENDED
        self.incoming.expect_nothing_plain()
        return Ended(reason, text, will, rejected is not None, rejected or b"", session_expiry)

    def _handle(self, packet: Packet, arrivals: Arrivals, publisher: Publisher, actions: list[Action]) -> None:
        if self.state is State.CONNECTING:
            actions.append(self._connect(packet))
        elif isinstance(packet, Publish):
            if declined := self.incoming.publish(packet, arrivals, publisher):
                actions.append(declined)
        elif isinstance(packet, Puback):
            self.outgoing.acknowledge(packet.packet_id)
        elif isinstance(packet, Pubrec):
            self._answers.receive(packet)
        elif isinstance(packet, Pubrel):
            self._answers.release(packet)
        elif isinstance(packet, Pubcomp):
            self.outgoing.complete(packet.packet_id)
        elif isinstance(packet, Pingreq):
            self.outgoing.send(encode(Pingresp()))
        elif isinstance(packet, Subscribe):
            self._answers.subscribe(packet, actions)
        elif isinstance(packet, Unsubscribe):
            self._answers.unsubscribe(packet, actions)
        elif isinstance(packet, Disconnect):
            actions.append(self._disconnect(packet))
        else:  # a second CONNECT, steps of an authentication that never began, what only servers send
            raise violation(f"{type(packet).__name__.upper()} is not expected here")

    def _connect(self, packet: Packet) -> Action:
        if not isinstance(packet, Connect):
            raise violation(f"{type(packet).__name__.upper()} before CONNECT")
        self.version = packet.version
        self.state = State.AUTHENTICATING
        self._asked = packet
        self.outgoing.largest = packet.properties.maximum_packet_size or self.outgoing.largest
        try:
            check_connect(packet, self._limits)
        except ProtocolError as error:
            if self.version is Version.V3_1_1 and error.reason is Reason.TOPIC_NAME_INVALID:
                self.state = State.ENDED  # 3.1.1 has no return code for that, and so no answer (3.2.2.3)
            return self.end(error.reason, str(error))
        return Connecting(packet)

    def _disconnect(self, packet: Disconnect) -> Ended:
        expiry = packet.properties.session_expiry_interval
        if expiry and not self._expiry:  # 3.14.2.2.2
            raise violation("a session that was to end with its connection cannot be kept by DISCONNECT")
        if packet.reason is Reason.SUCCESS:
            self._will = None  # 3.14.4
        if expiry is not None:
            expiry = min(expiry, self._limits.max_session_expiry)
        return self._ended(packet.reason, "the client disconnected", session_expiry=expiry)
