"""`GET /streams` and `/streams/{name}`: which streams there are, and where they begin and end."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.clock import Micros, to_text
from millstream.gateway.http.access import Access
from millstream.gateway.http.answer import answer
from millstream.log import Bounds, Log, StreamSpec, find_stream
from millstream.rights import Right, may


class Streams:
    """What there is to read."""

    def __init__(self, log: Log, access: Access) -> None:
        self._log = log
        self._access = access

    def routes(self) -> list[BaseRoute]:
        """See `Part`. A stream's name may have slashes, so this comes after what is below a stream."""
        return [Route("/streams", self._list), Route("/streams/{name:path}", self._show)]

    async def _list(self, request: Request) -> Response:
        rights = (await self._access.admit(request)).rights
        specs = await self._log.streams()
        return answer({"streams": [_spec(specs[name]) for name in sorted(specs) if may(rights, Right.READ, name)]})

    async def _show(self, request: Request) -> Response:
        await self._access.admit(request, Right.READ, request.path_params["name"])
        spec = await find_stream(self._log, request.path_params["name"])
        bounds = [await self._log.bounds(spec.name, partition) for partition in range(spec.partitions)]
        return answer({**_spec(spec), "bounds": [_bounds(*each) for each in enumerate(bounds)]})


def _spec(spec: StreamSpec) -> dict[str, Any]:
    return {
        "stream": spec.name,
        "topics": spec.topics,
        "key": spec.key,
        "partitions": spec.partitions,
        "retention_age": spec.retention_age,  # msgspec writes durations in ISO 8601
        "retention_bytes": spec.retention_bytes,
    }


def _bounds(partition: int, its: Bounds) -> dict[str, Any]:
    return {
        "partition": partition,
        "first": its.first,
        "next": its.next,
        "events": its.events,
        "first_time": _time(its.first_time),
        "last_time": _time(its.last_time),
    }


def _time(instant: Micros | None) -> str | None:
    return None if instant is None else to_text(instant)
