"""`/enrollments`: how devices may come into the registry by themselves."""

from __future__ import annotations

from typing import TypedDict

from starlette.requests import Request
from starlette.responses import Response

from millstream.devices import Enrollment, EnrollmentChange, Enrollments, Status
from millstream.devices.enrollment import EnrollmentShown
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies, decode
from millstream.gateway.http.devices import CHANGE, MOST_ON_A_PAGE, SEE, Keys, answer_keys, expected
from millstream.gateway.http.operation import NOTHING, Caller, Content, Operation, always
from millstream.gateway.http.parameters import flag, paging, text

_PATH = "/enrollments/{enrollment}"
_SHOWN = Content(EnrollmentShown)


class PageOfEnrollments(TypedDict):
    """Enrollments, and what to say as `after` for the next page."""

    enrollments: list[EnrollmentShown]
    next: str | None


class EnrollmentPart:
    """Looks at enrollments, and changes them."""

    def __init__(self, enrollments: Enrollments, bodies: Bodies) -> None:
        self._enrollments = enrollments
        self._bodies = bodies

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="GET",
                path="/enrollments",
                act=self._list,
                text="List enrollments",
                needs=SEE,
                query=paging(MOST_ON_A_PAGE),
                gives={200: Content(PageOfEnrollments)},
            ),
            Operation(
                method="GET",
                path=_PATH + "/keys",
                act=self._keys,
                text="Show the keys of an enrollment, or of one of its devices",
                needs=CHANGE,
                query=(text("registration", "The registration id of the device."),),
                gives={200: Content(Keys)},
                audited=always,
            ),
            Operation(
                method="POST",
                path=_PATH + "/keys/rotate",
                act=self._rotate,
                text="Make a new primary key for an enrollment",
                needs=CHANGE,
                gives={200: Content(Keys)},
                conditional=True,
            ),
            Operation(
                method="GET", path=_PATH, act=self._show, text="Show an enrollment", needs=SEE, gives={200: _SHOWN}
            ),
            Operation(
                method="PUT",
                path=_PATH,
                act=self._put,
                text="Make an enrollment, or replace what is said of it",
                needs=CHANGE,
                takes=Content(EnrollmentChange, is_required=False),
                gives={200: _SHOWN, 201: _SHOWN},
                conditional=True,
            ),
            Operation(
                method="PATCH",
                path=_PATH,
                act=self._patch,
                text="Change what is said of an enrollment",
                needs=CHANGE,
                query=(flag("devices", "With the status `disabled`: disable its devices too."),),
                takes=Content(EnrollmentChange, is_required=False),
                gives={200: _SHOWN},
                conditional=True,
            ),
            Operation(
                method="DELETE",
                path=_PATH,
                act=self._delete,
                text="Delete an enrollment",
                needs=CHANGE,
                gives={204: NOTHING},
                conditional=True,
            ),
        ]

    async def _list(self, request: Request, caller: Caller) -> Response:
        limit = caller.asked.integer("limit")
        found = await self._enrollments.page(caller.asked.text("after") or "", limit)
        onward = found[-1].id if len(found) == limit else None
        page: PageOfEnrollments = {"enrollments": [each.shown() for each in found], "next": onward}
        return answer(page)

    async def _show(self, request: Request, caller: Caller) -> Response:
        return _answer(await self._enrollments.get(_id(request)))

    async def _put(self, request: Request, caller: Caller) -> Response:
        change = decode(await self._bodies.read(request), EnrollmentChange)
        put = await self._enrollments.put(_id(request), change, caller.actor, expected(request))
        return _answer(put.enrollment, 201 if put.created else 200)

    async def _patch(self, request: Request, caller: Caller) -> Response:
        with_devices = caller.asked.flag("devices")
        change = decode(await self._bodies.read(request), EnrollmentChange)
        changed = await self._enrollments.patch(_id(request), change, caller.actor, expected(request))
        if with_devices and changed.status is Status.DISABLED:
            reason = changed.status_reason or "its enrollment is disabled"
            await self._enrollments.disable_devices(changed.id, reason, caller.actor)
        return _answer(changed)

    async def _delete(self, request: Request, caller: Caller) -> Response:
        await self._enrollments.delete(_id(request), caller.actor, expected(request))
        return Response(status_code=204)

    async def _keys(self, request: Request, caller: Caller) -> Response:
        """Its own, or those of one of its devices."""
        its = await self._enrollments.get(_id(request))
        registration_id = caller.asked.text("registration")
        return answer_keys(its.keys if registration_id is None else its.keys_of(registration_id), its.etag)

    async def _rotate(self, request: Request, caller: Caller) -> Response:
        its = await self._enrollments.rotate_keys(_id(request), caller.actor, expected(request))
        return answer_keys(its.keys, its.etag)


def _id(request: Request) -> str:
    return str(request.path_params["enrollment"])


def _answer(enrollment: Enrollment, status: int = 200) -> Response:
    return answer(enrollment.shown(), status, {"ETag": f'"{enrollment.etag}"'})
