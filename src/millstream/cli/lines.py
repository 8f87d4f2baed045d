"""An event as a line: JSON for scripts, or text for people."""

from __future__ import annotations

from typing import Any

import msgspec

from millstream.cli.output import printable
from millstream.clock import to_micros, to_text
from millstream.event import Event
from millstream.ledger import letter

_encode = msgspec.json.Encoder().encode
_check = msgspec.json.Decoder(msgspec.Raw).decode


def json_line(event: Event) -> bytes:
    """An event of a stream: `stream, partition, offset, time, topic, key, id`, and its payload."""
    return _encode(
        {
            "stream": event.stream,
            "partition": event.partition,
            "offset": event.offset,
            "time": _time(event),
            "topic": event.topic,
            "key": event.key,
            "id": event.id,
            **payload_member(event.payload),
        }
    )


def text_line(event: Event) -> bytes:
    """Time, topic and payload, on one line whatever they hold; of a dead letter also who gave it up, and why."""
    line = f"{_time(event)}  {printable(event.topic)}  {payload_text(event.payload)}"
    if (reason := event.headers.get(letter.REASON)) is not None:
        line += f"  [{printable(event.headers.get(letter.GROUP, '?'))}: {printable(reason)}]"
    return line.encode()


def payload_member(payload: bytes) -> dict[str, Any]:
    """`data` with the payload as it is, its numbers untouched, if it is JSON; else `data_base64`."""
    try:
        payload.decode()  # the decoder below does not look into strings
        raw = _check(payload)
        if b"\n" in payload or b"\r" in payload:
            raw = msgspec.Raw(msgspec.json.format(payload, indent=-1))
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return {"data_base64": payload}  # msgspec writes bytes as base64
    return {"data": raw}


def payload_text(payload: bytes) -> str:
    """A payload for people; what cannot be shown is escaped."""
    return printable(payload.decode(errors="backslashreplace"))


def _time(event: Event) -> str | None:
    return to_text(to_micros(event.time)) if event.time is not None else None
