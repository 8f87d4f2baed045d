"""A processor's state on disk: for each partition a log of what changed.

Every step that changes a partition's state saves its *delta*: the keys that changed, as they are now, and the panes
that it brought to windows still open. Restoring applies the deltas in order: of a key the last one counts, panes stand
beside each other, and those of windows that are closed by then fall away; so nothing needs to say that it is gone.
When the deltas outgrow the last snapshot (and 64 KB), everything is saved anew as one delta, and the earlier ones are
dropped. A small step writes little, however large the state is.

A delta has a fingerprint of what its columns mean, and Arrow record batches without their schema, which the plan
tells: of keys and of panes, whose `slot` is the row of their key. It is cut into chunks, named by its number and the
piece's, as large as the log allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import msgspec
import pyarrow as pa
import pyarrow.ipc

from millstream.errors import QueryError
from millstream.log.contract import MAX_CHUNK_BYTES

_COMPRESS_BYTES = 1024  # below, compressing gains nothing
SNAPSHOT_BYTES = 64 * 1024
"""How large deltas become at least, before everything is saved anew."""


class _Delta(msgspec.Struct, array_like=True):
    """What a step changed in a partition: `body` holds record batches, compressed if `size`, its length, is not 0."""

    fingerprint: bytes
    size: int
    body: bytes


class ChunkLog:
    """The numbering of a partition's chunks, and when it is time for a snapshot: not before the deltas have `least`
    bytes."""

    def __init__(self, least: int = SNAPSHOT_BYTES) -> None:
        self._least = least
        self._names: list[str] = []
        self._next = 0
        self._snapshot_bytes = 0
        self._delta_bytes = 0

    @staticmethod
    def of(chunks: Mapping[str, bytes], least: int = SNAPSHOT_BYTES) -> ChunkLog:
        """The log of a partition that was restored from these chunks."""
        log = ChunkLog(least)
        log._names = sorted(chunks)
        if log._names:
            first = number_of(log._names[0])
            log._next = number_of(log._names[-1]) + 1
            log._snapshot_bytes = sum(len(chunk) for name, chunk in chunks.items() if number_of(name) == first)
            log._delta_bytes = sum(map(len, chunks.values())) - log._snapshot_bytes
        return log

    @property
    def snapshot_bytes(self) -> int:
        """How large the last snapshot was."""
        return self._snapshot_bytes

    @property
    def wants_snapshot(self) -> bool:
        return self._delta_bytes > max(self._least, self._snapshot_bytes)

    def delta(self, blob: bytes) -> dict[str, bytes]:
        """The chunks of a further delta."""
        pieces = self._cut(blob)
        if self._names:
            self._delta_bytes += len(blob)
        else:  # the first one says everything
            self._snapshot_bytes, self._delta_bytes = len(blob), 0
        self._names += pieces
        return pieces

    def snapshot(self, blob: bytes) -> tuple[dict[str, bytes], list[str]]:
        """The chunks of a snapshot, and the names of the earlier ones, which it replaces."""
        dropped, self._names = self._names, []
        return self.delta(blob), dropped

    def _cut(self, blob: bytes) -> dict[str, bytes]:
        number, self._next = self._next, self._next + 1
        return cut(number, blob)


def cut(number: int, blob: bytes) -> dict[str, bytes]:
    """A delta as chunks, which its number names."""
    return {
        f"{number:016x}-{piece:04x}": blob[start : start + MAX_CHUNK_BYTES]
        for piece, start in enumerate(range(0, len(blob), MAX_CHUNK_BYTES))
    }


def encode(fingerprint: bytes, *batches: pa.RecordBatch) -> bytes:
    """A delta of record batches."""
    body = msgspec.msgpack.encode([memoryview(batch.serialize()) for batch in batches])
    size = len(body) if len(body) > _COMPRESS_BYTES else 0
    if size:
        body = pa.compress(body, codec="lz4", asbytes=True)
    return msgspec.msgpack.encode(_Delta(fingerprint, size, body))


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """All rows of a table as one record batch."""
    columns = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


def decode(
    chunks: Mapping[str, bytes], fingerprint: bytes, schemas: Sequence[pa.Schema], query: str
) -> Iterator[list[pa.RecordBatch]]:
    """The deltas in chunks, in order: record batches of these schemas. `QueryError`: they are of another query."""
    if not all("-" in name and ":" not in name for name in chunks):  # of a query of another kind
        raise another(query)
    for _, blob in blobs(chunks):
        yield decode_one(blob, fingerprint, schemas, query)


def decode_one(blob: bytes, fingerprint: bytes, schemas: Sequence[pa.Schema], query: str) -> list[pa.RecordBatch]:
    """What `encode` made of record batches of these schemas, or of the first of them. `QueryError`: it is of another
    query."""
    delta = msgspec.msgpack.decode(blob, type=_Delta)
    if delta.fingerprint != fingerprint:
        raise another(query)
    body = pa.decompress(delta.body, delta.size, codec="lz4") if delta.size else delta.body
    pieces = msgspec.msgpack.decode(body, type=list[bytes])
    return [
        pa.ipc.read_record_batch(pa.py_buffer(piece), schema) for piece, schema in zip(pieces, schemas, strict=False)
    ]


def another(query: str) -> QueryError:
    """What is wrong with a state that was saved by another query of this name."""
    return QueryError(
        f"the saved state of query {query!r} was made with another window, JOIN, GROUP BY, LAG, early or set of "
        "aggregates; give the changed query a new name, and it starts afresh"
    )


def number_of(name: str) -> int:
    """The number of the delta that a chunk is a piece of."""
    return int(name.partition("-")[0], 16)


def blobs(chunks: Mapping[str, bytes]) -> Iterator[tuple[int, bytes]]:
    """What was cut into chunks, and its numbers, in their order."""
    for number, names in groupby(sorted(chunks), number_of):
        yield number, b"".join(chunks[name] for name in names)
