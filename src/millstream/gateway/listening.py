"""Opening a listening socket, with errors that name the setting."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable

from millstream.errors import SettingsError
from millstream.settings import host_and_port

_HANDSHAKE_SECONDS = 10.0

_WHAT = {
    errno.EADDRINUSE: "is in use; stop the program that uses it, or choose another port (0 takes a free one)",
    errno.EADDRNOTAVAIL: "is no address of this machine; 0.0.0.0 stands for all of them",
    errno.EACCES: "may not be used by this user; ports below 1024 are reserved, choose a higher one",
}


async def listen(
    protocol: Callable[[], asyncio.BaseProtocol],
    address: str,
    setting: str,
    backlog: int,
    context: ssl.SSLContext | None = None,
) -> tuple[asyncio.Server, tuple[str, int]]:
    """A server on `HOST:PORT`, by TLS if there is a context, and where it really listens. `SettingsError` naming the
    setting if it cannot."""
    bound = bind(address, setting)
    try:
        server = await asyncio.get_running_loop().create_server(
            protocol,
            sock=bound,
            backlog=backlog,
            ssl=context,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if context is not None else None,
        )
    except BaseException:
        bound.close()
        raise
    return server, where(bound)


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
