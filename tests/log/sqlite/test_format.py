"""Chunks: what is packed comes back, and nothing else does."""

from __future__ import annotations

import contextlib
import random
import zlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.records import events

from millstream.event import BATCH_SCHEMA, EVENT_SCHEMA, Event, to_columns
from millstream.log.records import concatenate, nulls
from millstream.log.sqlite.format import (
    CHUNK_BYTES,
    TOGETHER_BYTES,
    Body,
    Codec,
    CorruptError,
    Row,
    count_events,
    pack,
    pack_records,
    row_id,
    seal,
    unpack,
    unpack_bodies,
)

texts = st.text(max_size=8)
some_events = st.lists(
    st.builds(
        Event,
        topic=texts,
        payload=st.binary(max_size=20),
        key=st.none() | texts,
        id=st.none() | texts,
        type=st.none() | texts,
        content_type=st.none() | texts,
        headers=st.dictionaries(texts, texts, max_size=2),
    ),
    max_size=6,
)


def rows_of(columns: pa.RecordBatch, *, offset: int = 0, time: int = 7) -> list[Row]:
    """The chunks of one append."""
    rows = []
    for body in pack(columns):
        rows.append(seal(row_id(3, offset), body.events, body, None, (time, time), offset, 0))
        offset += body.events
    return rows


@given(some_events, st.integers(0, 1 << 40))
def test_events_come_back_as_they_were(given_events: list[Event], offset: int) -> None:
    columns = to_columns(given_events)
    for row in rows_of(columns, offset=offset):
        records = unpack(row)
        assert (records.first, records.next_offset) == (offset, offset + len(given_events))
        assert records.events.select(EVENT_SCHEMA.names).equals(columns)
        assert records.events.column("offset").to_pylist() == list(range(offset, offset + len(given_events)))
        assert records.ticks == ()


@given(st.lists(some_events, max_size=4))
def test_what_is_packed_for_others_than_the_log_comes_back_too(batches: list[list[Event]]) -> None:
    columns = [to_columns(one) for one in batches]
    found = list(unpack_bodies(body for one in columns for body in pack(one)))
    assert pa.Table.from_batches(found, EVENT_SCHEMA).equals(pa.Table.from_batches(columns, EVENT_SCHEMA))


def test_only_few_events_of_several_bodies_come_together() -> None:
    small, large = (to_columns([Event(topic="t", payload=payload)] * 3) for payload in (b"x", b"x" * TOGETHER_BYTES))
    other = to_columns([Event(topic="t", payload=b"x", id="1")])
    bodies = [body for events in (small, small, large, small, other, small, small) for body in pack(events)]
    assert [found.num_rows for found in unpack_bodies(bodies)] == [6, 3, 3, 1, 6]


def test_no_events_are_no_chunk() -> None:
    assert pack(to_columns([])) == []


def test_columns_without_values_cost_nothing() -> None:
    (bare,) = pack(events("x"))
    assert bare.columns.bit_count() == 3  # topic, key, data
    (full,) = pack(to_columns([Event(topic="t", key="k", id="1", type="t", content_type="c", headers={"a": "b"})]))
    assert full.columns.bit_count() == 7


def test_a_column_with_one_value_is_kept() -> None:
    columns = to_columns([Event(topic="t"), Event(topic="t", id="1"), Event(topic="t")])
    (row,) = rows_of(columns)
    assert unpack(row).events.column("id").to_pylist() == [None, "1", None]


def test_a_slice_is_packed_alone() -> None:
    columns = events(*(str(number) * 100 for number in range(1000)))
    (body,) = pack(columns.slice(10, 2))
    assert body.raw < 1000
    (row,) = rows_of(columns.slice(10, 2))
    assert unpack(row).events.column("data").to_pylist() == [b"10" * 100, b"11" * 100]


def test_large_appends_become_several_chunks() -> None:
    columns = events(*("x" * 10_000 for _ in range(1000)))
    rows = rows_of(columns)
    assert len(rows) >= 10
    assert all(row.size <= CHUNK_BYTES for row in rows)
    together = concatenate([unpack(row) for row in rows])
    assert together.events.select(EVENT_SCHEMA.names).equals(columns)


def test_an_event_larger_than_a_chunk_has_one_to_itself() -> None:
    rows = rows_of(events("a", "x" * 3 * CHUNK_BYTES, "b"))
    assert [row.events for row in rows] == [1, 1, 1]


def test_what_does_not_shrink_is_not_compressed() -> None:
    (noise,) = pack(to_columns([Event(topic="t", payload=random.Random(1).randbytes(10_000))]))
    assert (noise.codec, noise.raw) == (Codec.NONE, len(noise.data))
    (regular,) = pack(events("x" * 10_000))
    assert regular.codec == Codec.LZ4
    assert len(regular.data) < 1000 < regular.raw


def test_every_changed_byte_is_noticed() -> None:
    (row,) = rows_of(events("some payload", "another one"))
    assert row.data is not None
    for place in range(len(row.data)):
        for bit in (0, 7):
            data = bytearray(row.data)
            data[place] ^= 1 << bit
            with pytest.raises(CorruptError):
                unpack(row._replace(data=bytes(data)))


@pytest.mark.parametrize("name", [name for name in Row._fields if name not in ("ticks", "data")])
def test_every_changed_number_is_noticed(name: str) -> None:
    (row,) = rows_of(events("x", "y"))
    with pytest.raises(CorruptError, match="checksum"):
        unpack(row._replace(**{name: getattr(row, name) + 1}))


@given(st.binary(max_size=200), st.integers(0, 511), st.sampled_from([0, 1, 2, 3]), st.integers(0, 1 << 20))
def test_garbage_with_a_right_checksum_is_an_error_of_ours(data: bytes, columns: int, codec: int, raw: int) -> None:
    """Whatever wrote it: a reader gets a `CorruptError`, or records; nothing else."""
    body = Body(3, 10, columns, codec, raw, zlib.crc32(data), data)
    row = seal(row_id(0, 0), 3, body, None, (0, 0), 0, 0)
    with contextlib.suppress(CorruptError):
        assert len(unpack(row)) == 3


# --- merged chunks


@given(st.lists(st.one_of(st.none(), some_events.filter(bool)), min_size=1, max_size=8))
def test_merged_chunks_hold_the_same_records(parts: list[list[Event] | None]) -> None:
    rows: list[Row] = []
    offset = before = 0
    for place, part in enumerate(parts):
        times = (100 * place, 100 * place)
        for body in pack(to_columns(part)) if part else [None]:
            count = body.events if body else 1
            rows.append(seal(row_id(3, offset), count, body, None, times, before, 0))
            offset, before = offset + count, before + (body.events if body else 0)
    plain = concatenate([unpack(row) for row in rows])
    body, ticks = pack_records(plain, 5)
    times = (rows[0].first_time, rows[-1].last_time)
    merged = unpack(seal(row_id(3, 0), offset, body, ticks, times, 0, 0))
    assert merged.events.equals(plain.events)
    assert merged.ticks == plain.ticks
    assert (merged.first, merged.next_offset, merged.events_before) == (0, offset, 0)
    row = seal(row_id(3, 0), offset, body, ticks, times, 0, 0)
    for place in range(offset + 1):
        assert count_events(row, place) == int((plain.offsets < place).sum())
        assert merged.since(place).events.equals(plain.since(place).events)
        assert merged.since(place).ticks == plain.since(place).ticks
        assert merged.until(place).events.num_rows + merged.since(place).events.num_rows == before
        assert merged.since(place).events_before == count_events(row, place)


@given(st.integers(0, 70), st.integers(0, len(BATCH_SCHEMA) - 1))
def test_columns_of_nulls_are_as_arrow_makes_them(rows: int, number: int) -> None:
    assert nulls(number, rows).equals(pa.nulls(rows, BATCH_SCHEMA.field(number).type))
