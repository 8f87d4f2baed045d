"""`/streams/{name}/tail` by WebSocket (RFC 6455): a stream, live.

Each message is JSON: `{"events": [ … ], "positions": "12,40"}`; the first has no events, and says where the tail
begins. Who comes back `from` the last positions misses nothing. To a client that offers the subprotocol of the
CloudEvents WebSockets binding each message is an event; the header `Millstream-Positions` says where the tail begins.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.status import WS_1012_SERVICE_RESTART
from starlette.websockets import WebSocket, WebSocketDisconnect

from millstream.event import Event
from millstream.event_json import event_json
from millstream.gateway.cloudevents import write_event
from millstream.gateway.http.access import Access
from millstream.gateway.http.parameters import Parameters
from millstream.gateway.http.readers import Readers, first
from millstream.gateway.http.tail import Positions, Tail, find_tail
from millstream.gateway.http.tails import POSITIONS, TAIL
from millstream.log import LATEST, Log
from millstream.rights import Right

CLOUD_EVENTS = "cloudevents.json"


class Sockets:
    """Follows streams."""

    def __init__(self, log: Log, access: Access, readers: Readers) -> None:
        self._log = log
        self._access = access
        self._readers = readers

    def routes(self) -> list[BaseRoute]:
        """Where WebSockets are opened."""
        return [WebSocketRoute("/streams/{name:path}/tail", self._tail)]

    async def _tail(self, socket: WebSocket) -> None:
        _check_origin(socket)
        await self._access.admit(socket, Right.READ, socket.path_params["name"])
        asked = Parameters(socket, TAIL)
        attributes = asked.flag("attributes")
        name, start = socket.path_params["name"], asked.text("from") or LATEST
        positions = await find_tail(self._log, name, asked.partition(), start)
        subprotocol = CLOUD_EVENTS if CLOUD_EVENTS in socket.scope["subprotocols"] else None
        with self._readers.admitted():
            await socket.accept(subprotocol, [(POSITIONS.encode(), str(positions).encode())])
            with contextlib.suppress(WebSocketDisconnect):
                tail = Tail(self._log, name, positions, self._readers)
                messages = _cloud_events(tail) if subprotocol else _batches(tail, positions, attributes)
                await first(_send(socket, messages), _closed(socket))
                await socket.close(WS_1012_SERVICE_RESTART, "come back, from the last positions")


async def _send(socket: WebSocket, messages: AsyncGenerator[bytes, None]) -> None:
    """Each message waits until the client has taken those before. The connection itself is kept alive by pings."""
    async with contextlib.aclosing(messages):
        async for message in messages:
            await socket.send_text(message.decode())


async def _batches(tail: Tail, positions: Positions, attributes: bool) -> AsyncGenerator[bytes, None]:
    yield _batch([], positions, attributes)
    async with contextlib.aclosing(tail.pieces()) as pieces:
        async for piece in pieces:
            for event in piece:
                positions.pass_by(event)
            if piece:
                yield _batch(piece, positions, attributes)


def _batch(events: list[Event], positions: Positions, attributes: bool) -> bytes:
    written = b",".join([event_json(event, attributes) for event in events])
    return b'{"events":[%s],"positions":"%s"}' % (written, str(positions).encode())


async def _cloud_events(tail: Tail) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(tail.pieces()) as pieces:
        async for piece in pieces:
            for event in piece:
                yield write_event(event)


async def _closed(socket: WebSocket) -> None:
    """Return when the client has gone. It has nothing to say but that."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _check_origin(socket: WebSocket) -> None:
    """A page of another site must not read through the browser of who visits it: browsers ask nobody before they open
    a WebSocket, and show the user's password (RFC 6455, 10.2)."""
    origin = socket.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != socket.headers.get("host"):
        raise HTTPException(403, f"a page from {origin} may not open a WebSocket here; serve it from the same address")
