"""`/jobs`: the same for all devices of a query."""

from __future__ import annotations

from typing import TypedDict

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.devices.job import JobDeviceShown, JobGiven, JobOutcome, JobShown
from millstream.devices.jobs import Jobs
from millstream.gateway.devices.job_runner import JobRunner
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies, decode
from millstream.gateway.http.devices import MOST_ON_A_PAGE, SEE
from millstream.gateway.http.operation import NOTHING, Caller, Content, Needs, Operation
from millstream.gateway.http.parameters import Query, number, paging
from millstream.rights import Right

_PATH = "/jobs/{job}"
_TELL = Needs(Right.OPERATE)
_SHOWN = Content(JobShown)
_OUTCOME = Query("outcome", "Only those with this outcome.", {"type": "string", "enum": [*JobOutcome]})


class LatestJobs(TypedDict):
    """Jobs, the latest first."""

    jobs: list[JobShown]


class PageOfJobDevices(TypedDict):
    """Devices of a job, and what to say as `after` for the next page."""

    devices: list[JobDeviceShown]
    next: str | None


class JobPart:
    """Makes jobs, tells how far they are, and cancels them."""

    def __init__(self, jobs: Jobs, runner: JobRunner, bodies: Bodies) -> None:
        self._jobs = jobs
        self._runner = runner
        self._bodies = bodies

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="GET",
                path="/jobs",
                act=self._list,
                text="List the latest jobs",
                needs=SEE,
                query=(number("limit", "At most so many.", 100, MOST_ON_A_PAGE),),
                gives={200: Content(LatestJobs)},
            ),
            Operation(
                method="POST",
                path="/jobs",
                act=self._make,
                text="Make a job",
                needs=_TELL,
                takes=Content(JobGiven),
                gives={201: _SHOWN},
            ),
            Operation(
                method="GET",
                path=_PATH + "/devices",
                act=self._devices,
                text="List the devices of a job, and what became of each",
                needs=SEE,
                query=(_OUTCOME, *paging(MOST_ON_A_PAGE)),
                gives={200: Content(PageOfJobDevices)},
            ),
            Operation(
                method="POST",
                path=_PATH + "/cancel",
                act=self._cancel,
                text="Do nothing more for devices that wait",
                needs=_TELL,
                gives={200: _SHOWN},
            ),
            Operation(method="GET", path=_PATH, act=self._show, text="Show a job", needs=SEE, gives={200: _SHOWN}),
            Operation(
                method="DELETE",
                path=_PATH,
                act=self._delete,
                text="Forget a job that has ended",
                needs=_TELL,
                gives={204: NOTHING},
            ),
        ]

    async def _list(self, request: Request, caller: Caller) -> Response:
        limit = caller.asked.integer("limit")
        latest: LatestJobs = {"jobs": [job.shown() for job in await self._jobs.page(limit=limit)]}
        return answer(latest)

    async def _make(self, request: Request, caller: Caller) -> Response:
        job = await self._runner.make(decode(await self._bodies.read(request), JobGiven), caller.actor)
        return answer(job.shown(), 201, {"Location": f"/jobs/{job.id}"})

    async def _show(self, request: Request, caller: Caller) -> Response:
        return answer((await self._jobs.get(_id(request))).shown())

    async def _devices(self, request: Request, caller: Caller) -> Response:
        asked = caller.asked
        limit = asked.integer("limit")
        outcome, after = _outcome(asked.text("outcome")), asked.text("after") or ""
        found = await self._jobs.devices(_id(request), outcome, after, limit)
        onward = found[-1].name.device if len(found) == limit else None
        page: PageOfJobDevices = {"devices": [device.shown() for device in found], "next": onward}
        return answer(page)

    async def _cancel(self, request: Request, caller: Caller) -> Response:
        return answer((await self._runner.cancel(_id(request), caller.actor)).shown())

    async def _delete(self, request: Request, caller: Caller) -> Response:
        await self._jobs.delete(_id(request), caller.actor)
        return Response(status_code=204)


def _id(request: Request) -> str:
    return str(request.path_params["job"])


def _outcome(text: str | None) -> JobOutcome | None:
    try:
        return None if text is None else JobOutcome(text)
    except ValueError:
        there = ", ".join(JobOutcome)
        raise HTTPException(400, f"outcome={text}: there are {there}") from None
