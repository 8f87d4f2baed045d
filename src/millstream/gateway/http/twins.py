"""`/devices/{id}/twin`: for operators, and for the device itself."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.devices import Name, Report, Twin, TwinChange, Twins
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies, decode
from millstream.gateway.http.devices import DEVICE, MODULE, expected, name_in
from millstream.gateway.listeners.auth import Identity
from millstream.rights import Right


class Reported(msgspec.Struct, forbid_unknown_fields=True):
    """What a device says of itself."""

    reported: dict[str, Any]


class TwinPart:
    """Looks at twins, and changes them: operators tags and desired, the device what it reports."""

    def __init__(self, twins: Twins, access: Access, bodies: Bodies) -> None:
        self._twins = twins
        self._access = access
        self._bodies = bodies

    def routes(self) -> list[BaseRoute]:
        """See `Part`."""
        return [
            route
            for path in (MODULE + "/twin", DEVICE + "/twin")
            for route in (
                Route(path, self._show),
                Route(path, self._patch, methods=["PATCH"]),
                Route(path, self._put, methods=["PUT"]),
            )
        ]

    async def _show(self, request: Request) -> Response:
        name = name_in(request)
        identity = await self._access.admit(request)
        if is_self(identity, name):
            return answer((await self._twins.get(name)).sides.shown())
        identity.rights.check(Right.MANAGE)
        return _answer(await self._twins.get(name))

    async def _patch(self, request: Request) -> Response:
        name = name_in(request)
        identity = await self._access.admit(request)
        if is_self(identity, name):
            said = decode(await self._bodies.read(request), Reported)
            return answer((await self._twins.report(Report(name, said.reported))).shown())
        identity.rights.check(Right.MANAGE)
        return await self._change(request, name, identity, replace=False)

    async def _put(self, request: Request) -> Response:
        identity = await self._access.admit(request, Right.MANAGE)
        return await self._change(request, name_in(request), identity, replace=True)

    async def _change(self, request: Request, name: Name, identity: Identity, *, replace: bool) -> Response:
        change = decode(await self._bodies.read(request), TwinChange)
        return _answer(await self._twins.change(name, change, identity.name, expected(request), replace=replace))


def is_self(identity: Identity, name: Name) -> bool:
    """Whether it is the device itself."""
    return identity.admitted is not None and identity.admitted.name == name


def _answer(twin: Twin) -> Response:
    return answer(twin.shown(), headers={"ETag": f'"{twin.etag}"'})
