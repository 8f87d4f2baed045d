"""`POST /devices`: many devices in one request, a JSON object a line, for import."""

from __future__ import annotations

from typing import TypedDict

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.actor import By
from millstream.devices import Change, Definition, Name, Put, Registry
from millstream.errors import DeviceError
from millstream.event_json import NO_JSON
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies
from millstream.gateway.http.devices import CHANGE
from millstream.gateway.http.operation import NDJSON, Caller, Content, Operation

_MOST_LINES = 1_000  # in a transaction, which holds up everybody else's


class Line(Change):
    """A device as it is to be."""

    id: str
    module: str = ""

    def definition(self) -> Definition:
        """`DeviceError` if it cannot have that name."""
        name = Name.parse(f"{self.id}/{self.module}" if self.module else self.id)
        return Definition(name, self)


class WrongLine(TypedDict):
    """What is wrong with a line, which are counted from 1, empty ones left out."""

    line: int
    message: str


class BatchOutcome(TypedDict):
    """What became of the lines."""

    created: int
    updated: int
    unchanged: int
    errors: list[WrongLine]


class DeviceBatches:
    """Puts many devices at a time."""

    def __init__(self, registry: Registry, bodies: Bodies) -> None:
        self._registry = registry
        self._bodies = bodies

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="POST",
                path="/devices",
                act=self._put,
                text="Make or replace up to 1,000 devices, a JSON object a line",
                needs=CHANGE,
                takes=Content(Line, (NDJSON,)),
                gives={200: Content(BatchOutcome)},
            )
        ]

    async def _put(self, request: Request, caller: Caller) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != NDJSON:
            raise HTTPException(415, f"send one JSON object a line, as {NDJSON}")
        lines = [line for line in (await self._bodies.read(request)).split(b"\n") if line.strip()]
        if len(lines) > _MOST_LINES:
            raise HTTPException(413, f"{len(lines)} devices in one request; send at most {_MOST_LINES}")
        return answer(_told(await self._outcomes(lines, caller.actor)))

    async def _outcomes(self, lines: list[bytes], by: By) -> list[Put | DeviceError]:
        read = [_read(line) for line in lines]
        good = [each for each in read if isinstance(each, Definition)]
        put = iter(await self._registry.put_many(good, by))
        return [next(put) if isinstance(each, Definition) else each for each in read]


def _read(line: bytes) -> Definition | DeviceError:
    try:
        return msgspec.json.decode(line, type=Line).definition()
    except NO_JSON as error:
        return DeviceError(f"the line is no device: {error}")
    except DeviceError as error:
        return error


def _told(outcomes: list[Put | DeviceError]) -> BatchOutcome:
    put = [each for each in outcomes if isinstance(each, Put)]
    created = sum(each.created for each in put)
    updated = sum(each.changed and not each.created for each in put)
    wrong = [(number, each) for number, each in enumerate(outcomes, 1) if isinstance(each, DeviceError)]
    return {
        "created": created,
        "updated": updated,
        "unchanged": len(put) - created - updated,
        "errors": [{"line": number, "message": str(error)} for number, error in wrong],
    }
