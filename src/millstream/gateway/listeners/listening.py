"""Listening sockets, with errors that name the setting."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from millstream.errors import SettingsError
from millstream.gateway.listeners.tls import Certificate
from millstream.settings import host_and_port

_HANDSHAKE_SECONDS = 10.0

_WHAT = {
    errno.EADDRINUSE: "is in use; stop the program that uses it, or choose another port (0 takes a free one)",
    errno.EADDRNOTAVAIL: "is no address of this machine; 0.0.0.0 stands for all of them",
    errno.EACCES: "may not be used by this user; ports below 1024 are reserved, choose a higher one",
}


class Door:
    """A listening socket, by TLS if there is a certificate: when its files change, connections from then on get the new
    one. `open`, then `close`."""

    def __init__(
        self, protocol: Callable[[], asyncio.BaseProtocol], backlog: int, certificate: Certificate | None = None
    ) -> None:
        self._protocol = protocol
        self._backlog = backlog
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self.certificate = certificate

    async def open(self, address: str, setting: str) -> tuple[str, int]:
        """Listen on `HOST:PORT`, and tell where really. `SettingsError` naming the setting if it cannot."""
        self._socket = bind(address, setting)
        try:
            self._server = await self._listen(self._socket)
        except BaseException:
            self._socket.close()
            raise
        return where(self._socket)

    async def refresh(self) -> bool:
        """Take on files that have changed; whether any have. `SettingsError`: they cannot be used, and the old ones
        stay."""
        if self._socket is None or self.certificate is None or not self.certificate.refresh():
            return False
        before, self._server = self._server, await self._listen(self._socket)
        if before is not None:
            before.close()
        return True

    def close(self) -> None:
        """Accept nobody any more. Idempotent."""
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            self._socket.close()
        self._server = self._socket = None

    async def _listen(self, bound: socket.socket) -> asyncio.Server:
        """A server on a copy of the socket, since it closes its own with itself."""
        context = self.certificate.context if self.certificate is not None else None
        return await asyncio.get_running_loop().create_server(
            self._protocol,
            sock=bound.dup(),
            backlog=self._backlog,
            ssl=context,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if context is not None else None,
        )


def bind(address: str, setting: str) -> socket.socket:
    """A socket bound to `HOST:PORT`."""
    host, port = host_and_port(address, setting)
    bound = None
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except OSError as error:
        if bound is not None:
            bound.close()
        reason = _WHAT.get(error.errno or 0, f"cannot be listened on: {error.strerror or error}")
        raise SettingsError(f"setting {setting!r}: {address} {reason}") from None
    bound.setblocking(False)
    return bound


def where(bound: socket.socket) -> tuple[str, int]:
    """The host and port of a bound socket."""
    host, port = bound.getsockname()[:2]
    return host, port
