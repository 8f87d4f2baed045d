"""An event as a record, by the Kafka protocol binding of CloudEvents 1.0 in binary mode.

The value is the payload, the key the stream's key; attributes are headers named `ce_…`, and the content type is the
header `content-type`. CloudEvents require an `id`, a `source` and a `type`: an event that has none gets one made up,
which readers of ours take away again. Its topic is the extension `ce_topic`. User properties that are no names of
attributes are headers as they are. So every event comes back as it was; and what other producers write is read by the
same rules, as an event on a topic that is called like the stream.

The header `millstream-group` names the group whose transaction has appended the record. A *tick* is a record without
key and value that has the header `millstream-tick`.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, cast
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from confluent_kafka import Message

from millstream.event import EVENT_SCHEMA
from millstream.log.records import FIRST_EVENT_COLUMN, NO_HELD, Records

Header = tuple[str, bytes]

TICK: list[Header] = [("millstream-tick", b"1")]

_TICK_NAME = TICK[0][0]
_SOURCE_NAME = "millstream-group"
_PLAIN_TYPE = b"millstream.event"  # of events without a type
_MADE = b"millstream:"  # what ids begin with that were made up
_SPECVERSION: Header = ("ce_specversion", b"1.0")
_PLAIN: Header = ("ce_type", _PLAIN_TYPE)
_OWN = frozenset({"id", "type", "topic", "specversion", "datacontenttype"})  # attributes that are no user property
_UNSEEN = frozenset({_SPECVERSION[0], _SOURCE_NAME, _TICK_NAME})
_COLUMNS = ((1 << len(EVENT_SCHEMA)) - 1) << FIRST_EVENT_COLUMN

_process = secrets.token_hex(8)
_numbers = itertools.count()


class Record(NamedTuple):
    """What a producer is given."""

    key: bytes | None
    value: bytes
    headers: list[Header]

    @property
    def size(self) -> int:
        """About what it takes."""
        return len(self.key or b"") + len(self.value) + sum(len(name) + len(value) + 2 for name, value in self.headers)


def encode(events: pa.RecordBatch, source: str = "") -> Iterator[Record]:
    """Events (columns of `EVENT_SCHEMA`) as records that a group, the `source`, appends (or nobody)."""
    by = [(_SOURCE_NAME, source.encode())] if source else []
    columns = (events.column(name).to_pylist() for name in EVENT_SCHEMA.names)
    for topic, key, its_id, its_type, content_type, more, data in zip(*columns, strict=True):
        identity = _made_id() if its_id is None else its_id.encode()
        headers = [("ce_id", identity), *_of_topic(topic, bool(more) and any(name == "source" for name, _ in more))]
        headers.append(_PLAIN if its_type is None else ("ce_type", its_type.encode()))
        if content_type is not None:
            headers.append(("content-type", content_type.encode()))
        headers += by
        if more:
            headers += [(_header(name), value.encode()) for name, value in more]
        yield Record(None if key is None else key.encode(), data, headers)


def _made_id() -> bytes:
    return _MADE + f"{_process}:{next(_numbers)}".encode()


@lru_cache(maxsize=100_000)
def _of_topic(topic: str, has_source: bool) -> tuple[Header, ...]:
    """What all events on a topic have."""
    headers = (_SPECVERSION, ("ce_topic", topic.encode()))
    return headers if has_source else (*headers, ("ce_source", _made_source(topic)))


@lru_cache(maxsize=100_000)
def _made_source(topic: str) -> bytes:
    return f"/topics/{quote(topic)}".encode()


@lru_cache(maxsize=10_000)
def _header(name: str) -> str:
    """The header of an attribute or user property; `_property` is its inverse."""
    if name in _OWN:
        return name
    if name.isascii() and name.isalnum() and name == name.lower():
        return f"ce_{name}"
    return f"ce_{name}" if name.startswith(("ce_", "content-type", "millstream-")) else name


@lru_cache(maxsize=10_000)
def _property(header: str) -> str:
    return header.removeprefix("ce_")


def decode(stream: str, messages: Sequence[Message]) -> Records:
    """The records of consecutive messages of one partition, of which there is at least one."""
    rows: list[tuple[object, ...]] = []
    offsets: list[int] = []
    times: list[int] = []
    ticks: list[tuple[int, int]] = []
    for message in messages:
        headers = _headers(message)
        offset, time = message.offset() or 0, max(message.timestamp()[1], 0) * 1000
        value = message.value()
        if value is None and any(name == _TICK_NAME for name, _ in headers):
            ticks.append((offset, time))
            continue
        offsets.append(offset)
        times.append(time)
        rows.append(_row(stream, message.key(), value, headers))
    columns, held = 0, NO_HELD
    if rows:
        arrays = [
            pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), EVENT_SCHEMA, strict=True)
        ]
        columns, held = _COLUMNS, pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA)
    return Records(
        messages[0].offset() or 0,
        (messages[-1].offset() or 0) + 1,
        columns,
        held,
        np.array(offsets, np.int64),
        np.array(times, np.int64),
        np.array([offset for offset, _ in ticks], np.int64),
        np.array([time for _, time in ticks], np.int64),
        0,
    )


def _row(
    stream: str, key: bytes | str | None, value: bytes | str | None, headers: Iterable[tuple[str, bytes | str | None]]
) -> tuple[object, ...]:
    topic, source = stream, b""
    its_key: str | None = stream if key is None else _text(key)
    its_id = its_type = content_type = None
    more: list[tuple[str, str]] = []
    for name, raw in headers:
        data = raw if isinstance(raw, bytes) else (raw or "").encode()
        if name == "ce_topic":
            topic = _text(data)
            its_key = its_key if key is not None else None
        elif name == "ce_id":
            its_id = None if data.startswith(_MADE) else _text(data)
        elif name == "ce_type":
            its_type = None if data == _PLAIN_TYPE else _text(data)
        elif name == "ce_source":
            source = data
        elif name == "content-type":
            content_type = _text(data)
        elif name not in _UNSEEN:
            more.append((_property(name), _text(data)))
    if source and source != _made_source(topic):
        more.insert(0, ("source", _text(source)))
    return topic, its_key, its_id, its_type, content_type, more or None, value if value is not None else b""


def _headers(message: Message) -> list[tuple[str, bytes | str | None]]:
    return cast("list[tuple[str, bytes | str | None]]", message.headers() or [])


def _text(data: bytes | str) -> str:
    """Text in UTF-8; other bytes are shown as escapes, `\\xff`."""
    return data if isinstance(data, str) else data.decode(errors="backslashreplace")


def is_tick(message: Message) -> bool:
    """Whether a record carries nothing but the time."""
    return message.value() is None and any(name == _TICK_NAME for name, _ in _headers(message))


def source_of(message: Message) -> str:
    """The group whose transaction has appended a record; empty for nobody's."""
    return next((_text(value or b"") for name, value in _headers(message) if name == _SOURCE_NAME), "")
