"""`GET /health/live` and `/health/ready`: for who starts, watches and balances servers. They need no user."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.gateway.http.answer import LATER, answer
from millstream.gateway.http.operation import ANYBODY, Caller, Content, Operation


class Live(TypedDict):
    """The server runs."""

    live: bool


class IsReady(TypedDict):
    """Events can be taken."""

    ready: bool


class Health:
    """`unready` gives the reason why no event can be taken now, or None."""

    def __init__(self, unready: Callable[[], str | None]) -> None:
        self._unready = unready

    def operations(self) -> list[Operation]:
        """See `Part`."""
        asked = (("/health/live", self._live, Live), ("/health/ready", self._ready, IsReady))
        return [
            Operation(
                method="GET",
                path=path,
                act=act,
                text=str(kind.__doc__).rstrip("."),
                needs=ANYBODY,
                query=None,
                gives={200: Content(kind)},
            )
            for path, act, kind in asked
        ]

    async def _live(self, request: Request, caller: Caller) -> Response:
        live: Live = {"live": True}
        return answer(live)

    async def _ready(self, request: Request, caller: Caller) -> Response:
        reason = self._unready()
        if reason is not None:
            raise HTTPException(503, reason, LATER)
        ready: IsReady = {"ready": True}
        return answer(ready)
