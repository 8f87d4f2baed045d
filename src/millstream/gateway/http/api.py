"""The application: the parts' operations in one table, one shape for every error, and the date on every answer."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import format_datetime
from functools import lru_cache
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millstream.clock import SECOND, Clock, to_datetime
from millstream.errors import MillstreamError
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import FAULTS, fail, nothing_there, refuse, status_of, tell
from millstream.gateway.http.audit import Audit
from millstream.gateway.http.operation import Operation


class Part(Protocol):
    """Operations that belong together."""

    def operations(self) -> list[Operation]:
        """Which there are; of two that match a path, the first one counts."""
        ...


def make_app(
    operations: Iterable[Operation], sockets: Iterable[BaseRoute], access: Access, audit: Audit, clock: Clock
) -> ASGIApp:
    """An ASGI application of these operations, and of what speaks WebSocket."""
    routes = [*sockets, *(_route(operation, access, audit) for operation in operations)]
    handlers: dict[Any, Any] = {HTTPException: refuse, Exception: fail, **dict.fromkeys(FAULTS, tell)}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.router.default = nothing_there
    return _dated(app, clock)


def _route(operation: Operation, access: Access, audit: Audit) -> Route:
    """The one place where everybody comes by who asks for something."""

    async def endpoint(request: Request) -> Response:
        try:
            response = await operation.act(request, await access.let_in(request, operation))
        except HTTPException as error:
            audit.refused(request, operation, error.status_code, error.detail)
            raise
        except MillstreamError as error:
            audit.refused(request, operation, status_of(error), str(error))
            raise
        audit.done(request, operation)
        return response

    return Route(operation.path, endpoint, methods=[operation.method])


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
