"""`/devices/{id}/commands`: operators queue commands, and the device itself takes and settles them."""

from __future__ import annotations

from typing import Any, TypedDict

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.devices import Commands, What
from millstream.devices.command import LONGEST, USUAL, CommandShown
from millstream.gateway.devices.command_desk import CommandDesk, reason_in
from millstream.gateway.http.access import is_self, need_self
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies
from millstream.gateway.http.devices import DEVICE, MODULE, name_in
from millstream.gateway.http.operation import NOTHING, Caller, Content, Needs, Operation
from millstream.gateway.http.parameters import number, seconds
from millstream.rights import Right

_LONGEST_WAIT = 60.0
_OUTCOMES = {"done": What.DELIVERED, "reject": What.REJECTED}


class Waiting(TypedDict):
    """Commands, in their order."""

    commands: list[CommandShown]


class Purged(TypedDict):
    """How many there were."""

    purged: int


class CommandPart:
    """Queues, lists and purges; gives and settles."""

    def __init__(self, commands: Commands, desk: CommandDesk, bodies: Bodies) -> None:
        self._commands = commands
        self._desk = desk
        self._bodies = bodies

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            each
            for path, what in ((MODULE + "/commands", "module"), (DEVICE + "/commands", "device"))
            for each in (
                Operation(
                    method="POST",
                    path=path,
                    act=self._queue,
                    text=f"Queue a command for a {what}",
                    needs=Needs(Right.OPERATE),
                    query=(number("ttl", "Seconds that it may wait.", USUAL, LONGEST),),
                    takes=Content(Any, is_required=False),
                    gives={202: Content(CommandShown)},
                ),
                Operation(
                    method="GET",
                    path=path,
                    act=self._show,
                    text=f"Show the commands that wait for a {what}; the {what} itself takes them",
                    needs=Needs(Right.VIEW, own=True),
                    query=(seconds("wait", "The device itself waits so long for one.", _LONGEST_WAIT),),
                    gives={200: Content(Waiting)},
                ),
                Operation(
                    method="DELETE",
                    path=path,
                    act=self._purge,
                    text=f"Take back what waits for a {what}",
                    needs=Needs(Right.OPERATE),
                    gives={200: Content(Purged)},
                ),
                Operation(
                    method="POST",
                    path=path + "/{command}/{outcome}",
                    act=self._settle,
                    text=f"The {what} itself says what became of a command: `done` or `reject`",
                    needs=Needs(),
                    takes=Content(Any, is_required=False),
                    gives={204: NOTHING},
                ),
            )
        ]

    async def _queue(self, request: Request, caller: Caller) -> Response:
        ttl = caller.asked.integer("ttl")
        payload = await self._bodies.read(request)
        command = await self._commands.queue(name_in(request), payload, ttl, caller.actor)
        return answer(command.shown(), 202)

    async def _show(self, request: Request, caller: Caller) -> Response:
        name, wait = name_in(request), caller.asked.seconds("wait")
        if is_self(caller.identity, request):
            found = await self._desk.poll(name, wait)
        else:
            found = await self._commands.waiting(name)
        waiting: Waiting = {"commands": [command.shown() for command in found]}
        return answer(waiting)

    async def _purge(self, request: Request, caller: Caller) -> Response:
        purged: Purged = {"purged": await self._commands.purge(name_in(request), caller.actor)}
        return answer(purged)

    async def _settle(self, request: Request, caller: Caller) -> Response:
        name = name_in(request)
        need_self(caller, request, f"only device {str(name)!r} itself says what became of its commands")
        outcome = _OUTCOMES.get(request.path_params["outcome"])
        if outcome is None:
            raise HTTPException(404, "a command is settled with done or reject")
        reason = reason_in(await self._bodies.read(request)) if outcome is What.REJECTED else None
        await self._commands.settle(name, request.path_params["command"], outcome, reason)
        return Response(status_code=204)
