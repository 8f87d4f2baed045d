"""`POST /topics/{topic}`: publishing. A 2xx comes after the commit, as a PUBACK does."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.errors import LogError, NotAuthorizedError, PayloadError, TopicError
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import CODES, FAULTS, LATER, answer
from millstream.gateway.http.body import Bodies
from millstream.gateway.http.content import read_contents
from millstream.gateway.ingest.ingest import Ingest
from millstream.gateway.statistics import Statistics
from millstream.rights import Right
from millstream.topic import check_topic


class Publishing:
    """Takes events in."""

    def __init__(self, ingest: Ingest, access: Access, bodies: Bodies, statistics: Statistics) -> None:
        self._ingest = ingest
        self._access = access
        self._bodies = bodies
        self._statistics = statistics

    def routes(self) -> list[BaseRoute]:
        """See `Part`."""
        return [Route("/topics/{topic:path}", self._publish, methods=["POST"])]

    async def _publish(self, request: Request) -> Response:
        identity = await self._access.admit(request)
        topic = request.path_params["topic"]
        try:
            check_topic(topic)
            identity.rights.check(Right.PUBLISH, topic)
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
        return answer({"events": len(contents), "duplicates": duplicates})

    def _reject(self, request: Request, code: str, text: str) -> None:
        """Count a request that is refused as one event, and leave its trace."""
        self._statistics.reject(
            code,
            text=text,
            client=request.client.host if request.client is not None else "",
            topic=request.path_params["topic"],
            payload=getattr(request.state, "beginning", b""),
        )
