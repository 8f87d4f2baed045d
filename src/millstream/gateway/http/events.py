"""`GET /streams/{name}/{partition}/{offset}`: one event; and its data by itself, as a CloudEvent in binary mode."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.event import Event
from millstream.event_json import event_json, raw_json
from millstream.gateway.attributes import to_http_headers
from millstream.gateway.cloudevents import STRUCTURED, to_attributes, write_event
from millstream.gateway.http.accept import choose
from millstream.gateway.http.operation import Caller, Content, Needs, Operation
from millstream.gateway.http.page import JSON
from millstream.gateway.http.parameters import ATTRIBUTES
from millstream.gateway.http.partition import Partition
from millstream.log import Log
from millstream.rights import Right

_BYTES = "application/octet-stream"
_HARMLESS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}  # a device may send a page


class Events:
    """Shows events one by one."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def operations(self) -> list[Operation]:
        """See `Part`. What is below an event comes before it."""
        event = "/streams/{name:path}/{partition:int}/{offset:int}"
        return [
            Operation(
                method="GET",
                path=f"{event}/data",
                act=self._data,
                text="The payload of an event as it came, its attributes in headers",
                needs=Needs(Right.READ, "name"),
                gives={200: Content(None, ("*/*",))},
            ),
            Operation(
                method="GET",
                path=event,
                act=self._event,
                text="Show an event",
                needs=Needs(Right.READ, "name"),
                query=(ATTRIBUTES,),
                gives={200: Content(dict[str, Any], (JSON, STRUCTURED))},
            ),
        ]

    async def _event(self, request: Request, caller: Caller) -> Response:
        media_type = choose(request.headers.get("accept"), [JSON, STRUCTURED])
        event = await self._find(request)
        written = write_event(event) if media_type == STRUCTURED else event_json(event, caller.asked.flag("attributes"))
        return Response(written + b"\n", headers={"Content-Type": media_type, "Vary": "Accept"})

    async def _data(self, request: Request, caller: Caller) -> Response:
        event = await self._find(request)
        headers = {"Content-Type": _content_type(event), **_HARMLESS, **to_http_headers(to_attributes(event))}
        return Response(event.payload, headers=headers)

    async def _find(self, request: Request) -> Event:
        name, number, offset = (request.path_params[part] for part in ("name", "partition", "offset"))
        partition = await Partition.find(self._log, name, number)
        await partition.check(offset)
        for event in await partition.read(offset, 1, 0.0):
            if event.offset == offset:
                return event
        raise HTTPException(404, f"there is no event at offset {offset} in partition {number} of stream {name!r}")


def _content_type(event: Event) -> str:
    its = event.content_type
    if its and its.isascii() and its.isprintable():
        return its
    return JSON if raw_json(event.payload) is not None else _BYTES
