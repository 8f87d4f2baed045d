"""`/devices`: the registry."""

from __future__ import annotations

from typing import TypedDict
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.devices import Change, Device, Expected, Name, Registry
from millstream.devices.credentials import SymmetricKeys
from millstream.devices.device import DeviceShown
from millstream.errors import DeviceError
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies, decode
from millstream.gateway.http.operation import NOTHING, Caller, Content, Needs, Operation, always
from millstream.gateway.http.parameters import flag, paging, text
from millstream.rights import Right

MOST_ON_A_PAGE = 1_000

DEVICE = "/devices/{device}"
MODULE = DEVICE + "/modules/{module}"

SEE, CHANGE = Needs(Right.VIEW), Needs(Right.MANAGE)


class PageOfDevices(TypedDict):
    """Devices, and what to say as `after` for the next page."""

    devices: list[DeviceShown]
    next: str | None


class Modules(TypedDict):
    """The modules of a device."""

    modules: list[DeviceShown]


class Keys(TypedDict):
    """Symmetric keys in Base64."""

    primary: str
    secondary: str


class Devices:
    """Looks at devices and their modules, and changes them."""

    def __init__(self, registry: Registry, bodies: Bodies) -> None:
        self._registry = registry
        self._bodies = bodies

    def operations(self) -> list[Operation]:
        """See `Part`. A device and a module have the same ones."""
        query = text("query", "A condition as in SQL's WHERE; see the page on devices.")
        more = flag("modules", "Modules too."), flag("secrets", "With keys and password hashes, as PUT takes them.")
        both = [each for path, what in ((MODULE, "module"), (DEVICE, "device")) for each in self._of(path, what)]
        return [
            Operation(
                method="GET",
                path="/devices",
                act=self._list,
                text="List devices",
                needs=SEE,
                query=(query, *paging(MOST_ON_A_PAGE), *more),
                gives={200: Content(PageOfDevices)},
                audited=lambda request: request.query_params.get("secrets") == "true",
            ),
            Operation(
                method="GET",
                path=DEVICE + "/modules",
                act=self._modules,
                text="List the modules of a device",
                needs=SEE,
                gives={200: Content(Modules)},
            ),
            *both,
        ]

    def _of(self, path: str, what: str) -> list[Operation]:
        shown, keys = Content(DeviceShown), {200: Content(Keys)}
        return [
            Operation(
                method="POST",
                path=path + "/keys/rotate",
                act=self._rotate,
                text=f"Make a new primary key for a {what}",
                needs=CHANGE,
                gives=keys,
                conditional=True,
            ),
            Operation(
                method="GET",
                path=path + "/keys",
                act=self._keys,
                text=f"Show the symmetric keys of a {what}",
                needs=CHANGE,
                gives=keys,
                audited=always,
            ),
            Operation(method="GET", path=path, act=self._show, text=f"Show a {what}", needs=SEE, gives={200: shown}),
            Operation(
                method="PUT",
                path=path,
                act=self._put,
                text=f"Make a {what}, or replace what is said of it",
                needs=CHANGE,
                takes=Content(Change, is_required=False),
                gives={200: shown, 201: shown},
                conditional=True,
            ),
            Operation(
                method="PATCH",
                path=path,
                act=self._patch,
                text=f"Change what is said of a {what}",
                needs=CHANGE,
                takes=Content(Change, is_required=False),
                gives={200: shown},
                conditional=True,
            ),
            Operation(
                method="DELETE",
                path=path,
                act=self._delete,
                text=f"Delete a {what}",
                needs=CHANGE,
                gives={204: NOTHING},
                conditional=True,
            ),
        ]

    async def _list(self, request: Request, caller: Caller) -> Response:
        asked = caller.asked
        limit, secrets, after = asked.integer("limit"), asked.flag("secrets"), asked.text("after")
        if secrets:
            caller.identity.rights.check(Right.MANAGE)
        start = Name("") if after is None else Name.parse(after)
        found = await self._registry.page(asked.text("query"), start, limit, modules=asked.flag("modules"))
        onward = str(found[-1].name) if len(found) == limit else None
        headers = {"Cache-Control": "no-store"} if secrets else {}
        headers |= {} if onward is None else {"Link": f'<{_next(request, onward)}>; rel="next"'}
        page: PageOfDevices = {"devices": [device.shown(secrets=secrets) for device in found], "next": onward}
        return answer(page, headers=headers)

    async def _modules(self, request: Request, caller: Caller) -> Response:
        found = await self._registry.modules(name_in(request).device)
        modules: Modules = {"modules": [module.shown() for module in found]}
        return answer(modules)

    async def _show(self, request: Request, caller: Caller) -> Response:
        return _answer(await self._registry.get(name_in(request)))

    async def _put(self, request: Request, caller: Caller) -> Response:
        change = decode(await self._bodies.read(request), Change)
        put = await self._registry.put(name_in(request), change, caller.actor, expected(request))
        return _answer(put.device, 201 if put.created else 200)

    async def _patch(self, request: Request, caller: Caller) -> Response:
        change = decode(await self._bodies.read(request), Change)
        return _answer(await self._registry.patch(name_in(request), change, caller.actor, expected(request)))

    async def _delete(self, request: Request, caller: Caller) -> Response:
        await self._registry.delete(name_in(request), caller.actor, expected(request))
        return Response(status_code=204)

    async def _keys(self, request: Request, caller: Caller) -> Response:
        return _answer_keys(await self._registry.get(name_in(request)))

    async def _rotate(self, request: Request, caller: Caller) -> Response:
        return _answer_keys(await self._registry.rotate_keys(name_in(request), caller.actor, expected(request)))


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


def answer_keys(keys: SymmetricKeys, etag: str) -> Response:
    """Keys, for nobody else's memory."""
    shown: Keys = {"primary": keys.primary, "secondary": keys.secondary}
    return answer(shown, headers={"ETag": f'"{etag}"', "Cache-Control": "no-store"})


def _next(request: Request, after: str) -> str:
    return f"/devices?{urlencode({**request.query_params, 'after': after})}"


def _answer(device: Device, status: int = 200) -> Response:
    return answer(device.shown(), status, {"ETag": f'"{device.etag}"'})


def _answer_keys(device: Device) -> Response:
    keys = device.credentials.keys
    if keys is None:
        raise DeviceError(f"device {str(device.name)!r} has no symmetric keys")
    return answer_keys(keys, device.etag)
