"""What the endpoints say: JSON, and one shape for every error: `{"error": {"code": …, "message": …}}`.

An endpoint refuses by raising Starlette's `HTTPException`, whose detail says what was wrong and how to mend it, or by
letting one of our own errors through.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypedDict

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from millstream.errors import (
    CorruptChunkError,
    DeviceAnswerError,
    DeviceError,
    DeviceOfflineError,
    DeviceTimeoutError,
    DiskFaultError,
    DiskFullError,
    FencedError,
    LogClosedError,
    LogError,
    LogUnavailableError,
    MillstreamError,
    NotAuthorizedError,
    OverloadError,
    PayloadError,
    PositionError,
    PreconditionError,
    QueryError,
    RegistrationError,
    RegistryError,
    RegistryUnavailableError,
    TokenError,
    TopicError,
    UnknownCommandError,
    UnknownDeviceError,
    UnknownEnrollmentError,
    UnknownJobError,
    UnknownKeyError,
    UnknownStreamError,
)

JSON = "application/json"
LATER: Mapping[str, str] = {"Retry-After": "1"}

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    410: "gone",
    412: "precondition_failed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
    500: "internal_error",
    502: "bad_answer",
    503: "unavailable",
    504: "timeout",
}

FAULTS: Mapping[type[MillstreamError], int] = {
    TopicError: 400,
    PayloadError: 400,
    PositionError: 400,
    NotAuthorizedError: 403,
    QueryError: 400,
    DeviceError: 400,
    UnknownDeviceError: 404,
    UnknownEnrollmentError: 404,
    UnknownCommandError: 404,
    UnknownJobError: 404,
    UnknownKeyError: 404,
    RegistrationError: 409,
    TokenError: 403,
    PreconditionError: 412,
    OverloadError: 503,
    DeviceOfflineError: 409,
    DeviceTimeoutError: 504,
    DeviceAnswerError: 502,
    RegistryError: 500,
    RegistryUnavailableError: 503,
    LogError: 400,  # what has no name of its own was asked for wrongly
    UnknownStreamError: 404,
    FencedError: 409,
    CorruptChunkError: 500,
    LogUnavailableError: 503,
    LogClosedError: 503,
    DiskFaultError: 503,
    DiskFullError: 503,
}
"""The status of each error that an endpoint lets through; its text says what was wrong and how to mend it."""


class ErrorTold(TypedDict):
    """What was wrong, and how to mend it."""

    code: str
    message: str


class ErrorShown(TypedDict):
    """An error."""

    error: ErrorTold


def answer(content: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as a line of JSON."""
    return Response(msgspec.json.encode(content) + b"\n", status, headers, JSON)


def answer_error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error in the one shape that all have."""
    return answer(error_content(status, message), status, headers)


def error_content(status: int, message: str) -> ErrorShown:
    """That shape."""
    return {"error": {"code": CODES[status], "message": message}}


def status_of(error: Exception) -> int:
    """Of one of our own errors, see `FAULTS`."""
    return next((FAULTS[kind] for kind in type(error).__mro__ if kind in FAULTS), 500)


async def refuse(connection: HTTPConnection, error: Exception) -> Response | None:
    """The answer to what an endpoint, or the router, has refused."""
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{connection.scope['method']} is not possible at {connection.url.path}"
    return await _send(connection, answer_error(error.status_code, message, error.headers))


async def tell(connection: HTTPConnection, error: Exception) -> Response | None:
    """The answer to one of our own errors, see `FAULTS`."""
    status = status_of(error)
    return await _send(connection, answer_error(status, str(error), LATER if status == 503 else None))


async def fail(connection: HTTPConnection, error: Exception) -> Response | None:
    """An error of ours: the log has the details, the client does not."""
    return await _send(connection, answer_error(500, "the server has an error; its log says more"))


async def nothing_there(scope: Scope, receive: Receive, send: Send) -> None:
    """The end of the table of routes."""
    path = scope["path"]
    raise HTTPException(404, f"there is nothing at {path}; publish with POST /topics/TOPIC, read with GET /streams")


async def _send(connection: HTTPConnection, response: Response) -> Response | None:
    """To a request, by who called us; a WebSocket that is not accepted yet is answered as if it were one."""
    if isinstance(connection, WebSocket):
        await connection.send_denial_response(response)
        return None
    assert isinstance(connection, Request)
    return response
