"""The application: the parts' routes in one table, one shape for every error, and the date on every answer."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import format_datetime
from functools import lru_cache
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millstream.clock import SECOND, Clock, to_datetime
from millstream.gateway.http.answer import FAULTS, fail, nothing_there, refuse, tell


class Part(Protocol):
    """Endpoints that belong together."""

    def routes(self) -> list[BaseRoute]:
        """Where they are."""
        ...


def make_app(parts: Iterable[Part], clock: Clock) -> ASGIApp:
    """An ASGI application of these parts."""
    routes = [route for part in parts for route in part.routes()]
    handlers: dict[Any, Any] = {HTTPException: refuse, Exception: fail, **dict.fromkeys(FAULTS, tell)}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.router.default = nothing_there
    return _dated(app, clock)


def _dated(app: ASGIApp, clock: Clock) -> ASGIApp:
    """The `Date` that HTTP asks for (RFC 9110, 6.6.1), by our own clock."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message["headers"] = [*message["headers"], (b"date", _date(clock.now() // SECOND))]
            await send(message)

        await app(scope, receive, send_dated)

    return call


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return format_datetime(to_datetime(second * SECOND), usegmt=True).encode()
