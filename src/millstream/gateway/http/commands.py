"""`/devices/{id}/commands`: operators queue commands, and the device itself takes and settles them."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.devices import Commands, What
from millstream.devices.command import LONGEST, USUAL
from millstream.gateway.devices.command_desk import CommandDesk, reason_in
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies
from millstream.gateway.http.devices import DEVICE, MODULE, name_in
from millstream.gateway.http.parameters import Parameters
from millstream.gateway.http.twins import is_self
from millstream.rights import Right

_LONGEST_WAIT = 60.0
_OUTCOMES = {"done": What.DELIVERED, "reject": What.REJECTED}


class CommandPart:
    """Queues, lists and purges; gives and settles."""

    def __init__(self, commands: Commands, desk: CommandDesk, access: Access, bodies: Bodies) -> None:
        self._commands = commands
        self._desk = desk
        self._access = access
        self._bodies = bodies

    def routes(self) -> list[BaseRoute]:
        """See `Part`."""
        return [
            route
            for path in (MODULE + "/commands", DEVICE + "/commands")
            for route in (
                Route(path, self._queue, methods=["POST"]),
                Route(path, self._show),
                Route(path, self._purge, methods=["DELETE"]),
                Route(path + "/{command}/{outcome}", self._settle, methods=["POST"]),
            )
        ]

    async def _queue(self, request: Request) -> Response:
        user = (await self._access.admit(request, Right.MANAGE)).name
        seconds = Parameters(request, "ttl").integer("ttl", USUAL, LONGEST)
        command = await self._commands.queue(name_in(request), await self._bodies.read(request), seconds, user)
        return answer(command.shown(), 202)

    async def _show(self, request: Request) -> Response:
        """Operators look at what waits; the device takes it."""
        name = name_in(request)
        identity = await self._access.admit(request)
        asked = Parameters(request, "wait")
        if is_self(identity, name):
            found = await self._desk.poll(name, asked.seconds("wait", _LONGEST_WAIT))
        else:
            identity.rights.check(Right.MANAGE)
            found = await self._commands.waiting(name)
        return answer({"commands": [command.shown() for command in found]})

    async def _purge(self, request: Request) -> Response:
        user = (await self._access.admit(request, Right.MANAGE)).name
        return answer({"purged": await self._commands.purge(name_in(request), user)})

    async def _settle(self, request: Request) -> Response:
        name = name_in(request)
        if not is_self(await self._access.admit(request), name):
            raise HTTPException(403, f"only device {str(name)!r} itself says what became of its commands")
        outcome = _OUTCOMES.get(request.path_params["outcome"])
        if outcome is None:
            raise HTTPException(404, "a command is settled with done or reject")
        reason = reason_in(await self._bodies.read(request)) if outcome is What.REJECTED else None
        await self._commands.settle(name, request.path_params["command"], outcome, reason)
        return Response(status_code=204)
