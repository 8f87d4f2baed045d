"""The gateway's HTTP side: publishing, health and status. A 2xx comes after the commit, as a PUBACK does.

Every error has one shape: `{"error": {"code": …, "message": …}}`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from email.utils import format_datetime
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from millstream.clock import Clock, to_datetime
from millstream.errors import LogError, PayloadError, TopicError
from millstream.gateway.auth import Authenticator, BusyError, Credentials, NotAuthenticatedError
from millstream.gateway.cloudevents import Content, read_body
from millstream.gateway.ingest import Ingest
from millstream.gateway.statistics import Statistics
from millstream.settings import Limits
from millstream.topic import check_topic

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    503: "unavailable",
}
_TRACE_BYTES = 256  # of a body that is refused
_LATER = {"Retry-After": "1"}
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="millstream", charset="UTF-8"'}


class HttpApi:
    """The endpoints. `report` gives the gateway's statistics; `unready` the reason why it cannot take events now."""

    def __init__(
        self,
        limits: Limits,
        ingest: Ingest,
        authenticator: Authenticator,
        statistics: Statistics,
        clock: Clock,
        report: Callable[[], dict[str, Any]],
        unready: Callable[[], str | None],
    ) -> None:
        self._largest = limits.packet_bytes
        self._largest_sum = limits.pending_bytes
        self._reading = 0  # bytes of bodies that are not complete
        self._ingest = ingest
        self._authenticator = authenticator
        self._statistics = statistics
        self._clock = clock
        self._report = report
        self._unready = unready
        self.app = Starlette(
            routes=[
                Route("/topics/{topic:path}", self._publish, methods=["POST"]),
                Route("/health/live", self._live),
                Route("/health/ready", self._ready),
                Route("/status", self._status),
            ],
            exception_handlers={HTTPException: self._refuse, Exception: self._fail},
        )

    async def _publish(self, request: Request) -> Response:
        await self._authenticate(request)
        try:
            contents = await self._read(request)
        except HTTPException as refused:
            self._statistics.reject(
                _CODES[refused.status_code],
                text=refused.detail,
                client=request.client.host if request.client is not None else "",
                topic=request.path_params["topic"],
                payload=getattr(request.state, "beginning", b""),
            )
            raise
        topic = request.path_params["topic"]
        try:
            duplicates = await self._ingest.publish([(topic, *content) for content in contents])
        except LogError as error:
            raise HTTPException(503, f"{error}; send it again", _LATER) from error
        return self._json({"events": len(contents), "duplicates": duplicates})

    async def _read(self, request: Request) -> list[Content]:
        """The events of a request. Refused ones count as one event each."""
        try:
            check_topic(request.path_params["topic"])
        except TopicError as error:
            raise HTTPException(400, str(error)) from None
        body = await self._body(request)
        headers = list(request.headers.items())
        if (event_id := request.query_params.get("id")) is not None:
            headers.append(("ce-id", event_id))
        try:
            return read_body(body, request.headers.get("content-type"), headers)
        except PayloadError as error:
            raise HTTPException(400, str(error)) from None

    async def _body(self, request: Request) -> bytes:
        """The body within its bounds: of one request, and of all that are under way together."""
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self._reading += len(chunk)
                if len(body) > self._largest:
                    raise HTTPException(
                        413, f"a body of more than {self._largest} bytes (setting 'limits.packet_bytes')"
                    )
                if self._reading > self._largest_sum:
                    raise HTTPException(503, "too many requests are under way; try again later", _LATER)
        except ClientDisconnect:
            raise HTTPException(400, "the client went away") from None
        finally:
            self._reading -= len(body)
            request.state.beginning = bytes(body[:_TRACE_BYTES])
        return bytes(body)

    async def _live(self, request: Request) -> Response:
        return self._json({"live": True})

    async def _ready(self, request: Request) -> Response:
        reason = self._unready()
        if reason is not None:
            raise HTTPException(503, reason, _LATER)
        return self._json({"ready": True})

    async def _status(self, request: Request) -> Response:
        await self._authenticate(request)
        return self._json(self._report())

    async def _authenticate(self, request: Request) -> None:
        credentials = _credentials(request.headers.get("authorization"))
        if self._authenticator.recall(credentials) is not None:
            return
        try:
            await self._authenticator.authenticate(credentials)
        except NotAuthenticatedError as error:
            raise HTTPException(401, str(error), _CHALLENGE) from None
        except BusyError as error:
            raise HTTPException(503, str(error), _LATER) from None

    async def _refuse(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = error.detail
        if error.status_code == 404:
            message = f"there is nothing at {request.url.path}; publish with POST /topics/TOPIC"
        elif error.status_code == 405:
            message = f"{request.method} is not possible at {request.url.path}"
        return self._error(error.status_code, message, error.headers)

    async def _fail(self, request: Request, error: Exception) -> Response:
        """An error of ours: the log has the details, the client does not."""
        return self._error(500, "the server has an error; its log says more")

    def _error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        code = _CODES.get(status, "internal_error")
        return self._json({"error": {"code": code, "message": message}}, status, headers)

    def _json(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        date = format_datetime(to_datetime(self._clock.now()), usegmt=True)
        return Response(
            msgspec.json.encode(content) + b"\n", status, {"Date": date, **(headers or {})}, "application/json"
        )


def _credentials(authorization: str | None) -> Credentials:
    """What HTTP Basic (RFC 7617) shows; nothing if it is another scheme or does not decode."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return Credentials(None, None)
    try:
        user_name, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return Credentials(user_name.decode(), password)
    except (binascii.Error, UnicodeDecodeError):
        return Credentials(None, None)
