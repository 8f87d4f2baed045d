"""`GET /streams/{name}/tail`: a stream, live, as server-sent events or line by line; and the same of one partition."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.event import Event
from millstream.event_json import event_json
from millstream.gateway.cloudevents import STRUCTURED, write_event
from millstream.gateway.http.accept import choose
from millstream.gateway.http.operation import Caller, Content, Needs, Operation
from millstream.gateway.http.page import NDJSON
from millstream.gateway.http.parameters import ATTRIBUTES, FROM, PARTITION, Parameters
from millstream.gateway.http.readers import Readers
from millstream.gateway.http.streaming import Streaming
from millstream.gateway.http.tail import Positions, Tail, find_tail
from millstream.log import LATEST, Log
from millstream.rights import Right

EVENT_STREAM = "text/event-stream"
POSITIONS = "Millstream-Positions"

_UNCACHED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}  # nginx would gather it
TAIL = (FROM, PARTITION, ATTRIBUTES)
"""The parameters of a tail."""

_RETRY = b"retry: 1000\n"  # milliseconds after which a browser comes back


class Line(NamedTuple):
    """How a tail is written: what comes first, each event (with the positions behind it), and what keeps alive."""

    first: Callable[[Positions], bytes]
    event: Callable[[Event, Positions], bytes]
    alive: bytes


class Tails:
    """Follows streams."""

    def __init__(self, log: Log, readers: Readers) -> None:
        self._log = log
        self._readers = readers

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="GET",
                path="/streams/{name:path}/tail",
                act=self._tail,
                text="Follow a stream, live",
                needs=Needs(Right.READ, "name"),
                query=TAIL,
                gives={200: Content(None, tuple(_lines(False)))},
            )
        ]

    async def _tail(self, request: Request, caller: Caller) -> Response:
        asked = caller.asked
        media_type = choose(request.headers.get("accept"), list(_lines(False)))
        return await self.follow(request, asked, media_type, asked.partition())

    async def follow(self, request: Request, asked: Parameters, media_type: str, partition: int | None) -> Response:
        """The tail as an answer. A client that comes back says what it saw last in `Last-Event-ID`."""
        if request.method == "HEAD":
            raise HTTPException(405, headers={"Allow": "GET"})
        start = request.headers.get("last-event-id") or asked.text("from") or LATEST
        name = request.path_params["name"]
        positions = await find_tail(self._log, name, partition, start)
        line = _lines(asked.flag("attributes"))[media_type]
        written = _write(Tail(self._log, name, positions, self._readers), line, positions)
        return Streaming(written, media_type, {POSITIONS: str(positions), **_UNCACHED}, self._readers.admitted())


def _lines(attributes: bool) -> dict[str, Line]:
    """By media type, the default first."""
    return {
        EVENT_STREAM: Line(
            lambda positions: b"%sid: %s\n\n" % (_RETRY, str(positions).encode()),
            lambda event, positions: b"id: %s\ndata: %s\n\n" % (str(positions).encode(), event_json(event, attributes)),
            b": still here\n\n",
        ),
        NDJSON: Line(lambda positions: b"", lambda event, positions: event_json(event, attributes) + b"\n", b"\n"),
        STRUCTURED: Line(lambda positions: b"", lambda event, positions: write_event(event) + b"\n", b"\n"),
    }


async def _write(tail: Tail, line: Line, positions: Positions) -> AsyncGenerator[bytes, None]:
    yield line.first(positions)
    async with contextlib.aclosing(tail.pieces()) as pieces:
        async for piece in pieces:
            yield b"".join([_written(line, event, positions) for event in piece]) or line.alive


def _written(line: Line, event: Event, positions: Positions) -> bytes:
    positions.pass_by(event)
    return line.event(event, positions)
