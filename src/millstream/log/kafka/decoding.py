"""From the messages of a partition to columns.

Nearly all records of a partition have headers of the same names in the same order, and many headers are the same in all
of them. So the headers of many messages are looked at together, a header at a time, by functions that loop in C; only
messages of which some differ from the others are gone through one by one.

Headers are a large part of the cost of a record: the client makes objects of Python of them when they are asked for.
Who does not need them gets events without.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import eq
from typing import cast

import numpy as np
import pyarrow as pa
from confluent_kafka import Message

from millstream.event import EVENT_FIELDS
from millstream.log.kafka.record import (
    KEY_NAME,
    MADE,
    PLAIN_TYPE,
    UNSEEN,
    headers_of,
    is_tick,
    made_source,
    property_of,
    text_of,
)
from millstream.log.records import FIRST_EVENT_COLUMN, NO_HELD, Numbers, Records, schema_of

Headers = Sequence[tuple[str, bytes | str | None]]
Columns = dict[str, pa.Array]
"""By name of `EVENT_SCHEMA`; what is left out is null throughout."""

BARE = frozenset({"key", "data"})
"""The columns that stand in a record itself, beside its headers."""


def decode(stream: str, messages: Sequence[Message], *, sparse: bool = False) -> Records:
    """The records of consecutive messages of one partition, of which there is at least one. If they may be `sparse`,
    they have no columns but `BARE`, unless there is a record without a key or a value among them: these are others
    than they seem."""
    values = [message.value() for message in messages]
    if sparse:
        keys, data = _texts([message.key() for message in messages]), pa.array(values, pa.binary())
        if keys.null_count == data.null_count == 0:
            return _records(messages, [], *_held({"key": keys, "data": data}))
    events, ticks = messages, []
    if None in values:  # ticks have none
        events = [message for message in messages if not is_tick(message)]
        ticks = [message for message in messages if is_tick(message)]
    columns, held = 0, NO_HELD
    if events:
        columns, held = _held(decode_together(stream, events) or decode_each(stream, events))
    return _records(events, ticks, columns, held)


def _records(events: Sequence[Message], ticks: Sequence[Message], columns: int, held: pa.RecordBatch) -> Records:
    offsets, tick_offsets = _offsets(events), _offsets(ticks)
    both = np.concatenate([offsets, tick_offsets])
    first, next_offset = int(both.min()), int(both.max()) + 1
    return Records(first, next_offset, columns, held, offsets, _times(events), tick_offsets, _times(ticks), 0)


def _held(columns: Columns) -> tuple[int, pa.RecordBatch]:
    """Columns as `Records` have them."""
    there = [(number, field.name) for number, field in enumerate(EVENT_FIELDS) if field.name in columns]
    bits = sum(1 << FIRST_EVENT_COLUMN + number for number, _ in there)
    return bits, pa.RecordBatch.from_arrays([columns[name] for _, name in there], schema=schema_of(bits))


def _offsets(messages: Sequence[Message]) -> Numbers:
    return np.array([message.offset() for message in messages], np.int64)


def _times(messages: Sequence[Message]) -> Numbers:
    millis = np.array([message.timestamp()[1] for message in messages], np.int64)
    return np.maximum(millis, 0) * 1000


# --- all at once


def decode_together(stream: str, events: Sequence[Message]) -> Columns | None:
    """The columns of events, as `decode_each` has them; None where their headers are not alike."""
    headers = _by_name(cast("list[Headers | None]", [message.headers() for message in events]))
    if headers is None:
        return None
    count = len(events)
    topics = headers.pop("ce_topic", None)
    sources = headers.pop("ce_source", None)
    if sources is not None:
        made = sum(map(eq, sources, map(made_source, topics or [stream.encode()] * count)))
        if made == 0 and b"" not in sources:
            headers = {"ce_source": sources, **headers}
        elif made < count:
            return None
    keys: Sequence[bytes | str | None] = headers.pop(KEY_NAME, ()) or [message.key() for message in events]
    if topics is None and None in keys:
        keys = [stream if key is None else key for key in keys]
    ids = [None if its.startswith(MADE) else its for its in headers.pop("ce_id", ())]
    types = [None if its == PLAIN_TYPE else its for its in headers.pop("ce_type", ())]
    columns = {
        "topic": pa.array([stream] * count) if topics is None else _texts(topics),
        "key": _texts(keys),
        "id": _texts(ids),
        "type": _texts(types),
        "content_type": _texts(headers.pop("content-type", ())),
        "data": pa.array([message.value() or b"" for message in events], pa.binary()),
    }
    if headers:
        columns["headers"] = _properties(headers, count)
    return {name: column for name, column in columns.items() if len(column) > column.null_count}


def _by_name(headers: Sequence[Headers | None]) -> dict[str, Sequence[bytes]] | None:
    """The values of each header; those that say nothing to us are left out. None where they are not the same headers
    in all messages, or where one of them has no value, or stands there twice."""
    if None in headers:
        return None if any(headers) else {}
    if len(set(map(len, headers))) > 1:  # type: ignore[arg-type]
        return None
    found: dict[str, Sequence[bytes]] = {}
    for column in zip(*headers, strict=True):
        name, value = column[0]
        if value is None or name in found:
            return None
        if column[-1] != column[0] or column.count(column[0]) < len(column):
            values = [its for other, its in column if other == name and its is not None]
            if len(values) < len(column):
                return None
        elif name in UNSEEN:
            continue
        else:
            values = [value] * len(column)
        found[name] = values
    return {name: values for name, values in found.items() if name not in UNSEEN}


def _texts(values: Sequence[bytes | str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except pa.ArrowInvalid:  # other bytes than text
        return pa.array([None if value is None else text_of(value) for value in values], pa.string())


def _properties(headers: dict[str, Sequence[bytes]], count: int) -> pa.Array:
    """Attributes and user properties, of which every event has the same ones."""
    names = [property_of(name) for name in headers]
    starts = pa.array(range(0, len(names) * count + 1, len(names)), pa.int32())
    values = _texts(list(chain.from_iterable(zip(*headers.values(), strict=True))))
    return pa.MapArray.from_arrays(starts, pa.array(names * count, pa.string()), values)


# --- one by one


def decode_each(stream: str, events: Sequence[Message]) -> Columns:
    """The columns of any events."""
    rows = [_row(stream, message.key(), message.value(), headers_of(message)) for message in events]
    columns = zip(zip(*rows, strict=True), EVENT_FIELDS, strict=True)
    return {field.name: pa.array(column, field.type) for column, field in columns}


def _row(
    stream: str, key: bytes | str | None, value: bytes | str | None, headers: Iterable[tuple[str, bytes | str | None]]
) -> tuple[object, ...]:
    topic, source = stream, b""
    is_ours = False
    its_id = its_type = content_type = None
    more: list[tuple[str, str]] = []
    for name, raw in headers:
        data = raw if isinstance(raw, bytes) else (raw or "").encode()
        if name == "ce_topic":
            topic, is_ours = text_of(data), True
        elif name == KEY_NAME:
            key = data
        elif name == "ce_id":
            its_id = None if data.startswith(MADE) else text_of(data)
        elif name == "ce_type":
            its_type = None if data == PLAIN_TYPE else text_of(data)
        elif name == "ce_source":
            source = data
        elif name == "content-type":
            content_type = text_of(data)
        elif name not in UNSEEN:
            more.append((property_of(name), text_of(data)))
    if source and source != made_source(topic.encode()):
        more.insert(0, ("source", text_of(source)))
    its_key = text_of(key) if key is not None else None if is_ours else stream
    return topic, its_key, its_id, its_type, content_type, more or None, value if value is not None else b""
