"""`GET /metrics`: what Prometheus scrapes."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.errors import LogError
from millstream.gateway.http.answer import LATER
from millstream.gateway.http.operation import ANYBODY, Caller, Content, Needs, Operation
from millstream.metrics import Sources
from millstream.metrics.exposition import render
from millstream.rights import Right


class Metrics:
    """A reading of `sources`, for those who may observe, or for anybody."""

    def __init__(self, sources: Sources, anybody: bool) -> None:
        self._sources = sources
        self._needs = ANYBODY if anybody else Needs(Right.OBSERVE)

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="GET",
                path="/metrics",
                act=self._metrics,
                text="What Prometheus reads",
                needs=self._needs,
                query=None,
                gives={200: Content(None, ("text/plain", "application/openmetrics-text"))},
            )
        ]

    async def _metrics(self, request: Request, caller: Caller) -> Response:
        try:
            reading = await self._sources.read()
        except LogError as error:
            raise HTTPException(503, str(error), LATER) from error
        text, content_type = await asyncio.to_thread(render, reading, request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})
