"""Who comes in: every CONNECT is looked at here, and here is known which clients are there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from millstream.actor import Actor
from millstream.errors import LogError, NotAuthorizedError
from millstream.gateway.ingest.ingest import Ingest
from millstream.gateway.listeners.auth import (
    Authenticator,
    BusyError,
    Credentials,
    Identity,
    NotAuthenticatedError,
    TooManyFailuresError,
)
from millstream.gateway.listeners.connection import Connection, Pause
from millstream.gateway.sessions.kept import NEVER
from millstream.gateway.sessions.roster import TooManySessionsError
from millstream.gateway.sessions.sessions import Sessions
from millstream.mqtt import Reason, SessionLimits, session_expiry
from millstream.mqtt.packet import Connect
from millstream.rights import Right
from millstream.settings import Settings

if TYPE_CHECKING:
    from millstream.gateway.devices.guests import Guests


Refused = Callable[[Actor, str, str], None]
"""Told who was refused, the code of the error, and why."""


class Admission:
    """Lets at most so many clients in. One that comes again under its identifier takes the place of its other
    connection; another user's place it does not get."""

    def __init__(
        self,
        most: int,
        limits: SessionLimits,
        authenticator: Authenticator,
        sessions: Sessions,
        ingest: Ingest,
        guests: Guests | None,
        refused: Refused | None = None,
    ) -> None:
        """`refused` is told of each who is not let in."""
        self._most = most
        self._limits = limits
        self._authenticator = authenticator
        self._sessions = sessions
        self._ingest = ingest
        self._guests = guests
        self._refused = refused
        self._clients: dict[str, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._clients)

    async def close(self) -> None:
        """Check nobody any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def admit(self, connection: Connection, connect: Connect) -> None:
        """A client wants in."""
        client_id = connect.client_id or f"auto-{secrets.token_hex(8)}"
        if self._is_full(client_id):
            self._turn_away(connection)
            return
        credentials = Credentials(
            connect.user_name, connect.password, client_id, connection.certificate, connection.address
        )
        known = self._authenticator.recall(credentials)
        if known is not None and (self._sessions.is_ready or not session_expiry(connect, self._limits)):
            self._accept(connection, connect, client_id, known)
        else:
            connection.pause(Pause.AUTHENTICATING)
            self._spawn(self._authenticate(connection, connect, credentials))

    def left(self, connection: Connection) -> bool:
        """A connection is over. Whether a client was there by it, and no other one has taken its place."""
        if self._clients.get(connection.client_id) is not connection:
            return False
        del self._clients[connection.client_id]
        return True

    # ---

    def _is_full(self, client_id: str) -> bool:
        return len(self._clients) >= self._most and client_id not in self._clients

    def _turn_away(self, connection: Connection) -> None:
        connection.end(Reason.SERVER_BUSY, "too many connections, see setting 'limits.connections'")

    async def _authenticate(self, connection: Connection, connect: Connect, credentials: Credentials) -> None:
        try:
            identity = await self._authenticator.authenticate(credentials)
            if session_expiry(connect, self._limits):
                await self._sessions.make_ready()
        except NotAuthenticatedError as error:
            self._tell(credentials, "unauthorized", str(error))
            connection.end(Reason.BAD_USER_NAME_OR_PASSWORD, str(error))
        except TooManyFailuresError as error:
            self._tell(credentials, "too_many_requests", str(error))
            connection.end(Reason.SERVER_BUSY, str(error))
        except BusyError as error:
            connection.end(Reason.SERVER_BUSY, str(error))
        except LogError as error:  # a full disk, say
            connection.end(Reason.SERVER_BUSY, f"its session cannot be kept now: {error}")
        else:
            if not connection.is_waiting:
                return
            if self._is_full(credentials.client_id):  # by those who were checked meanwhile
                self._turn_away(connection)
            else:
                self._accept(connection, connect, credentials.client_id, identity)

    def _accept(self, connection: Connection, connect: Connect, client_id: str, identity: Identity) -> None:
        why = self._forbidden(connect, client_id, identity)
        if why is not None:
            connection.end(Reason.NOT_AUTHORIZED, why)
            return
        before = self._clients.get(client_id)
        if before is not None:
            before.end(Reason.SESSION_TAKEN_OVER, "the client identifier has connected again")
        self._clients[client_id] = connection
        connection.client_id, connection.user = client_id, identity.name
        if self._guests is not None and identity.admitted is not None:
            self._guests.came(connection, identity.admitted, client_id)
        elif self._guests is not None and identity.applicant is not None:
            self._guests.applied(connection, identity.applicant)
        expiry = session_expiry(connect, self._limits)
        try:
            present, changes = self._sessions.open(connection, client_id, identity, connect, expiry)
        except TooManySessionsError as error:
            connection.end(Reason.QUOTA_EXCEEDED, str(error))
            return
        if not changes:
            connection.accept(client_id, identity.rights)
        else:  # what is kept of it is on disk before it is told
            connection.pause(Pause.AUTHENTICATING)
            self._ingest.after_commit(lambda: connection.accept(client_id, identity.rights, present=present))

    def _forbidden(self, connect: Connect, client_id: str, identity: Identity) -> str | None:
        """Why a client may not come in so, if it may not."""
        if connect.will is not None:
            try:
                identity.rights.check(Right.PUBLISH, connect.will.topic)
            except NotAuthorizedError as error:
                return f"will: {error}"
        before = self._clients.get(client_id)
        if before is not None and before.user != identity.name:
            return f"client identifier {client_id!r} is in use by another user"
        return None

    def _tell(self, credentials: Credentials, code: str, why: str) -> None:
        if self._refused is not None:
            shown = credentials.certificate
            name = credentials.user_name if shown is None else shown.common_name
            self._refused(Actor(name, "MQTT CONNECT", credentials.address), code, why)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def session_limits(settings: Settings) -> SessionLimits:
    """The settings that concern one session."""
    limits = settings.limits
    return SessionLimits(
        packet_bytes=limits.packet_bytes,
        session_bytes=limits.session_bytes,
        receive_maximum=limits.receive_maximum,
        publish_maximum=limits.publish_maximum,
        subscriptions=limits.subscriptions,
        connect_timeout=limits.connect_timeout.total_seconds(),
        max_keep_alive=min(0xFFFF, round(limits.max_keep_alive.total_seconds())),
        topic_aliases=limits.topic_aliases,
        client_messages=limits.client_messages,
        client_bytes=limits.client_bytes,
        max_session_expiry=min(NEVER, round(settings.sessions.max_expiry.total_seconds())),
    )
