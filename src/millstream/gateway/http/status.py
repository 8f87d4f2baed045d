"""`GET /status`: what happened since the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from millstream.gateway.http.answer import answer
from millstream.gateway.http.operation import Caller, Content, Needs, Operation
from millstream.rights import Right


class Status:
    """`report` gives the counts by their documented names."""

    def __init__(self, report: Callable[[], dict[str, Any]]) -> None:
        self._report = report

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="GET",
                path="/status",
                act=self._status,
                text="What happened since the start",
                needs=Needs(Right.OBSERVE),
                query=None,
                gives={200: Content(dict[str, Any])},
            )
        ]

    async def _status(self, request: Request, caller: Caller) -> Response:
        return answer(self._report())
