"""`POST /devices/{id}/methods/{method}`: call a direct method, and wait for the answer."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.gateway.devices.methods import MOST_SECONDS, RESPONSE_SECONDS, Call, Methods
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies
from millstream.gateway.http.devices import DEVICE, MODULE, name_in
from millstream.gateway.http.parameters import Parameters
from millstream.rights import Right


class MethodPart:
    """Calls methods."""

    def __init__(self, methods: Methods, access: Access, bodies: Bodies) -> None:
        self._methods = methods
        self._access = access
        self._bodies = bodies

    def routes(self) -> list[BaseRoute]:
        """See `Part`."""
        paths = (MODULE + "/methods/{method}", DEVICE + "/methods/{method}")
        return [Route(path, self._call, methods=["POST"]) for path in paths]

    async def _call(self, request: Request) -> Response:
        user = (await self._access.admit(request, Right.MANAGE)).name
        asked = Parameters(request, "response_timeout", "connect_timeout")
        call = Call(
            name_in(request),
            request.path_params["method"],
            await self._bodies.read(request),
            asked.seconds("connect_timeout", MOST_SECONDS),
            asked.seconds("response_timeout", MOST_SECONDS) or RESPONSE_SECONDS,
            user,
        )
        return answer(await self._methods.call(call))
