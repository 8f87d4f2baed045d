"""`POST /topics/{topic}`: publishing. A 2xx comes after the commit, as a PUBACK does."""

from __future__ import annotations

from typing import Any, TypedDict

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.errors import LogError, NotAuthorizedError, PayloadError, TopicError
from millstream.gateway.cloudevents import BATCH, STRUCTURED
from millstream.gateway.http.answer import CODES, FAULTS, LATER, answer
from millstream.gateway.http.body import Bodies
from millstream.gateway.http.content import read_contents
from millstream.gateway.http.operation import JSON, NDJSON, Caller, Content, Needs, Operation
from millstream.gateway.ingest.ingest import Ingest
from millstream.gateway.statistics import Statistics
from millstream.rights import Right
from millstream.topic import check_topic

_TAKEN = (JSON, NDJSON, STRUCTURED, BATCH, "application/octet-stream")


class Published(TypedDict):
    """How many events were committed, and how many of them had an id that was there before."""

    events: int
    duplicates: int


class Publishing:
    """Takes events in."""

    def __init__(self, ingest: Ingest, bodies: Bodies, statistics: Statistics) -> None:
        self._ingest = ingest
        self._bodies = bodies
        self._statistics = statistics

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="POST",
                path="/topics/{topic:path}",
                act=self._publish,
                text="Publish an event, NDJSON, or CloudEvents",
                needs=Needs(Right.PUBLISH, "topic", inside=True),
                query=None,
                takes=Content(Any, _TAKEN, is_required=False),
                gives={200: Content(Published)},
            )
        ]

    async def _publish(self, request: Request, caller: Caller) -> Response:
        topic = request.path_params["topic"]
        try:
            check_topic(topic)
            caller.identity.rights.check(Right.PUBLISH, topic)
            contents = read_contents(request, await self._bodies.read(request))
        except HTTPException as refused:
            self._reject(request, CODES[refused.status_code], refused.detail)
            raise
        except (TopicError, PayloadError, NotAuthorizedError) as refused:
            self._reject(request, CODES[FAULTS[type(refused)]], str(refused))
            raise
        try:
            duplicates = await self._ingest.publish(request.path_params["topic"], contents)
        except LogError as error:
            raise HTTPException(503, f"{error}; send it again", LATER) from error
        published: Published = {"events": len(contents), "duplicates": duplicates}
        return answer(published)

    def _reject(self, request: Request, code: str, text: str) -> None:
        """Count a request that is refused as one event, and leave its trace."""
        self._statistics.reject(
            code,
            text=text,
            client=request.client.host if request.client is not None else "",
            topic=request.path_params["topic"],
            payload=getattr(request.state, "beginning", b""),
        )
