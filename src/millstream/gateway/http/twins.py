"""`/devices/{id}/twin`: for operators, and for the device itself."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from millstream.devices import Report, Twin, TwinChange, Twins
from millstream.devices.twin import SidesShown, TwinShown
from millstream.gateway.http.access import is_self
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies, decode
from millstream.gateway.http.devices import DEVICE, MODULE, expected, name_in
from millstream.gateway.http.operation import Caller, Content, Needs, Operation
from millstream.rights import Right


class Reported(msgspec.Struct, forbid_unknown_fields=True):
    """What a device says of itself."""

    reported: dict[str, Any]


class TwinPart:
    """Looks at twins, and changes them: operators tags and desired, the device what it reports."""

    def __init__(self, twins: Twins, bodies: Bodies) -> None:
        self._twins = twins
        self._bodies = bodies

    def operations(self) -> list[Operation]:
        """See `Part`."""
        shown = {200: Content(TwinShown | SidesShown)}
        return [
            each
            for path, what in ((MODULE + "/twin", "module"), (DEVICE + "/twin", "device"))
            for each in (
                Operation(
                    method="GET",
                    path=path,
                    act=self._show,
                    text=f"Show the twin of a {what}; to itself, without tags",
                    needs=Needs(Right.VIEW, own=True),
                    gives=shown,
                ),
                Operation(
                    method="PATCH",
                    path=path,
                    act=self._patch,
                    text=f"Change the twin of a {what}: operators tags and desired, the {what} itself reported",
                    needs=Needs(Right.OPERATE, own=True),
                    takes=Content(TwinChange | Reported, is_required=False),
                    gives=shown,
                    conditional=True,
                ),
                Operation(
                    method="PUT",
                    path=path,
                    act=self._put,
                    text=f"Replace tags or desired of a {what}",
                    needs=Needs(Right.OPERATE),
                    takes=Content(TwinChange, is_required=False),
                    gives={200: Content(TwinShown)},
                    conditional=True,
                ),
            )
        ]

    async def _show(self, request: Request, caller: Caller) -> Response:
        name = name_in(request)
        if is_self(caller.identity, request):
            return answer((await self._twins.get(name)).sides.shown())
        return _answer(await self._twins.get(name))

    async def _patch(self, request: Request, caller: Caller) -> Response:
        if is_self(caller.identity, request):
            said = decode(await self._bodies.read(request), Reported)
            return answer((await self._twins.report(Report(name_in(request), said.reported))).shown())
        return await self._change(request, caller, replace=False)

    async def _put(self, request: Request, caller: Caller) -> Response:
        return await self._change(request, caller, replace=True)

    async def _change(self, request: Request, caller: Caller, *, replace: bool) -> Response:
        change = decode(await self._bodies.read(request), TwinChange)
        name = name_in(request)
        return _answer(await self._twins.change(name, change, caller.actor, expected(request), replace=replace))


def _answer(twin: Twin) -> Response:
    return answer(twin.shown(), headers={"ETag": f'"{twin.etag}"'})
