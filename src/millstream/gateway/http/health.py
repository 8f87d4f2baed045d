"""`GET /health/live` and `/health/ready`: for who starts, watches and balances servers. They need no user."""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.gateway.http.answer import LATER, answer


class Health:
    """`unready` gives the reason why no event can be taken now, or None."""

    def __init__(self, unready: Callable[[], str | None]) -> None:
        self._unready = unready

    def routes(self) -> list[BaseRoute]:
        """See `Part`."""
        return [Route("/health/live", self._live), Route("/health/ready", self._ready)]

    async def _live(self, request: Request) -> Response:
        return answer({"live": True})

    async def _ready(self, request: Request) -> Response:
        reason = self._unready()
        if reason is not None:
            raise HTTPException(503, reason, LATER)
        return answer({"ready": True})
