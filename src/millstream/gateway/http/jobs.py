"""`/jobs`: the same for all devices of a query."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.devices.job import JobGiven, JobOutcome
from millstream.devices.jobs import Jobs
from millstream.gateway.devices.job_runner import JobRunner
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies, decode
from millstream.gateway.http.parameters import Parameters
from millstream.rights import Right

_PAGE, _LARGEST_PAGE = 100, 1_000
_PATH = "/jobs/{job}"


class JobPart:
    """Makes jobs, tells how far they are, and cancels them."""

    def __init__(self, jobs: Jobs, runner: JobRunner, access: Access, bodies: Bodies) -> None:
        self._jobs = jobs
        self._runner = runner
        self._access = access
        self._bodies = bodies

    def routes(self) -> list[BaseRoute]:
        """See `Part`."""
        return [
            Route("/jobs", self._list),
            Route("/jobs", self._make, methods=["POST"]),
            Route(_PATH + "/devices", self._devices),
            Route(_PATH + "/cancel", self._cancel, methods=["POST"]),
            Route(_PATH, self._show),
            Route(_PATH, self._delete, methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        await self._admit(request)
        limit = Parameters(request, "limit").integer("limit", _PAGE, _LARGEST_PAGE)
        return answer({"jobs": [job.shown() for job in await self._jobs.page(limit=limit)]})

    async def _make(self, request: Request) -> Response:
        user = await self._admit(request)
        job = await self._runner.make(decode(await self._bodies.read(request), JobGiven), user)
        return answer(job.shown(), 201, {"Location": f"/jobs/{job.id}"})

    async def _show(self, request: Request) -> Response:
        await self._admit(request)
        return answer((await self._jobs.get(_id(request))).shown())

    async def _devices(self, request: Request) -> Response:
        await self._admit(request)
        asked = Parameters(request, "outcome", "after", "limit")
        limit = asked.integer("limit", _PAGE, _LARGEST_PAGE)
        outcome, after = _outcome(asked.text("outcome")), asked.text("after") or ""
        found = await self._jobs.devices(_id(request), outcome, after, limit)
        onward = found[-1].name.device if len(found) == limit else None
        return answer({"devices": [device.shown() for device in found], "next": onward})

    async def _cancel(self, request: Request) -> Response:
        user = await self._admit(request)
        return answer((await self._runner.cancel(_id(request), user)).shown())

    async def _delete(self, request: Request) -> Response:
        await self._admit(request)
        await self._jobs.delete(_id(request))
        return Response(status_code=204)

    async def _admit(self, request: Request) -> str | None:
        """The user's name."""
        return (await self._access.admit(request, Right.MANAGE)).name


def _id(request: Request) -> str:
    return str(request.path_params["job"])


def _outcome(text: str | None) -> JobOutcome | None:
    try:
        return None if text is None else JobOutcome(text)
    except ValueError:
        there = ", ".join(JobOutcome)
        raise HTTPException(400, f"outcome={text}: there are {there}") from None
