"""`/devices`: the registry, for who has the right to manage it."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.devices import Change, Device, Expected, Name, Registry
from millstream.errors import DeviceError
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies, decode
from millstream.gateway.http.parameters import Parameters
from millstream.rights import Right

_PAGE, _LARGEST_PAGE = 100, 1_000
_LARGEST_QUERY = 2_000

DEVICE = "/devices/{device}"
MODULE = DEVICE + "/modules/{module}"


class Devices:
    """Looks at devices and their modules, and changes them."""

    def __init__(self, registry: Registry, access: Access, bodies: Bodies) -> None:
        self._registry = registry
        self._access = access
        self._bodies = bodies

    def routes(self) -> list[BaseRoute]:
        """See `Part`. A device and a module have the same operations."""
        its = [
            route
            for path in (MODULE, DEVICE)
            for route in (
                Route(path + "/keys/rotate", self._rotate, methods=["POST"]),
                Route(path + "/keys", self._keys),
                Route(path, self._show),
                Route(path, self._put, methods=["PUT"]),
                Route(path, self._patch, methods=["PATCH"]),
                Route(path, self._delete, methods=["DELETE"]),
            )
        ]
        return [Route("/devices", self._list), Route(DEVICE + "/modules", self._modules), *its]

    async def _list(self, request: Request) -> Response:
        await self._admit(request)
        asked = Parameters(request, "query", "after", "limit", "modules", "secrets")
        limit, secrets, after = asked.integer("limit", _PAGE, _LARGEST_PAGE), asked.flag("secrets"), asked.text("after")
        start = Name("") if after is None else Name.parse(after)
        found = await self._registry.page(asked.text("query"), start, limit, modules=asked.flag("modules"))
        onward = str(found[-1].name) if len(found) == limit else None
        headers = {"Cache-Control": "no-store"} if secrets else {}
        headers |= {} if onward is None else {"Link": f'<{_next(request, onward)}>; rel="next"'}
        return answer({"devices": [device.shown(secrets=secrets) for device in found], "next": onward}, headers=headers)

    async def _modules(self, request: Request) -> Response:
        await self._admit(request)
        found = await self._registry.modules(name_in(request).device)
        return answer({"modules": [module.shown() for module in found]})

    async def _show(self, request: Request) -> Response:
        await self._admit(request)
        return _answer(await self._registry.get(name_in(request)))

    async def _put(self, request: Request) -> Response:
        user = await self._admit(request)
        change = decode(await self._bodies.read(request), Change)
        put = await self._registry.put(name_in(request), change, user, expected(request))
        return _answer(put.device, 201 if put.created else 200)

    async def _patch(self, request: Request) -> Response:
        user = await self._admit(request)
        change = decode(await self._bodies.read(request), Change)
        return _answer(await self._registry.patch(name_in(request), change, user, expected(request)))

    async def _delete(self, request: Request) -> Response:
        user = await self._admit(request)
        await self._registry.delete(name_in(request), user, expected(request))
        return Response(status_code=204)

    async def _keys(self, request: Request) -> Response:
        await self._admit(request)
        return _answer_keys(await self._registry.get(name_in(request)))

    async def _rotate(self, request: Request) -> Response:
        user = await self._admit(request)
        return _answer_keys(await self._registry.rotate_keys(name_in(request), user, expected(request)))

    async def _admit(self, request: Request) -> str | None:
        """The user's name."""
        return (await self._access.admit(request, Right.MANAGE)).name


def expected(request: Request) -> Expected:
    """The preconditions of a request (RFC 9110, 13.1)."""
    absent = request.headers.get("if-none-match")
    if absent not in (None, "*"):
        raise HTTPException(400, "If-None-Match may only be *, which says that there must be no such device")
    etag = request.headers.get("if-match")
    if etag is not None and etag != "*":
        if len(etag) < 3 or etag[0] != '"' or etag[-1] != '"':
            raise HTTPException(400, f'If-Match: {etag} is no etag; write it in quotes, as in If-Match: "0a1b2c3d"')
        etag = etag[1:-1]
    return Expected(etag, absent is not None)


def name_in(request: Request) -> Name:
    """The device, or module, that a request's path names."""
    return Name.parse("/".join(filter(None, (request.path_params["device"], request.path_params.get("module")))))


def _next(request: Request, after: str) -> str:
    return f"/devices?{urlencode({**request.query_params, 'after': after})}"


def _answer(device: Device, status: int = 200) -> Response:
    return answer(device.shown(), status, {"ETag": f'"{device.etag}"'})


def _answer_keys(device: Device) -> Response:
    keys = device.credentials.keys
    if keys is None:
        raise DeviceError(f"device {str(device.name)!r} has no symmetric keys")
    headers = {"ETag": f'"{device.etag}"', "Cache-Control": "no-store"}
    return answer({"primary": keys.primary, "secondary": keys.secondary}, headers=headers)
