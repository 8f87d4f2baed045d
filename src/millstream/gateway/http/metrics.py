"""`GET /metrics`: what Prometheus scrapes."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.errors import LogError
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import LATER
from millstream.metrics import Sources
from millstream.metrics.exposition import render
from millstream.rights import Right


class Metrics:
    """A reading of `sources`, for those who may observe; `access` None: for anybody."""

    def __init__(self, sources: Sources, access: Access | None) -> None:
        self._sources = sources
        self._access = access

    def routes(self) -> list[BaseRoute]:
        """See `Part`."""
        return [Route("/metrics", self._metrics)]

    async def _metrics(self, request: Request) -> Response:
        if self._access is not None:
            await self._access.admit(request, Right.OBSERVE)
        try:
            reading = await self._sources.read()
        except LogError as error:
            raise HTTPException(503, str(error), LATER) from error
        text, content_type = await asyncio.to_thread(render, reading, request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})
