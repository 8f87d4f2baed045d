"""Where MQTT clients connect: the listening socket, and everything that its connections share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from millstream.clock import Clock
from millstream.errors import SettingsError
from millstream.gateway.ingest.ingest import Ingest
from millstream.gateway.ingest.intake import Intake
from millstream.gateway.listeners.acting import Acting
from millstream.gateway.listeners.admission import Admission, Refused, session_limits
from millstream.gateway.listeners.auth import Authenticator
from millstream.gateway.listeners.connection import Connection, Pause
from millstream.gateway.listeners.listening import Door
from millstream.gateway.listeners.throttle import Throttle
from millstream.gateway.listeners.tls import Certificate
from millstream.gateway.listeners.websocket import WebSocket
from millstream.gateway.pubsub.broker_topics import BrokerTopics
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.sessions.sessions import Sessions
from millstream.gateway.statistics import Statistics
from millstream.mqtt import Reason, Session
from millstream.settings import ListenerSettings, Settings

if TYPE_CHECKING:
    from millstream.gateway.devices.guests import Guests

_log = logging.getLogger(__name__)

_BACKLOG = 4_096  # connections that the kernel holds while we are busy: a site comes back at once after an outage
_QUIET = 60.0  # seconds between lines in the log about what any stranger may do wrong
_SWEEP = 1.0  # seconds between looks at the clock
_WEBSOCKET_MESSAGE = 64 << 10  # beside two packets of the largest size; clients put one packet, or a few, in a message
_REFUSABLE = 256  # connections beyond the limit that are told so; further ones are cut


class MqttListener:
    """Accepts connections, and looks after them."""

    def __init__(
        self,
        settings: Settings,
        ingest: Ingest,
        fan_out: FanOut,
        sessions: Sessions,
        authenticator: Authenticator,
        statistics: Statistics,
        broker_topics: BrokerTopics,
        clock: Clock,
        guests: Guests | None = None,
        refused: Refused | None = None,
    ) -> None:
        limits = settings.limits
        self.ingest = ingest
        self.intake = Intake(ingest, limits.packet_bytes)
        self.sessions = sessions
        self.clock = clock
        self.buffered = 0
        self.largest_buffered = limits.pending_bytes
        self._limits = session_limits(settings)
        self._most = limits.connections
        self.admission = Admission(limits.connections, self._limits, authenticator, sessions, ingest, guests, refused)
        self.acting = Acting(self.admission, fan_out, sessions, statistics, guests)
        self._statistics = statistics
        self._guests = guests
        self._broker_topics = broker_topics
        self.throttle = Throttle(self._limits.client_messages, self._limits.client_bytes, clock, statistics)
        self._connections: dict[Connection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping = False
        self._watching: asyncio.Task[None] | None = None
        self._held = False
        self._complain_at = 0.0
        self._doors: list[Door] = []
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def connected(self) -> int:
        """Clients that were let in and are there."""
        return len(self.admission)

    async def start(self, address: str) -> tuple[str, int]:
        """Listen by TCP, and give the address. `SettingsError` if it cannot be."""
        return await self._open(Door(self._make, _BACKLOG), address, "mqtt")

    async def add(self, settings: ListenerSettings, http: Callable[[], asyncio.BaseProtocol]) -> tuple[str, int]:
        """Listen at a further address, likewise; `http` makes what speaks that."""
        certificate = Certificate(settings, self._failed_handshake) if settings.is_secure else None
        makers = {"ws": self._make_websocket, "wss": self._make_websocket, "https": http}
        make = makers.get(settings.protocol, self._make)
        where = await self._open(Door(make, _BACKLOG, certificate), settings.address, "listeners")
        if certificate is not None and self._watching is None:
            self._watching = self._spawn(self._watch_certificates())
        return where

    async def _open(self, door: Door, address: str, setting: str) -> tuple[str, int]:
        where = await door.open(address, setting)
        self._doors.append(door)
        return where

    def _make(self) -> Connection:
        return Connection(self)

    def _make_websocket(self) -> WebSocket:
        return WebSocket(Connection(self), _WEBSOCKET_MESSAGE + 2 * self._limits.packet_bytes)

    def stop_accepting(self) -> None:
        """Close the listening sockets."""
        for door in self._doors:
            door.close()

    def hold(self, held: bool) -> None:
        """Stop reading from all connections, or go on."""
        self._held = held
        for connection in self._connections:
            if held:
                connection.pause(Pause.FULL)
            else:
                connection.resume(Pause.FULL)

    async def close(self, linger: float) -> None:
        """End all connections; those that do not take it within `linger` seconds are cut."""
        self.stop_accepting()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections):
            connection.end(Reason.SERVER_SHUTTING_DOWN, "the server is shutting down")
        cut = self._spawn(self._cut(linger))
        await self._empty.wait()
        cut.cancel()
        await self.throttle.close()
        await self.admission.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def abort(self) -> None:
        """Cut all connections: nothing is acknowledged any more."""
        self.stop_accepting()
        for connection in list(self._connections):
            connection.abort()

    # --- what connections call

    def new_session(self) -> Session:
        """The session of a connection that was just made."""
        return Session(self._limits, self.clock.monotonic())

    def opened(self, connection: Connection) -> None:
        """A connection was made."""
        self._connections[connection] = None
        self._empty.clear()
        if len(self._connections) > self._most + _REFUSABLE:
            connection.abort()
        elif self._held:
            connection.pause(Pause.FULL)
        if not self._sweeping:
            self._sweeping = True
            self._spawn(self._sweep())

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        del self._connections[connection]
        self.throttle.gone(connection)
        self.buffered -= connection.buffered
        if not self._connections:
            self._empty.set()

    # ---

    async def _sweep(self) -> None:
        """One timer for all connections, while there are any."""
        while self._connections:
            await self.clock.sleep(_SWEEP)
            now = self.clock.monotonic()
            self._broker_topics.look_at_clock()
            for connection in list(self._connections):
                if self._guests is not None and connection.incoming.active:
                    self._guests.heard(connection)
                connection.look_at_clock(now)
        self._sweeping = False

    def _failed_handshake(self, why: str) -> None:
        self._statistics.connections["tls_failed"] += 1
        now = self.clock.monotonic()
        if now >= self._complain_at:  # a device that is wrong comes again and again
            self._complain_at = now + _QUIET
            _log.warning("a client's TLS handshake failed: %s; others within %.0f s are only counted", why, _QUIET)

    async def _watch_certificates(self) -> None:
        while True:
            await self.clock.sleep(_SWEEP)
            for door in self._doors:
                try:
                    if await door.refresh():
                        _log.info("a certificate was read again")
                        self._cut_revoked(door)
                except SettingsError as error:
                    _log.error("%s; the old ones stay", error)

    def _cut_revoked(self, door: Door) -> None:
        lists = door.certificate.revoked if door.certificate is not None else ()
        for connection in list(self._connections) if lists else ():
            if connection.is_revoked(lists):
                connection.end(Reason.ADMINISTRATIVE_ACTION, "its certificate was revoked")

    async def _cut(self, linger: float) -> None:
        await self.clock.sleep(linger)
        self.abort()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
