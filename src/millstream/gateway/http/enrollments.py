"""`/enrollments`: how devices may come into the registry by themselves."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.devices import Enrollment, EnrollmentChange, Enrollments, Status
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies, decode
from millstream.gateway.http.devices import expected
from millstream.gateway.http.parameters import Parameters
from millstream.rights import Right

_PAGE, _LARGEST_PAGE = 100, 1_000
_PATH = "/enrollments/{enrollment}"


class EnrollmentPart:
    """Looks at enrollments, and changes them."""

    def __init__(self, enrollments: Enrollments, access: Access, bodies: Bodies) -> None:
        self._enrollments = enrollments
        self._access = access
        self._bodies = bodies

    def routes(self) -> list[BaseRoute]:
        """See `Part`."""
        return [
            Route("/enrollments", self._list),
            Route(_PATH + "/keys", self._keys),
            Route(_PATH + "/keys/rotate", self._rotate, methods=["POST"]),
            Route(_PATH, self._show),
            Route(_PATH, self._put, methods=["PUT"]),
            Route(_PATH, self._patch, methods=["PATCH"]),
            Route(_PATH, self._delete, methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        await self._admit(request)
        asked = Parameters(request, "after", "limit")
        limit = asked.integer("limit", _PAGE, _LARGEST_PAGE)
        found = await self._enrollments.page(asked.text("after") or "", limit)
        onward = found[-1].id if len(found) == limit else None
        return answer({"enrollments": [each.shown() for each in found], "next": onward})

    async def _show(self, request: Request) -> Response:
        await self._admit(request)
        return _answer(await self._enrollments.get(_id(request)))

    async def _put(self, request: Request) -> Response:
        user = await self._admit(request)
        change = decode(await self._bodies.read(request), EnrollmentChange)
        put = await self._enrollments.put(_id(request), change, user, expected(request))
        return _answer(put.enrollment, 201 if put.created else 200)

    async def _patch(self, request: Request) -> Response:
        user = await self._admit(request)
        with_devices = Parameters(request, "devices").flag("devices")
        change = decode(await self._bodies.read(request), EnrollmentChange)
        changed = await self._enrollments.patch(_id(request), change, user, expected(request))
        if with_devices and changed.status is Status.DISABLED:
            reason = changed.status_reason or "its enrollment is disabled"
            await self._enrollments.disable_devices(changed.id, reason, user)
        return _answer(changed)

    async def _delete(self, request: Request) -> Response:
        user = await self._admit(request)
        await self._enrollments.delete(_id(request), user, expected(request))
        return Response(status_code=204)

    async def _keys(self, request: Request) -> Response:
        await self._admit(request)
        return _answer_keys(await self._enrollments.get(_id(request)), Parameters(request, "registration"))

    async def _rotate(self, request: Request) -> Response:
        user = await self._admit(request)
        rotated = await self._enrollments.rotate_keys(_id(request), user, expected(request))
        return _answer_keys(rotated, Parameters(request))

    async def _admit(self, request: Request) -> str | None:
        """The user's name."""
        return (await self._access.admit(request, Right.MANAGE)).name


def _id(request: Request) -> str:
    return str(request.path_params["enrollment"])


def _answer(enrollment: Enrollment, status: int = 200) -> Response:
    return answer(enrollment.shown(), status, {"ETag": f'"{enrollment.etag}"'})


def _answer_keys(enrollment: Enrollment, asked: Parameters) -> Response:
    """Its own, or those of one of its devices."""
    registration_id = asked.text("registration")
    keys = enrollment.keys if registration_id is None else enrollment.keys_of(registration_id)
    headers = {"ETag": f'"{enrollment.etag}"', "Cache-Control": "no-store"}
    return answer({"primary": keys.primary, "secondary": keys.secondary}, headers=headers)
