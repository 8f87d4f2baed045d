"""The bus over a Unix-domain socket: where a process serves, and how another one connects."""

from __future__ import annotations

import asyncio
from pathlib import Path

from millstream.bus import Handler
from millstream.errors import LogUnavailableError
from millstream.runtime.endpoint import bind, short_path
from millstream.runtime.peer import SocketPeer, register


class SocketBus:
    """Serves subjects for every process that connects to its socket; see `millstream.bus.Bus`.

    Serve the subjects before `listen`, or the first to connect may call in vain."""

    def __init__(self) -> None:
        self._subjects: dict[str, Handler] = {}
        self._peers: set[SocketPeer] = set()
        self._server: asyncio.AbstractServer | None = None
        self._path: Path | None = None

    def serve(self, subject: str, handler: Handler) -> None:
        """Answer requests and take notices on a subject. One handler a subject."""
        register(self._subjects, subject, handler)

    @property
    def peers(self) -> frozenset[SocketPeer]:
        """Those that are connected."""
        return frozenset(self._peers)

    async def listen(self, path: Path) -> None:
        """Accept connections at a socket that only this user can open. What stands at `path` is removed: the caller
        holds the folder's lock, so it is a dead server's."""
        listening = bind(path)
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(self._peer, sock=listening)
        except BaseException:
            listening.close()
            raise
        self._path = path

    async def close(self) -> None:
        """Stop listening, end every connection, remove the socket. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        await asyncio.gather(*(peer.close() for peer in self._peers))
        await self._server.wait_closed()
        self._server = None

    def _peer(self) -> SocketPeer:
        return SocketPeer(self._subjects, self._joined)

    def _joined(self, peer: SocketPeer) -> None:
        self._peers.add(peer)
        peer.on_close(lambda: self._peers.discard(peer))


async def connect(path: Path) -> SocketPeer:
    """Connect to the bus at a socket. `LogUnavailableError` if nobody listens there."""
    loop = asyncio.get_running_loop()
    subjects: dict[str, Handler] = {}
    try:
        with short_path(path) as short:
            _, peer = await loop.create_unix_connection(lambda: SocketPeer(subjects), short)
    except (FileNotFoundError, ConnectionError) as error:
        raise LogUnavailableError(
            f"no server runs on the data folder {str(path.parent)!r}; start one with: "
            f"millstream run --data {path.parent}"
        ) from error
    except PermissionError as error:
        raise LogUnavailableError(f"{path} belongs to another user's server; run this as that user") from error
    return peer
