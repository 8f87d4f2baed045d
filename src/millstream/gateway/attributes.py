"""The attributes of an event, as MQTT 5 properties and HTTP headers carry them.

CloudEvents' bindings: in MQTT 5 an attribute is a user property of its name, and `datacontenttype` is the Content Type;
in HTTP it is a header `ce-` and its name, percent-encoded. `specversion` says nothing that an event needs later, and is
not kept; nor are the headers that tell an event which is sent again from the dead letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

import msgspec

from millstream.errors import PayloadError
from millstream.event import RESEND_GROUP
from millstream.ledger import RESEND_OF
from millstream.mqtt import NOTHING, Properties


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """What an event has besides topic and payload; see `Event`."""

    id: str | None = None
    type: str | None = None
    key: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = {}

    @property
    def is_cloud_event(self) -> bool:
        """Whether all is there that CloudEvents require."""
        return bool(self.id and self.type and self.headers.get("source"))


PLAIN = Attributes()

_OWN = {"id": "id", "type": "type", "partitionkey": "key"}
_VERSION_NAME = "specversion"
_FORGOTTEN = frozenset((_VERSION_NAME, RESEND_GROUP, RESEND_OF))  # the latter are an operator's to give
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')  # HTTP binding, 3.1.3.2

VERSION = "1.0"  # of CloudEvents


def from_names(given: Iterable[tuple[str, str]], content_type: str | None) -> Attributes:
    """Attributes by their CloudEvents names. What has no place of its own becomes a header; of several of one name the
    last one counts. An empty `id`, `type` or `partitionkey` is none."""
    own: dict[str, str] = {}
    headers: dict[str, str] = {}
    for name, value in given:
        if name in _OWN:
            if value:
                own[_OWN[name]] = value
        elif name not in _FORGOTTEN:
            headers[name] = value
    return Attributes(content_type=content_type, headers=headers, **own) if own or headers or content_type else PLAIN


def check_version(given: str | None, place: str) -> None:
    """`PayloadError` for an event of a version of CloudEvents that is not ours. Not to say one is fine."""
    if given is not None and given.partition(".")[0] != VERSION.partition(".")[0]:
        raise PayloadError(f"{place} has specversion {given!r}; send CloudEvents {VERSION}")


def from_properties(properties: Properties) -> Attributes:
    """The attributes that an MQTT 5 PUBLISH carries."""
    return from_names(properties.user_properties, properties.content_type)


def to_properties(attributes: Attributes) -> Properties:
    """The same attributes for an MQTT 5 subscriber."""
    if attributes is PLAIN:
        return NOTHING
    own = [(name, value) for name, field in _OWN.items() if (value := getattr(attributes, field))]
    version = [(_VERSION_NAME, VERSION)] if attributes.is_cloud_event else []
    return Properties(
        content_type=attributes.content_type, user_properties=(*version, *own, *attributes.headers.items())
    )


def from_http_headers(headers: Iterable[tuple[str, str]], content_type: str | None) -> Attributes:
    """The attributes of an HTTP request in CloudEvents' binary mode; its other headers are not the event's."""
    return from_names(((name[3:], unquote(value)) for name, value in headers if name.startswith("ce-")), content_type)


def to_http_headers(attributes: Mapping[str, str]) -> Mapping[str, str]:
    """Attributes by their CloudEvents names, as headers of binary mode."""
    return {f"ce-{name}": quote(value, safe=_SAFE) for name, value in attributes.items()}
