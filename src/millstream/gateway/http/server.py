"""uvicorn inside of an event loop that is ours: it neither handles signals nor wakes up ten times a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from socket import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from millstream.gateway.http.access import CERTIFICATE
from millstream.gateway.listeners.auth import ShownCertificate
from millstream.gateway.listeners.listening import bind, where
from millstream.gateway.listeners.tls import shown_by

_PING_SECONDS = 20.0
_LARGEST_HEAD = 1 << 16  # bytes of a request's line and headers, or of what else frames a body; as h11 has it
_LARGEST_MESSAGE = 1 << 16  # bytes that a client may say by WebSocket, where it has nothing to say
_LINGER = 2.0  # seconds that a client has, when the server stops, to take what is written for it


class HttpServer:
    """Serves an application; `start` and `stop` once each."""

    def __init__(self, app: ASGIApp, drain_seconds: float) -> None:
        config = uvicorn.Config(
            app,
            http=_Http,
            ws=_WebSockets,
            ws_max_size=_LARGEST_MESSAGE,
            ws_per_message_deflate=False,  # it would cost each connection memory, and the event loop time
            ws_ping_interval=_PING_SECONDS,
            ws_ping_timeout=None,  # a client that is busy may be slow; TCP notices a dead one
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,  # its clock ticks with the loop that we do not run; the application sets it
            timeout_graceful_shutdown=max(1, round(drain_seconds)),
        )
        self._config = config
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self, address: str) -> tuple[str, int] | None:
        """Listen, and give the address; without one, serve only the connections that others accept. `SettingsError` if
        it cannot be."""
        bound = bind(address, "http") if address else None
        sockets = [] if bound is None else [bound]
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=sockets))
        await self._server.begun.wait()
        return None if bound is None else where(bound)

    def protocol(self) -> asyncio.Protocol:
        """One for a connection that somebody else has accepted."""
        return _Http(self._config, self._server.server_state, {})

    async def stop(self) -> None:
        """Stop accepting, finish the requests under way, and close. A client that does not take its answer is cut."""
        if self._task is not None:
            self._server.ending.set()
            await asyncio.wait([self._task], timeout=_LINGER)
            self._server.cut_slow()
            await self._task


class _Http(HttpToolsProtocol):
    """The bound that the parser has not: a head without an end would be kept for ever. And the certificate that the
    client has shown, in the state of its requests."""

    _aside = 0  # bytes that were read since a head was complete or something of a body came
    _certificate: ShownCertificate | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._certificate = shown_by(transport)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][CERTIFICATE] = self._certificate

    def data_received(self, data: bytes) -> None:
        self._aside += len(data)
        super().data_received(data)
        if self._aside > _LARGEST_HEAD and not self.transport.is_closing():
            self.send_400_response(f"The request line and headers have more than {_LARGEST_HEAD} bytes.")

    def on_headers_complete(self) -> None:
        self._aside = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._aside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._aside = 0
        super().on_message_complete()


class _WebSockets(WebSocketsSansIOProtocol):
    async def send(self, message: Any) -> None:
        """Note that a handshake which is answered with an error is complete: uvicorn forgets it, and logs an error."""
        await super().send(message)
        self.handshake_complete = self.handshake_complete or self.close_sent


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()
        self.ending = asyncio.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()

    async def main_loop(self) -> None:
        await self.ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def cut_slow(self) -> None:
        """Cut the connections on which something waits to be written."""
        for connection in list(self.server_state.connections):
            if connection.transport.get_write_buffer_size():
                connection.transport.abort()
