"""What is in the body of a POST: a single payload, NDJSON, or CloudEvents in binary, structured and batch mode."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

from millstream.errors import PayloadError
from millstream.event_json import NO_JSON
from millstream.gateway.attributes import PLAIN, Attributes, check_version, from_http_headers
from millstream.gateway.cloudevents import BATCH, FAMILY, STRUCTURED, Content, media_type_of, read_batch, read_event
from millstream.tracing import TRACEPARENT, trace_of
from millstream.tracing.context import Trace

_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_UNSAID = "application/x-www-form-urlencoded"  # what curl says of any --data when it was told nothing
_decode = msgspec.json.Decoder().decode
_LONGEST_KEY = 256  # characters; Stripe has 255, and UUIDs have 36


def read_contents(request: Request, body: bytes) -> list[Content]:
    """The events in a request's body, with their ids. All or nothing: `PayloadError` names the first that is wrong."""
    contents = _in_trace(request, _read(request, body))
    key = _read_key(request)
    return contents if key is None else [*_identified(contents, key)]


def _read(request: Request, body: bytes) -> list[Content]:
    content_type = request.headers.get("content-type")
    media_type = media_type_of(content_type)
    if media_type in _NDJSON:
        return _read_lines(body)
    if media_type == STRUCTURED:
        return [read_event(body)]
    if media_type == BATCH:
        return read_batch(body)
    if media_type.startswith(FAMILY):
        raise HTTPException(415, f"CloudEvents as {media_type} are not understood here; send {STRUCTURED} or {BATCH}")
    return [_read_binary(request, body, None if media_type in ("", _UNSAID) else content_type)]


def _in_trace(request: Request, contents: list[Content]) -> list[Content]:
    """The events in the trace context of their request, except those that have one of their own."""
    trace = trace_of(request.headers)
    return [(payload, _with_headers(trace, its)) for payload, its in contents] if trace else contents


def _with_headers(trace: Trace, its: Attributes) -> Attributes:
    return its if TRACEPARENT in its.headers else msgspec.structs.replace(its, headers={**its.headers, **trace})


def _read_binary(request: Request, body: bytes, content_type: str | None) -> Content:
    headers = list(request.headers.items())
    check_version(request.headers.get("ce-specversion"), "the event")
    if (event_id := request.query_params.get("id")) is not None:
        headers.append(("ce-id", event_id))
    return body, from_http_headers(headers, content_type)


def _read_lines(body: bytes) -> list[Content]:
    found: list[Content] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        payload = line.strip()
        if not payload:
            continue
        try:
            _decode(payload)
        except NO_JSON as error:
            raise PayloadError(f"line {number} is no JSON: {error}; none of the lines was taken") from None
        found.append((payload, PLAIN))
    return found


def _read_key(request: Request) -> str | None:
    """The `Idempotency-Key`, with or without the quotes that its draft asks for."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    key = given.strip().strip('"')
    if not 0 < len(key) <= _LONGEST_KEY:
        raise PayloadError(f"Idempotency-Key: give a key of 1 to {_LONGEST_KEY} characters, for example a UUID")
    return key


def _identified(contents: list[Content], key: str) -> Iterator[Content]:
    """The key is the id of an event that has none; in a batch, with the event's place: the same request has the same
    ids when it is repeated, and no two events of it share one."""
    for number, (payload, its) in enumerate(contents, 1):
        own = its.id or (key if len(contents) == 1 else f"{key}/{number}")
        yield payload, msgspec.structs.replace(its, id=own)
