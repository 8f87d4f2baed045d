"""`/keys`: API keys, for who may say who may do what."""

from __future__ import annotations

from typing import TypedDict

from starlette.requests import Request
from starlette.responses import Response

from millstream.devices.api_key import ApiKeyGiven, ApiKeyShown, NewApiKey, NewApiKeyShown, Rotation
from millstream.devices.api_keys import ApiKeys
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies, decode
from millstream.gateway.http.devices import MOST_ON_A_PAGE
from millstream.gateway.http.operation import NOTHING, Caller, Content, Needs, Operation
from millstream.gateway.http.parameters import paging
from millstream.rights import Right

_PATH = "/keys/{key}"
_NEEDS = Needs(Right.ADMINISTER)


class PageOfKeys(TypedDict):
    """API keys, and what to say as `after` for the next page."""

    keys: list[ApiKeyShown]
    next: str | None


class KeyPart:
    """Makes, lists, rotates and revokes keys."""

    def __init__(self, keys: ApiKeys, bodies: Bodies) -> None:
        self._keys = keys
        self._bodies = bodies

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="GET",
                path="/keys",
                act=self._list,
                text="List API keys, without their secrets",
                needs=_NEEDS,
                query=paging(MOST_ON_A_PAGE),
                gives={200: Content(PageOfKeys)},
            ),
            Operation(
                method="POST",
                path="/keys",
                act=self._create,
                text="Make an API key; its secret is shown this once",
                needs=_NEEDS,
                takes=Content(ApiKeyGiven),
                gives={201: Content(NewApiKeyShown)},
            ),
            Operation(
                method="POST",
                path=_PATH + "/rotate",
                act=self._rotate,
                text="Give an API key another secret, which is shown this once",
                needs=_NEEDS,
                takes=Content(Rotation, is_required=False),
                gives={200: Content(NewApiKeyShown)},
            ),
            Operation(
                method="GET",
                path=_PATH,
                act=self._show,
                text="Show an API key, without its secret",
                needs=_NEEDS,
                gives={200: Content(ApiKeyShown)},
            ),
            Operation(
                method="DELETE",
                path=_PATH,
                act=self._revoke,
                text="Revoke an API key",
                needs=_NEEDS,
                gives={204: NOTHING},
            ),
        ]

    async def _list(self, request: Request, caller: Caller) -> Response:
        limit = caller.asked.integer("limit")
        found = self._keys.page(caller.asked.text("after") or "", limit)
        page: PageOfKeys = {
            "keys": [key.shown() for key in found],
            "next": found[-1].id if len(found) == limit else None,
        }
        return answer(page)

    async def _show(self, request: Request, caller: Caller) -> Response:
        return answer(self._keys.get(_id(request)).shown())

    async def _create(self, request: Request, caller: Caller) -> Response:
        made = await self._keys.create(decode(await self._bodies.read(request), ApiKeyGiven), caller.actor)
        return _answer(made, 201)

    async def _rotate(self, request: Request, caller: Caller) -> Response:
        rotation = decode(await self._bodies.read(request), Rotation)
        return _answer(await self._keys.rotate(_id(request), rotation, caller.actor), 200)

    async def _revoke(self, request: Request, caller: Caller) -> Response:
        await self._keys.revoke(_id(request), caller.actor)
        return Response(status_code=204)


def _id(request: Request) -> str:
    return str(request.path_params["key"])


def _answer(made: NewApiKey, status: int) -> Response:
    headers = {"Cache-Control": "no-store", "Location": f"/keys/{made.key.id}"}
    return answer(made.shown(), status, headers)
