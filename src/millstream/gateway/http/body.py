"""Bodies of requests within their bounds: of one request, and of all that are under way together."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from millstream.errors import PayloadError
from millstream.event_json import NO_JSON
from millstream.gateway.http.answer import LATER
from millstream.settings import Limits

T = TypeVar("T")

_TRACE_BYTES = 256  # of a body that is refused


def decode(body: bytes, kind: type[T]) -> T:
    """A body of JSON; an empty one is an empty object. `PayloadError` if it is something else."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except NO_JSON as error:
        raise PayloadError(f"the body is not what is expected here: {error}") from None


class Bodies:
    """Reads bodies, each as a whole. A request's state keeps how its body began, for the trace of what is refused."""

    def __init__(self, limits: Limits) -> None:
        self._largest = limits.packet_bytes
        self._largest_sum = limits.pending_bytes
        self._reading = 0  # bytes of bodies that are not complete

    async def read(self, request: Request) -> bytes:
        """The body. Refuses with 413 one that is too large, with 503 while all together are."""
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self._reading += len(chunk)
                self._check(len(body))
        except ClientDisconnect:
            raise HTTPException(400, "the client went away") from None
        finally:
            self._reading -= len(body)
            request.state.beginning = bytes(body[:_TRACE_BYTES])
        return bytes(body)

    def _check(self, size: int) -> None:
        if size > self._largest:
            raise HTTPException(413, f"a body of more than {self._largest} bytes (setting 'limits.packet_bytes')")
        if self._reading > self._largest_sum:
            raise HTTPException(503, "too many requests are under way; try again later", LATER)
