"""One MQTT connection: a session with its socket.

There is no task and no timer for a connection: what comes is taken in where the event loop delivers it, PUBACKs are
written by the ingest and messages by the fan-out, and one sweep looks at the clock for all (`mqtt_listener`).
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from millstream.gateway.listeners.auth import ShownCertificate
from millstream.gateway.listeners.tls import is_revoked, shown_by
from millstream.mqtt import (
    Allowance,
    Bundle,
    Ended,
    Granted,
    Message,
    Outcome,
    Reason,
    Session,
    State,
    Version,
)
from millstream.rights import Rights
from millstream.topic import filter_matches

if TYPE_CHECKING:
    from cryptography.x509 import CertificateRevocationList

    from millstream.gateway.listeners.mqtt_listener import MqttListener
    from millstream.gateway.sessions.kept import Kept

_log = logging.getLogger(__name__)

_UNREAD_BYTES = 64 << 10  # that the socket does not take; asyncio pauses writing there, too
_LINGER = 5.0  # seconds that a peer has to read what it was told before its connection is cut


# Slow to look up, for what is looked up with every message.
_CONNECTED, _ENDED = State.CONNECTED, State.ENDED
_SENT, _OVERFLOW = Outcome.SENT, Outcome.OVERFLOW


class Pause(enum.IntFlag):
    """Why nothing is read from a connection."""

    FULL = 1  # too much waits for its commit, over all connections
    UNREAD = 2  # the peer does not read what we write: it may not ask for more answers
    AUTHENTICATING = 4  # it shall wait for its CONNACK
    QUICK = 8  # it has sent more than its allowance


_UNREAD = int(Pause.UNREAD)  # a flag is slow to work with, likewise


class Connection(asyncio.Protocol):
    """A client's connection; `listener` is what all of them share."""

    __slots__ = (
        "_acting",
        "_cut_at",
        "_intake",
        "_listener",
        "_pauses",
        "_transport",
        "buffered",
        "certificate",
        "client_id",
        "incoming",
        "kept",
        "outgoing",
        "retained",
        "session",
        "taker",
        "user",
    )

    def __init__(self, listener: MqttListener) -> None:
        self._listener = listener
        self._intake = listener.intake
        self._acting = listener.acting
        self._transport: asyncio.Transport | None = None
        self._pauses = 0
        self.buffered = 0  # bytes of an incomplete packet that are accounted for
        self._cut_at = 0.0
        self.session: Session = listener.new_session()
        self.incoming, self.outgoing = self.session.incoming, self.session.outgoing
        self.client_id = ""
        self.user: str | None = None
        """Who has come in by it."""
        self.certificate: ShownCertificate | None = None
        """What the client has shown."""
        self.kept: Kept | None = None
        """Its session, if that is one that is kept."""
        self.taker: Kept | None = None
        """What takes messages from the queue: its session, or one for its shared subscriptions only."""
        self.retained: dict[tuple[str, str], Granted] | None = None
        """Topics whose retained messages it has to get, each with the filter of the subscription."""

    @property
    def version(self) -> Version:
        """What the client speaks."""
        return self.session.version

    @property
    def address(self) -> str:
        """Where the client is."""
        peer = None if self._transport is None else self._transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    @property
    def has_queue(self) -> bool:
        """Whether it gets messages of QoS 1 and 2 from the queue."""
        return self.kept is not None

    @property
    def is_open(self) -> bool:
        """Whether the client is in, and can be told something."""
        return self._transport is not None and self.session.state is _CONNECTED

    @property
    def is_waiting(self) -> bool:
        """Whether the client waits to be let in."""
        return self._transport is not None and self.session.state is State.AUTHENTICATING

    @property
    def takes_messages(self) -> bool:
        """Whether it is, and reads what we write."""
        return (
            self._transport is not None
            and self.session.state is _CONNECTED
            and not self._pauses & _UNREAD
            and self._transport.get_write_buffer_size() < _UNREAD_BYTES
        )

    @property
    def has_room(self) -> bool:
        """Whether it takes messages, and its window has room for one of QoS 1 or 2."""
        return self.session.outgoing.quota > 0 and self.takes_messages

    def hears(self, topic: str) -> bool:
        """Whether the client has a subscription of its own that a topic matches."""
        return any(filter_matches(granted.filter, topic) for granted in self.session.subscriptions)

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.certificate = shown_by(transport)
        self._listener.opened(self)

    def data_received(self, data: bytes) -> None:
        self._intake.add(self, data)
        allowance = self.incoming.allowance
        allowance.size -= len(data)
        if allowance.size < 0 or allowance.messages < 0:
            self._listener.throttle.used_up(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._intake.take()  # the client may have said goodbye
        if self.session.state is not State.ENDED:
            self.leave(self.session.lost())
        self._transport = None
        self._listener.closed(self)

    def pause_writing(self) -> None:
        self.pause(Pause.UNREAD)

    def resume_writing(self) -> None:
        self.resume(Pause.UNREAD)
        if self.taker is not None:
            self._listener.sessions.pump(self.taker)
        self._listener.sessions.send_retained(self)

    # --- what the gateway calls

    @property
    def allowance(self) -> Allowance:
        """What it may still send."""
        return self.incoming.allowance

    def slow_down(self, text: str) -> None:
        """Read nothing until `go_on`, and tell the client why."""
        self.pause(Pause.QUICK)
        self.incoming.tell(text)

    def go_on(self) -> None:
        """Read again."""
        self.resume(Pause.QUICK)

    def receive(self, data: bytes, position: int) -> None:
        """Take what was read, from a position on, and do what it asks for. What fails here is our fault, and ends this
        connection alone."""
        try:
            actions = self.session.receive(data, position, self._listener.ingest.gathering.arrivals, self)
            answers, owes = self.session.answers, False
            if answers is not None and answers.owed:
                owes = True  # before what else waits for the commit: SUBACK comes before retained messages
                self._listener.ingest.after_commit(partial(self._pay, answers.take()))
            for action in actions:
                self._acting.act(self, action)
            if self.session.rest or self.buffered:
                self._account()
            if self.taker is not None:
                self._listener.sessions.received(self.taker)
            if self.retained and not owes:
                self._listener.sessions.send_retained(self)
            if self.session.outgoing.output:
                self.flush()
        except Exception:
            _log.exception("client %r is cut off after an error", self.client_id)
            self.abort()

    def accept(self, client_id: str, rights: Rights, *, present: bool = False) -> None:
        """Let the client in, and take what it sent behind its CONNECT. Nothing happens if it has gone."""
        if self.session.state is not State.AUTHENTICATING:
            return
        memory = self.kept.memory if self.kept is not None else None
        self.session.accept(client_id, rights, memory, present=present)
        self._acting.resumed(self)
        self.resume(Pause.AUTHENTICATING)
        self._acting.came(self)
        self.receive(b"", 0)
        self._listener.ingest.came()

    def acknowledge(self, answers: Sequence[bytes]) -> None:
        """Write acknowledgements of messages that are committed."""
        for packets in answers:
            self.incoming.answered(packets)
        self._tell(b"".join(answers))

    def explain(self, acknowledgement: bytes, text: str) -> bytes:
        """See `Publisher`."""
        return self.incoming.explain(acknowledgement, text)

    def deliver(self, message: Message, qos: int) -> Outcome:
        """Take a message, to be written with the next `flush`. One that overflows ends the connection."""
        if not self.outgoing.output and not self._begin_writing():
            return Outcome.DROPPED
        outcome = self.outgoing.deliver(message, qos)
        if outcome is _OVERFLOW:
            self.end(Reason.QUOTA_EXCEEDED, "too slow: more messages wait than setting 'limits.session_bytes' allows")
        return outcome

    def deliver_all(self, bundle: Bundle, qos: int) -> int:
        """Take messages, likewise and in their order. How many were taken."""
        if not qos and (self.outgoing.output or self._begin_writing()) and self.outgoing.deliver_together(bundle):
            return len(bundle.messages)
        return sum(self.deliver(message, qos) is _SENT for message in bundle.messages)

    def flush(self) -> None:
        """Write what the session has to say."""
        data = self.session.outgoing.take()
        if self._transport is not None and data and not self._transport.is_closing():
            self._transport.write(data)

    def end(self, reason: Reason, text: str) -> None:
        """End the connection for a reason of the server's."""
        if self.session.state is not State.ENDED:
            self.leave(self.session.end(reason, text))

    def leave(self, ended: Ended) -> None:
        """The session has ended: say what there is to say, take it out of everything, and close."""
        self.flush()
        self._acting.left(self, ended)
        if self._transport is not None:
            self._cut_at = self._listener.clock.monotonic() + _LINGER
            self._transport.close()

    def is_revoked(self, lists: Sequence[CertificateRevocationList]) -> bool:
        """Whether the certificate that the client has shown is on one of these lists."""
        return self.certificate is not None and self._transport is not None and is_revoked(self._transport, lists)

    def abort(self) -> None:
        """Cut the connection, without a word."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self, why: Pause) -> None:
        """Read nothing for this reason."""
        if not self._pauses and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._pauses |= int(why)

    def resume(self, why: Pause) -> None:
        """This reason has gone."""
        if self._pauses == why and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._pauses &= ~int(why)

    def look_at_clock(self, now: float) -> None:
        """End it if it was silent for too long, and cut it if it does not take its end. `now` in seconds."""
        if self.session.state is _ENDED:
            if now >= self._cut_at:
                self.abort()
        elif self._pauses & ~_UNREAD:
            self.incoming.active = True  # it is we who do not listen
        elif (ended := self.session.overdue(now)) is not None:
            self.leave(ended)

    # ---

    def _begin_writing(self) -> bool:
        """See how much is unwritten before there is more to write. False: it has ended, and nothing can be written."""
        if self._transport is None or self.session.state is not _CONNECTED:
            return False
        self.outgoing.unwritten = self._transport.get_write_buffer_size()
        return True

    def _tell(self, packets: bytes) -> None:
        """Write answers to what is committed."""
        if self._transport is not None and self.session.state is _CONNECTED:
            self._transport.write(packets)

    def _pay(self, answers: bytes) -> None:
        """Write what was owed, and what had to wait for that."""
        self._tell(answers)
        if self.retained:
            self._listener.sessions.send_retained(self)

    def _account(self) -> None:
        """Incomplete packets of all connections together have a bound as well."""
        buffered = len(self.session.rest)
        self._listener.buffered += buffered - self.buffered
        self.buffered = buffered
        if self._listener.buffered > self._listener.largest_buffered:
            self.end(Reason.QUOTA_EXCEEDED, "too many incomplete packets, see setting 'limits.pending_bytes'")
