"""`POST /devices/{id}/methods/{method}`: call a direct method, and wait for the answer."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from millstream.gateway.devices.methods import MOST_SECONDS, RESPONSE_SECONDS, Answer, Call, Methods
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies
from millstream.gateway.http.devices import DEVICE, MODULE, name_in
from millstream.gateway.http.operation import Caller, Content, Needs, Operation, always
from millstream.gateway.http.parameters import Query, seconds
from millstream.rights import Right

_TIMES = (
    seconds("connect_timeout", "How long to wait for a device that is not there.", MOST_SECONDS),
    Query(
        "response_timeout",
        "How long it may take to answer; 0 is the default.",
        {"type": "number", "minimum": 0, "maximum": MOST_SECONDS, "default": RESPONSE_SECONDS},
    ),
)


class MethodPart:
    """Calls methods."""

    def __init__(self, methods: Methods, bodies: Bodies) -> None:
        self._methods = methods
        self._bodies = bodies

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="POST",
                path=path + "/methods/{method}",
                act=self._call,
                text=f"Call a direct method of a {what}, and wait for its answer",
                needs=Needs(Right.OPERATE),
                query=_TIMES,
                takes=Content(Any, is_required=False),
                gives={200: Content(Answer)},
                audited=always,
            )
            for path, what in ((MODULE, "module"), (DEVICE, "device"))
        ]

    async def _call(self, request: Request, caller: Caller) -> Response:
        call = Call(
            name_in(request),
            request.path_params["method"],
            await self._bodies.read(request),
            caller.asked.seconds("connect_timeout"),
            caller.asked.seconds("response_timeout") or RESPONSE_SECONDS,
            caller.identity.name,
        )
        return answer(await self._methods.call(call))
