"""An event as a record, by the Kafka protocol binding of CloudEvents 1.0 in binary mode.

The value is the payload, the key the stream's key; attributes are headers named `ce_…`, and the content type is the
header `content-type`. CloudEvents require an `id`, a `source` and a `type`: an event that has none gets one made up,
which readers of ours take away again. Its topic is the extension `ce_topic`. User properties that are no names of
attributes are headers as they are. So every event comes back as it was; and what other producers write is read by the
same rules, as an event on a topic that is called like the stream.

The header `millstream-group` names the group whose transaction has appended the record. A *tick* is a record without
key and value that has the header `millstream-tick`. An event that is sent to one group again has its key in the header
`millstream-key`: so whoever needs nothing of an event but key, payload and time finds without a look at its headers,
which are dear to get, that it is for him.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import pyarrow as pa
from confluent_kafka import Message

from millstream.event import EVENT_SCHEMA, RESEND_GROUP

Header = tuple[str, bytes]

TICK: list[Header] = [("millstream-tick", b"1")]

TICK_NAME = TICK[0][0]
SOURCE_NAME = "millstream-group"
KEY_NAME = "millstream-key"
PLAIN_TYPE = b"millstream.event"  # of events without a type
MADE = b"millstream:"  # what ids begin with that were made up
_SPECVERSION: Header = ("ce_specversion", b"1.0")
_PLAIN: Header = ("ce_type", PLAIN_TYPE)
_OWN = frozenset({"id", "type", "topic", "specversion", "datacontenttype"})  # attributes that are no user property
UNSEEN = frozenset({_SPECVERSION[0], SOURCE_NAME, TICK_NAME})

_identity = f"{MADE.decode()}{secrets.token_hex(8)}:"
_numbers = itertools.count()


class Record(NamedTuple):
    """What a producer is given."""

    key: bytes | None
    value: bytes
    headers: list[Header]


def encode(events: pa.RecordBatch, source: str = "") -> Iterator[Record]:
    """Events (columns of `EVENT_SCHEMA`) as records that a group, the `source`, appends (or nobody)."""
    by = [(SOURCE_NAME, source.encode())] if source else []
    topics, keys, ids, types, content_types, properties, data = (
        _values(events.column(name)) for name in EVENT_SCHEMA.names
    )
    bare = _Bare(by)
    for topic, key, value, its_id, its_type, content_type, more in zip(
        topics, keys, data, ids, types, content_types, properties, strict=False
    ):
        identity = ("ce_id", f"{_identity}{next(_numbers)}".encode() if its_id is None else its_id)
        if its_type is None and content_type is None and not more:
            headers = [identity, *bare[topic]]
        else:
            headers = [identity, *_of_topic(topic, any(name == "source" for name, _ in more or ()))]
            headers.append(_PLAIN if its_type is None else ("ce_type", its_type))
            if content_type is not None:
                headers.append(("content-type", content_type))
            headers += by
            headers += [(_header(name), text.encode()) for name, text in more or ()]
            if key is not None and any(name == RESEND_GROUP for name, _ in more or ()):
                headers.append((KEY_NAME, key))
                key = None
        yield Record(key, value, headers)


def _values(column: pa.Array) -> Iterable[Any]:
    """Text as its bytes; the same None again and again where there is nothing, which is often so."""
    if len(column) and column.null_count == len(column):
        return itertools.repeat(None)
    values: list[Any] = (column.cast(pa.binary()) if pa.types.is_string(column.type) else column).to_pylist()
    return values


class _Bare(dict[bytes, tuple[Header, ...]]):
    """By topic the headers of an event that has nothing but a topic, beside its id; `by` are the last of them."""

    def __init__(self, by: list[Header]) -> None:
        super().__init__()
        self._by = by

    def __missing__(self, topic: bytes) -> tuple[Header, ...]:
        found = self[topic] = (*_of_topic(topic, False), _PLAIN, *self._by)
        return found


@lru_cache(maxsize=100_000)
def _of_topic(topic: bytes, has_source: bool) -> tuple[Header, ...]:
    """What all events on a topic have."""
    headers = (_SPECVERSION, ("ce_topic", topic))
    return headers if has_source else (*headers, ("ce_source", made_source(topic)))


@lru_cache(maxsize=100_000)
def made_source(topic: bytes) -> bytes:
    """The source of an event on a topic that has none of its own."""
    return f"/topics/{quote(text_of(topic))}".encode()


@lru_cache(maxsize=10_000)
def _header(name: str) -> str:
    """The header of an attribute or user property; `property_of` is its inverse."""
    if name in _OWN:
        return name
    if name.isascii() and name.isalnum() and name == name.lower():
        return f"ce_{name}"
    return f"ce_{name}" if name.startswith(("ce_", "content-type", "millstream-")) else name


@lru_cache(maxsize=10_000)
def property_of(header: str) -> str:
    """The attribute or user property of a header."""
    return header.removeprefix("ce_")


def headers_of(message: Message) -> list[tuple[str, bytes | str | None]]:
    """Those of a message."""
    return cast("list[tuple[str, bytes | str | None]]", message.headers() or [])


def text_of(data: bytes | str) -> str:
    """Text in UTF-8; other bytes are shown as escapes, `\\xff`."""
    return data if isinstance(data, str) else data.decode(errors="backslashreplace")


def is_tick(message: Message) -> bool:
    """Whether a record carries nothing but the time."""
    return message.value() is None and any(name == TICK_NAME for name, _ in headers_of(message))


def source_of(message: Message) -> str:
    """The group whose transaction has appended a record; empty for nobody's."""
    return next((text_of(value or b"") for name, value in headers_of(message) if name == SOURCE_NAME), "")
