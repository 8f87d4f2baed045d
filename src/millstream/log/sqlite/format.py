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
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

import msgspec
import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.event import EVENT_SCHEMA
from millstream.log.records import (
    FIRST_EVENT_COLUMN,
    NO_HELD,
    NO_NUMBERS,
    OFFSET,
    TICK_BYTES,
    TIME,
    Numbers,
    Records,
    schema_of,
    time_array,
)

OFFSET_BITS = 46  # 70 trillion records a partition: more than SQLite's largest file holds
MAX_PARTITIONS = 1 << (63 - OFFSET_BITS)

CHUNK_BYTES = 1 << 20  # the most a reader has to unpack for one event; larger appends become several chunks
PACK_FROM_BYTES = 256  # smaller messages gain nothing by compression
TOGETHER_BYTES = 64 << 10  # of messages that are unpacked as one batch: larger ones are not copied for it
LEAST_GAIN = 16  # compression that saves less than a sixteenth is not worth unpacking

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
    """The events of a chunk, packed. `size` is that of their columns, `raw` that of the message before
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
    rows = events.num_rows
    if not rows:
        return []
    columns, arrays = _present(events.columns, rows)
    raw = pa.RecordBatch.from_arrays(arrays, schema=schema_of(columns)).serialize()
    size = _body_size(raw)
    if size <= CHUNK_BYTES or rows == 1:
        return [_compress(rows, size, columns, raw, Codec.LZ4)]
    fitting = max(1, min(rows - 1, rows * CHUNK_BYTES // size))
    return [body for start in range(0, rows, fitting) for body in pack(events.slice(start, fitting))]


def pack_records(records: Records, size: int) -> tuple[Body | None, bytes | None]:
    """Records of several chunks as the body and the ticks of one; `size` is the sum of the chunks'."""
    body = _pack_timed(records, size) if len(records) else None
    if not len(records.tick_offsets):
        return body, None
    pairs = np.concatenate([records.tick_offsets - records.first, records.tick_times]).astype("<i8")
    return body, pa.compress(pairs.tobytes(), "zstd", asbytes=True)


def _pack_timed(records: Records, size: int) -> Body:
    """The events with their times, and with their offsets where there are ticks between them."""
    columns, arrays = records.columns | 1 << TIME, [time_array(records.times), *records.held.columns]
    if len(records.tick_offsets):
        columns, arrays = columns | 1 << OFFSET, [pa.array(records.offsets), *arrays]
    raw = pa.RecordBatch.from_arrays(arrays, schema=schema_of(columns)).serialize()
    return _compress(len(records), size, columns, raw, Codec.ZSTD)


def _present(arrays: list[pa.Array], rows: int) -> tuple[int, list[pa.Array]]:
    """Which columns of events are not null throughout, as bits, and these columns."""
    columns, present = 0, []
    for number, array in enumerate(arrays, FIRST_EVENT_COLUMN):
        if array.null_count != rows:
            columns |= 1 << number
            present.append(array)
    return columns, present


def _body_size(raw: pa.Buffer) -> int:
    """The bytes of a message's columns: what follows its metadata, whose length stands after a marker of four bytes
    (Arrow's "encapsulated message format")."""
    (metadata,) = struct.unpack_from("<i", raw, 4)
    return int(raw.size) - 8 - int(metadata)


def _compress(rows: int, size: int, columns: int, raw: pa.Buffer, codec: Codec) -> Body:
    data = pa.compress(raw, _ARROW_CODEC[codec]) if raw.size >= PACK_FROM_BYTES else raw
    if data.size > raw.size - raw.size // LEAST_GAIN:
        codec, data = Codec.NONE, raw
    return Body(rows, size, columns, codec, raw.size, zlib.crc32(data), data.to_pybytes())


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
    except (pa.ArrowException, OSError, EOFError, ValueError, KeyError) as error:
        raise CorruptError(f"it does not decode ({error})") from error


def _unpack(row: Row) -> Records:
    tick_offsets, tick_times = _unpack_ticks(row)
    if row.data is None:
        held, columns = NO_HELD, 0
    else:
        columns = row.columns
        raw = row.data if row.codec == Codec.NONE else _decompress(row.data, row.raw, Codec(row.codec))
        held = pa.ipc.read_record_batch(pa.py_buffer(raw), schema_of(columns))
    if held.num_rows != row.events:
        raise ValueError(f"it has {held.num_rows} events instead of {row.events}")
    offsets, held = _split(held, columns, OFFSET) or (np.arange(row.offset, row.offset + row.events), held)
    times, held = _split(held, columns, TIME) or (np.full(row.events, row.first_time), held)
    records = Records(
        row.offset,
        row.next_offset,
        columns & ~(1 << OFFSET | 1 << TIME),
        held,
        offsets,
        times,
        tick_offsets,
        tick_times,
        row.events_before,
    )
    return records.weighing(row.size + TICK_BYTES * len(tick_offsets))


def unpack_bodies(bodies: Iterable[Body]) -> Iterator[pa.RecordBatch]:
    """The events that were packed, in their order, with the columns of `EVENT_SCHEMA`; their bytes come from a process
    of ours. Few events of several bodies come together: each batch costs its user more than they do."""
    gathered: list[Body] = []
    size = 0
    for body in bodies:
        size += body.raw
        if gathered and (body.columns != gathered[0].columns or size > TOGETHER_BYTES):
            yield _together(gathered)
            gathered, size = [], body.raw
        gathered.append(body)
    if gathered:
        yield _together(gathered)


def _together(bodies: Sequence[Body]) -> pa.RecordBatch:
    """The events of bodies that have the same columns; there is at least one."""
    schema = schema_of(bodies[0].columns)
    held = [_read(body, schema) for body in bodies]
    events = held[0] if len(held) == 1 else pa.concat_batches(held)
    columns = dict(zip(schema.names, events.columns, strict=True))
    missing = [field for field in EVENT_SCHEMA if field.name not in columns]
    columns |= {field.name: pa.nulls(events.num_rows, field.type) for field in missing}
    return pa.RecordBatch.from_arrays([columns[name] for name in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)


def _read(body: Body, schema: pa.Schema) -> pa.RecordBatch:
    raw = body.data if body.codec == Codec.NONE else _decompress(body.data, body.raw, Codec(body.codec))
    return pa.ipc.read_record_batch(pa.py_buffer(raw), schema)


def _split(held: pa.RecordBatch, columns: int, number: int) -> tuple[Numbers, pa.RecordBatch] | None:
    """The first column as numbers, and the rest, if the first one is that of this number."""
    if not columns >> number & 1:
        return None
    values = held.column(0).cast(pa.int64()).to_numpy()
    return values, held.remove_column(0)


def _decompress(data: bytes, size: int, codec: Codec) -> pa.Buffer:
    return pa.decompress(data, size, _ARROW_CODEC[codec])


def _unpack_ticks(row: Row) -> tuple[Numbers, Numbers]:
    count = row.records - row.events
    if not count:
        return NO_NUMBERS, NO_NUMBERS
    if row.ticks is None:  # a lone one, as it was appended
        return np.array([row.offset]), np.array([row.first_time])
    pairs = np.frombuffer(pa.decompress(row.ticks, 16 * count, "zstd"), "<i8").astype(np.int64)
    return pairs[:count] + row.offset, pairs[count:]


def count_events(row: Row, offset: int) -> int:
    """How many of a chunk's events stand before `offset`, without unpacking them; none, if that cannot be told because
    the chunk is damaged."""
    if offset <= row.offset:
        return 0
    if offset >= row.next_offset:
        return row.events
    try:
        tick_offsets, _ = _unpack_ticks(row)
    except (pa.ArrowException, OSError, ValueError):
        return 0
    return offset - row.offset - int(np.searchsorted(tick_offsets, offset))
