"""`GET /streams/{name}/{partition}`: the events of a partition, page by page."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from millstream.event import Batch
from millstream.gateway.http.accept import choose
from millstream.gateway.http.operation import Caller, Content, Needs, Operation
from millstream.gateway.http.page import forms, part
from millstream.gateway.http.parameters import ATTRIBUTES, FROM, Parameters, number, seconds
from millstream.gateway.http.partition import Partition, read_from
from millstream.gateway.http.readers import Readers
from millstream.gateway.http.streaming import Streaming, in_turns
from millstream.gateway.http.tails import EVENT_STREAM, Tails
from millstream.log import EARLIEST, Log
from millstream.rights import Right

NEXT_OFFSET = "Millstream-Next-Offset"

_EVENTS, _MOST_EVENTS = 1_000, 10_000
_BYTES = 1 << 20  # of payload: one that is larger comes alone
_MOST_SECONDS = 60.0  # what proxies and clients have patience for


class Pages:
    """Reads partitions."""

    def __init__(self, log: Log, readers: Readers, tails: Tails) -> None:
        self._log = log
        self._readers = readers
        self._tails = tails

    def operations(self) -> list[Operation]:
        """See `Part`. What is below a partition comes before it."""
        limit = number("limit", "At most so many events.", _EVENTS, _MOST_EVENTS)
        wait = seconds("wait", "Wait so long for events, if there are none.", _MOST_SECONDS)
        return [
            Operation(
                method="GET",
                path="/streams/{name:path}/{partition:int}",
                act=self._page,
                text="Read events of a partition",
                needs=Needs(Right.READ, "name"),
                query=(FROM, limit, wait, ATTRIBUTES),
                gives={200: Content(None, (*forms(False), EVENT_STREAM))},
            )
        ]

    async def _page(self, request: Request, caller: Caller) -> Response:
        asked = caller.asked
        offered = forms(asked.flag("attributes"))
        media_type = choose(request.headers.get("accept"), [*offered, EVENT_STREAM])
        if media_type == EVENT_STREAM:
            return await self._tails.follow(request, asked, media_type, request.path_params["partition"])
        with contextlib.ExitStack() as reading:
            reading.enter_context(self._readers.admitted())
            page = await self._read(request, asked)
            headers = {**_onward(request, page), "Vary": "Accept"}
            return Streaming(in_turns(offered[media_type](page)), media_type, headers, reading.pop_all())

    async def _read(self, request: Request, asked: Parameters) -> Batch:
        limit = asked.integer("limit")
        wait = asked.seconds("wait")
        start = read_from(asked.text("from") or EARLIEST)
        partition = await Partition.find(self._log, request.path_params["name"], request.path_params["partition"])
        offset = await partition.position(start)
        found = await self._readers.wait(partition.read(offset, _BYTES, wait), request)
        return part(found, 0, limit) if found is not None else await partition.read(offset, 1, 0.0)


def _onward(request: Request, page: Batch) -> Mapping[str, str]:
    """Where the next page is: the offset, and a link (RFC 8288) with the same parameters."""
    path = quote(f"/streams/{page.stream}/{page.partition}")
    query = urlencode({**request.query_params, "from": page.next_offset})
    return {NEXT_OFFSET: str(page.next_offset), "Link": f'<{path}?{query}>; rel="next"'}
