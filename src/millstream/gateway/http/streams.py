"""`GET /streams` and `/streams/{name}`: which streams there are, and where they begin and end."""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import Response

from millstream.clock import Micros, to_text
from millstream.gateway.http.answer import answer
from millstream.gateway.http.operation import WHOEVER_IS_LET_IN, Caller, Content, Needs, Operation
from millstream.log import Bounds, Log, StreamSpec, find_stream
from millstream.rights import Right, may


class StreamShown(TypedDict):
    """A stream. `retention_age` is a duration of ISO 8601."""

    stream: str
    topics: tuple[str, ...]
    key: str | None
    partitions: int
    retention_age: timedelta | None
    retention_bytes: int | None


class BoundsShown(TypedDict):
    """Where a partition begins and ends: `next` is the offset of the event that comes next."""

    partition: int
    first: int
    next: int
    events: int
    first_time: str | None
    last_time: str | None


class StreamWithBounds(StreamShown):
    """A stream with its partitions."""

    bounds: list[BoundsShown]


class StreamsShown(TypedDict):
    """Streams by name."""

    streams: list[StreamShown]


class Streams:
    """What there is to read."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def operations(self) -> list[Operation]:
        """See `Part`. A stream's name may have slashes, so this comes after what is below a stream."""
        return [
            Operation(
                method="GET",
                path="/streams",
                act=self._list,
                text="List the streams that one may read",
                needs=WHOEVER_IS_LET_IN,
                gives={200: Content(StreamsShown)},
            ),
            Operation(
                method="GET",
                path="/streams/{name:path}",
                act=self._show,
                text="Show a stream, and where each of its partitions begins and ends",
                needs=Needs(Right.READ, "name"),
                gives={200: Content(StreamWithBounds)},
            ),
        ]

    async def _list(self, request: Request, caller: Caller) -> Response:
        rights = caller.identity.rights
        specs = await self._log.streams()
        shown: StreamsShown = {
            "streams": [_spec(specs[name]) for name in sorted(specs) if may(rights, Right.READ, name)]
        }
        return answer(shown)

    async def _show(self, request: Request, caller: Caller) -> Response:
        spec = await find_stream(self._log, request.path_params["name"])
        bounds = [await self._log.bounds(spec.name, partition) for partition in range(spec.partitions)]
        shown: StreamWithBounds = {**_spec(spec), "bounds": [_bounds(*each) for each in enumerate(bounds)]}
        return answer(shown)


def _spec(spec: StreamSpec) -> StreamShown:
    return {
        "stream": spec.name,
        "topics": spec.topics,
        "key": spec.key,
        "partitions": spec.partitions,
        "retention_age": spec.retention_age,  # msgspec writes durations in ISO 8601
        "retention_bytes": spec.retention_bytes,
    }


def _bounds(partition: int, its: Bounds) -> BoundsShown:
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
