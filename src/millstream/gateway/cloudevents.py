"""HTTP bodies to events: a single payload, NDJSON, and CloudEvents in structured and batch mode (JSON Format 1.0)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import msgspec

from millstream.errors import PayloadError
from millstream.gateway.attributes import PLAIN, Attributes, from_http_headers, from_names

T = TypeVar("T")

_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_STRUCTURED = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
_UNSAID = "application/x-www-form-urlencoded"  # what curl says of any --data when it was told nothing

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_decode_batch = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


class Content(NamedTuple):
    """An event's payload and attributes."""

    payload: bytes
    attributes: Attributes


def read_body(body: bytes, content_type: str | None, headers: Iterable[tuple[str, str]]) -> list[Content]:
    """The events in a request's body. All or nothing: `PayloadError` names the first that is wrong, and its place."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type in _NDJSON:
        return _read_lines(body)
    if media_type == _STRUCTURED:
        return [_read_event(_decode(_decode_members, body), "the event")]
    if media_type == _BATCH:
        events = _decode(_decode_batch, body)
        return [_read_event(members, f"event {number}") for number, members in enumerate(events, 1)]
    return [Content(body, from_http_headers(headers, None if media_type in ("", _UNSAID) else content_type))]


def _read_lines(body: bytes) -> list[Content]:
    found: list[Content] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        payload = line.strip()
        if not payload:
            continue
        try:
            msgspec.json.decode(payload)
        except msgspec.DecodeError as error:
            raise PayloadError(f"line {number} is no JSON: {error}; none of the lines was taken") from None
        found.append(Content(payload, PLAIN))
    return found


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise PayloadError(f"the body is no CloudEvents JSON: {error}") from None


def _read_event(members: dict[str, msgspec.Raw], place: str) -> Content:
    data, data_base64 = members.pop("data", None), members.pop("data_base64", None)
    attributes = {name: text for name, raw in members.items() if (text := _attribute(raw, name, place)) is not None}
    if not attributes.get("id"):
        raise PayloadError(f"{place} has no id, which CloudEvents require")
    content_type = attributes.pop("datacontenttype", None)
    its = from_names(attributes.items(), content_type)
    if data_base64 is None:
        return Content(_payload(data, content_type or "application/json"), its)
    try:
        return Content(base64.b64decode(_text(data_base64), validate=True), its)
    except (binascii.Error, msgspec.ValidationError):
        raise PayloadError(f"{place}: data_base64 is no Base64") from None


def _payload(data: msgspec.Raw | None, content_type: str) -> bytes:
    """The bytes of `data`: JSON stays as it was written; a string is the payload itself where it is to be no JSON."""
    if data is None:
        return b""
    raw = bytes(data)
    if "json" not in content_type and raw.startswith(b'"'):
        return _text(data).encode()
    return raw


def _attribute(raw: msgspec.Raw, name: str, place: str) -> str | None:
    value = msgspec.json.decode(raw)
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise PayloadError(f"{place}: attribute {name!r} is neither text nor a number nor true or false")


def _text(raw: msgspec.Raw) -> str:
    return msgspec.json.decode(raw, type=str)
