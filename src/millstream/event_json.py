"""An event as JSON, as every command and endpoint shows it, and reading it back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from millstream.clock import to_micros, to_text
from millstream.errors import PayloadError
from millstream.event import Event

NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON, or nested too deeply."""

_encode = msgspec.json.Encoder().encode
_check = msgspec.json.Decoder(msgspec.Raw).decode


def event_json(event: Event, attributes: bool = False) -> bytes:
    """An event of a stream, on one line: `stream, partition, offset, time, topic, key, id`, and its payload. With
    `attributes` also `type, content_type, headers`, where it has them."""
    return _encode(
        {
            "stream": event.stream,
            "partition": event.partition,
            "offset": event.offset,
            "time": event_time(event),
            "topic": event.topic,
            "key": event.key,
            "id": event.id,
            **(_further(event) if attributes else {}),
            **payload_member(event.payload),
        }
    )


class _Shown(msgspec.Struct):
    """What `event_json` writes."""

    stream: str
    partition: int
    offset: int
    time: datetime | None
    topic: str
    key: str | None
    id: str | None
    type: str | None = None
    content_type: str | None = None
    headers: dict[str, str] = {}
    data: msgspec.Raw = msgspec.Raw()
    data_base64: bytes = b""


_read = msgspec.json.Decoder(_Shown).decode


def read_event_json(written: bytes) -> Event:
    """The event that `event_json` wrote; JSON on several lines has become one line. `PayloadError` if it is none."""
    try:
        its = _read(written)
    except NO_JSON as error:
        raise PayloadError(f"this is no event: {error}") from None
    return Event(
        topic=its.topic,
        payload=bytes(its.data) or its.data_base64,
        key=its.key,
        id=its.id,
        type=its.type,
        content_type=its.content_type,
        headers=its.headers,
        time=its.time,
        stream=its.stream,
        partition=its.partition,
        offset=its.offset,
    )


def payload_member(payload: bytes) -> dict[str, Any]:
    """`data` with the payload as it is, its numbers untouched, if it is JSON; else `data_base64`."""
    raw = raw_json(payload)
    return {"data": raw} if raw is not None else {"data_base64": payload}  # msgspec writes bytes as Base64


def raw_json(payload: bytes) -> msgspec.Raw | None:
    """A payload on one line, ready to stand within other JSON; None if it is no JSON."""
    try:
        payload.decode()  # the decoder below does not look into strings
        raw = _check(payload)
        if b"\n" in payload or b"\r" in payload:
            raw = msgspec.Raw(msgspec.json.format(payload, indent=-1))
    except NO_JSON:
        return None
    return raw


def event_time(event: Event) -> str | None:
    """When it was committed, in RFC 3339."""
    return to_text(to_micros(event.time)) if event.time is not None else None


def _further(event: Event) -> dict[str, Any]:
    """What few events have."""
    its = {"type": event.type, "content_type": event.content_type, "headers": event.headers}
    return {name: value for name, value in its.items() if value}
