"""CloudEvents 1.0 in JSON (the JSON Event Format): structured mode and batches of HTTP and MQTT 5, both ways.

CloudEvents require an `id`, a `source` and a `type`; an event that was published without gets its position, its topic
and a type of ours. The extension attributes `position` and `topic` have these in any case. Attributes whose names
CloudEvents forbid (user properties of MQTT with capitals, say) are left out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from millstream.errors import PayloadError
from millstream.event import Event
from millstream.event_json import NO_JSON, event_time, raw_json
from millstream.gateway.attributes import Attributes, check_version, from_names

T = TypeVar("T")

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
FAMILY = "application/cloudevents"  # what the media types of all formats begin with

_PLAIN_TYPE = "millstream.event"  # of events without a type

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_decode_batch = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


Content = tuple[bytes, Attributes]
"""An event's payload and attributes."""


def media_type_of(content_type: str | None) -> str:
    """A content type without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def read_event(body: bytes) -> Content:
    """The event of structured mode. `PayloadError` says what is wrong with it."""
    return _read(_decode(_decode_members, body), "the event")


def read_batch(body: bytes) -> list[Content]:
    """The events of a batch. All or nothing: `PayloadError` names the first that is wrong, and its place."""
    events = _decode(_decode_batch, body)
    return [_read(members, f"event {number}") for number, members in enumerate(events, 1)]


def write_event(event: Event) -> bytes:
    """An event of a stream, on one line."""
    members: dict[str, Any] = {**to_attributes(event)}
    if event.content_type:
        members["datacontenttype"] = event.content_type
    return msgspec.json.encode({**members, **_data(event)})


def to_attributes(event: Event) -> Mapping[str, str]:
    """The attributes of an event of a stream, but for `datacontenttype`."""
    further = {name: value for name, value in event.headers.items() if value and _is_name(name)}
    own = {
        "specversion": "1.0",
        "id": event.id or event.position,
        "source": event.source,
        "type": event.type or _PLAIN_TYPE,
        "time": further.get("time") or event_time(event),
        "partitionkey": event.key,
        "topic": event.topic,
        "position": event.position,
    }
    return {**further, **{name: value for name, value in own.items() if value}}


def _is_name(name: str) -> bool:
    """Lower-case letters and digits of ASCII, and not `data` (CloudEvents 1.0, Naming Conventions)."""
    return name.isascii() and name.isalnum() and name == name.lower() and name != "data"


def _data(event: Event) -> dict[str, Any]:
    """JSON stands as it is, text as a string, and what is neither in Base64 (JSON Event Format, 3.1)."""
    if not event.payload:
        return {}
    if _is_json(event.content_type):
        raw = raw_json(event.payload)
        if raw is not None:
            return {"data": raw}
    elif media_type_of(event.content_type).startswith("text/"):
        try:
            return {"data": event.payload.decode()}
        except UnicodeDecodeError:
            pass
    return {"data_base64": event.payload}  # msgspec writes bytes as Base64


def _is_json(content_type: str | None) -> bool:
    media_type = media_type_of(content_type)
    return not media_type or media_type.endswith(("/json", "+json"))


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        body.decode()  # the decoder does not look into values that it leaves as they are
        return decoder.decode(body)
    except NO_JSON as error:
        raise PayloadError(f"the body is no CloudEvents JSON: {error}") from None


def _read(members: dict[str, msgspec.Raw], place: str) -> Content:
    data, data_base64 = members.pop("data", None), members.pop("data_base64", None)
    attributes = {name: text for name, raw in members.items() if (text := _attribute(raw, name, place)) is not None}
    check_version(attributes.get("specversion"), place)
    if not attributes.get("id"):
        raise PayloadError(f"{place} has no id, which CloudEvents require")
    content_type = attributes.pop("datacontenttype", None)
    its = from_names(attributes.items(), content_type)
    if data_base64 is None:
        return _payload(data, content_type), its
    try:
        return base64.b64decode(_text(data_base64), validate=True), its
    except (binascii.Error, msgspec.ValidationError):
        raise PayloadError(f"{place}: data_base64 is no Base64") from None


def _payload(data: msgspec.Raw | None, content_type: str | None) -> bytes:
    """The bytes of `data`: JSON stays as it was written; a string is the payload itself where it is to be no JSON."""
    if data is None:
        return b""
    raw = bytes(data)
    if raw.startswith(b'"') and not _is_json(content_type):
        return _text(data).encode()
    return raw


def _attribute(raw: msgspec.Raw, name: str, place: str) -> str | None:
    try:
        value = msgspec.json.decode(raw)
    except RecursionError:
        value = raw
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise PayloadError(f"{place}: attribute {name!r} is neither text nor a number nor true or false")


def _text(raw: msgspec.Raw) -> str:
    return msgspec.json.decode(raw, type=str)
