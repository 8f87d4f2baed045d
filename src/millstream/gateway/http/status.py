"""`GET /status`: what happened since the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import answer
from millstream.rights import Right


class Status:
    """`report` gives the counts by their documented names."""

    def __init__(self, report: Callable[[], dict[str, Any]], access: Access) -> None:
        self._report = report
        self._access = access

    def routes(self) -> list[BaseRoute]:
        """See `Part`."""
        return [Route("/status", self._status)]

    async def _status(self, request: Request) -> Response:
        await self._access.admit(request, Right.OBSERVE)
        return answer(self._report())
