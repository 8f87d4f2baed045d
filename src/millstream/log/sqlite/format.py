"""Chunks: how consecutive records of a partition become bytes, and bytes become records again.

A chunk covers `count` consecutive offsets. What it holds of events is one Arrow IPC record batch message without its
schema, which `columns` tells: bit i stands for column i of `BATCH_SCHEMA`. Columns that are null throughout are left
out (most events have neither id nor type nor headers), and so are `offset` and `time` while every record has the next
offset and the same time, as in a chunk that one commit wrote. Coalesced chunks hold both. Offsets that no event has are
ticks, whose offsets and times stand in `ticks`.

Measured on readings of 64 bytes: LZ4 packs 900 MB/s to 34 %, zstd at level 1 350 MB/s to 22 %. The writer's thread
shares its core with the gateway, so it uses LZ4; coalescing has time, and uses zstd.

`docs/log-format.md` is the specification.
"""

from __future__ import annotations

import enum
import struct
import zlib
from functools import lru_cache
from typing import NamedTuple, cast

import msgspec
import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.event import BATCH_SCHEMA, EVENT_SCHEMA
from millstream.log.sqlite.records import NO_EVENTS, NO_NUMBERS, Numbers, Records

OFFSET_BITS = 46  # 70 trillion records a partition: more than SQLite's largest file holds
MAX_PARTITIONS = 1 << (63 - OFFSET_BITS)

CHUNK_BYTES = 1 << 20  # the most a reader has to unpack for one event; larger appends become several chunks
PACK_FROM_BYTES = 256  # smaller messages gain nothing by compression

_OFFSET, _TIME = 0, 1  # columns of BATCH_SCHEMA
_EVENT = len(BATCH_SCHEMA) - len(EVENT_SCHEMA)  # the first of those that an event brings
_HEADER_FIELDS = 11  # of a row, which its checksum covers
_HEADER = struct.Struct(f"<{_HEADER_FIELDS}q")


class Codec(enum.IntEnum):
    """How a chunk's events are compressed. The numbers are on disk."""

    NONE = 0
    LZ4 = 1
    ZSTD = 2


_ARROW_CODEC = {Codec.LZ4: "lz4_raw", Codec.ZSTD: "zstd"}


class CorruptError(Exception):
    """A chunk's bytes are not those that were written; the text says in which way."""


class Body(msgspec.Struct, array_like=True, frozen=True):
    """The events of a chunk, packed. `size` is their size as Arrow columns, `raw` that of the message before
    compression, `checksum` the CRC-32 of `data`."""

    events: int
    size: int
    columns: int
    codec: int
    raw: int
    checksum: int
    data: bytes


_NO_BODY = Body(0, 0, 0, Codec.NONE, 0, 0, b"")


class Row(NamedTuple):
    """A row of the table `chunk`, in the order of its columns. `events_before` and `size_before` are the sums over all
    chunks that ever stood before it in its partition."""

    id: int
    records: int
    events: int
    size: int
    events_before: int
    size_before: int
    first_time: Micros
    last_time: Micros
    columns: int
    codec: int
    raw: int
    checksum: int
    ticks: bytes | None
    data: bytes | None

    @property
    def offset(self) -> int:
        return offset_of(self.id)

    @property
    def next_offset(self) -> int:
        return offset_of(self.id) + self.records


def row_id(partition: int, offset: int) -> int:
    """The id of a chunk: its partition's, then its first offset."""
    return partition << OFFSET_BITS | offset


def offset_of(chunk_id: int) -> int:
    """The first offset of the chunk with that id."""
    return chunk_id & ((1 << OFFSET_BITS) - 1)


def partition_of(chunk_id: int) -> int:
    """The id of a chunk's partition."""
    return chunk_id >> OFFSET_BITS


# --- writing


def pack(events: pa.RecordBatch) -> list[Body]:
    """Events (`EVENT_SCHEMA`) as the bodies of one or more chunks; none for no events."""
    size = events.nbytes
    if size <= CHUNK_BYTES or events.num_rows == 1:
        return [_pack(events, _EVENT, size, Codec.LZ4)] if events.num_rows else []
    rows = max(1, events.num_rows * CHUNK_BYTES // size)
    pieces = (events.slice(start, rows) for start in range(0, events.num_rows, rows))
    return [_pack(piece, _EVENT, piece.nbytes, Codec.LZ4) for piece in pieces]


def pack_records(records: Records, size: int) -> tuple[Body | None, bytes | None]:
    """Records of several chunks as the body and the ticks of one; `size` is the sum of the chunks'."""
    dense = not len(records.tick_offsets)
    body = _pack(records.events, _TIME if dense else _OFFSET, size, Codec.ZSTD) if records.events.num_rows else None
    if dense:
        return body, None
    pairs = np.concatenate([records.tick_offsets - records.first, records.tick_times]).astype("<i8")
    return body, pa.compress(pairs.tobytes(), "zstd", asbytes=True)


def _pack(events: pa.RecordBatch, first_column: int, size: int, codec: Codec) -> Body:
    rows = events.num_rows
    all_columns = enumerate(events.columns, len(BATCH_SCHEMA) - events.num_columns)
    present = {number: array for number, array in all_columns if number >= first_column and array.null_count != rows}
    columns = sum(1 << number for number in present)
    raw = pa.RecordBatch.from_arrays(list(present.values()), schema=_schema(columns)).serialize()
    data = pa.compress(raw, _ARROW_CODEC[codec]) if raw.size >= PACK_FROM_BYTES else raw
    if data.size >= raw.size:
        codec, data = Codec.NONE, raw
    return Body(rows, size, columns, codec, raw.size, zlib.crc32(data), data.to_pybytes())


@lru_cache(maxsize=1 << len(BATCH_SCHEMA))
def _schema(columns: int) -> pa.Schema:
    return pa.schema([field for number, field in enumerate(BATCH_SCHEMA) if columns >> number & 1])


def seal(
    chunk_id: int,
    records: int,
    body: Body | None,
    ticks: bytes | None,
    times: tuple[Micros, Micros],
    events_before: int,
    size_before: int,
) -> Row:
    """The row of a chunk. The CRC-32 of its body goes on over its ticks and then its header, so that a chunk in the
    wrong place is found out as well."""
    held = body or _NO_BODY
    header = (chunk_id, records, held.events, held.size, events_before, size_before, *times)
    packed = (held.columns, held.codec, held.raw)
    checksum = _checksum(held.checksum, ticks, header + packed)
    return Row(*header, *packed, checksum, ticks, held.data if body else None)


def _checksum(checksum: int, ticks: bytes | None, header: tuple[int, ...]) -> int:
    if ticks is not None:
        checksum = zlib.crc32(ticks, checksum)
    return zlib.crc32(_HEADER.pack(*header), checksum)


# --- reading


def unpack(row: Row) -> Records:
    """The records of a chunk. `CorruptError` if they are not what was sealed."""
    try:
        header = cast(tuple[int, ...], row[:_HEADER_FIELDS])
        found = _checksum(zlib.crc32(row.data or b""), row.ticks, header)
    except (struct.error, TypeError) as error:
        raise CorruptError(f"its header does not decode ({error})") from error
    if found != row.checksum:
        raise CorruptError("its checksum does not match")
    try:
        return _unpack(row)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise CorruptError(f"it does not decode ({error})") from error


def _unpack(row: Row) -> Records:
    tick_offsets, tick_times = _unpack_ticks(row)
    events = NO_EVENTS if row.data is None else _unpack_events(row, row.data)
    return Records(row.offset, row.next_offset, events, tick_offsets, tick_times, row.events_before)


def _unpack_ticks(row: Row) -> tuple[Numbers, Numbers]:
    count = row.records - row.events
    if not count:
        return NO_NUMBERS, NO_NUMBERS
    if row.ticks is None:  # a lone one, as it was appended
        return np.array([row.offset]), np.array([row.first_time])
    pairs = np.frombuffer(pa.decompress(row.ticks, 16 * count, "zstd"), "<i8").astype(np.int64)
    return pairs[:count] + row.offset, pairs[count:]


def _unpack_events(row: Row, data: bytes) -> pa.RecordBatch:
    rows = row.events
    raw = data if row.codec == Codec.NONE else pa.decompress(data, row.raw, _ARROW_CODEC[Codec(row.codec)])
    held = pa.ipc.read_record_batch(pa.py_buffer(raw), _schema(row.columns))
    arrays = iter(held.columns)
    columns = [next(arrays) if row.columns >> number & 1 else None for number in range(len(BATCH_SCHEMA))]
    if columns[_OFFSET] is None:
        columns[_OFFSET] = pa.array(np.arange(row.offset, row.offset + rows))
    if columns[_TIME] is None:
        columns[_TIME] = pa.array(np.full(rows, row.first_time)).view(BATCH_SCHEMA.field(_TIME).type)
    filled = [
        pa.nulls(rows, field.type) if column is None else column
        for field, column in zip(BATCH_SCHEMA, columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(filled, schema=BATCH_SCHEMA)


def count_events(row: Row, offset: int) -> int:
    """How many of a chunk's events stand before `offset`, without unpacking them."""
    if offset <= row.offset:
        return 0
    if offset >= row.next_offset:
        return row.events
    tick_offsets, _ = _unpack_ticks(row)
    return offset - row.offset - int(np.searchsorted(tick_offsets, offset))
