"""What the partitions of a query tell each other, if its groups do not lie within the stream's key: parts of windows,
and up to where a partition has passed.

They do it through a stream of the query's own, with as many partitions as its source. Each group belongs to one of
them, by a digest of its values, which is the same on every machine and in every version. A message is an event with
columns of Arrow in it: panes of one partition's groups, and behind them readings of clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

import numpy as np
import pyarrow as pa

from millstream.engine import chunks
from millstream.engine.duck import Duck, Source
from millstream.engine.merge import Merging
from millstream.engine.partition_clock import Reading
from millstream.engine.plan import WindowPlan
from millstream.event import Batch, Event, to_columns
from millstream.log.contract import MAX_CHUNK_BYTES
from millstream.log.partition import partition_of

_READINGS = pa.schema([("source", pa.int64()), ("as_of", pa.int64()), ("horizon", pa.int64())])
_TYPE = "application/vnd.millstream.parts"


class Parts:
    """Makes the messages of one plan, and reads them."""

    def __init__(self, plan: WindowPlan, duck: Duck, merging: Merging, fingerprint: bytes) -> None:
        self._plan = plan
        self._fingerprint = fingerprint
        self._schema = merging.pane_schema
        self._panes = Source(self._schema)
        self._place = duck.statement(_place_text(plan, merging.merge_text), self._panes)
        self._addresses = [_address(number, plan.sources) for number in range(plan.sources)]

    def messages(self, panes: pa.Table, readings: Mapping[int, Reading]) -> pa.RecordBatch | None:
        """Messages with panes, and readings by the number of their partition, for whom they concern (columns of
        `EVENT_SCHEMA`)."""
        blobs = [(number, blob) for number, its in self._placed(panes) for blob in self._cut(its, {})]
        if readings:
            empty = self._schema.empty_table()
            blobs += [(number, blob) for number in range(self._plan.sources) for blob in self._cut(empty, readings)]
        events = [
            Event(
                topic=self._plan.parts,
                key=self._addresses[number],
                type=self._plan.name,
                content_type=_TYPE,
                payload=blob,
            )
            for number, blob in blobs
        ]
        return to_columns(events) if events else None

    def read(self, batch: Batch) -> Iterator[tuple[pa.Table, dict[int, Reading]]]:
        """The panes and readings of messages, in their order. `QueryError`: they are of another query."""
        for blob in batch.events.column("data").to_pylist():
            panes, readings = chunks.decode_one(blob, self._fingerprint, (self._schema, _READINGS), self._plan.name)
            told = zip(*(column.to_pylist() for column in readings.columns), strict=True)
            found = {source: Reading(as_of, horizon) for source, as_of, horizon in told}
            yield pa.Table.from_batches([panes]), found

    def _placed(self, panes: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Panes, merged, by the partition that puts them together."""
        if not len(panes):
            return
        slot = pa.array(np.zeros(len(panes), np.int64))  # whichever partition they are of
        self._panes.table = panes.set_column(0, self._schema.field(0), slot)
        placed = self._place.run()
        place = placed.column("place").to_numpy()
        order = np.argsort(place, kind="stable")
        ordered = placed.drop_columns(["place"]).take(pa.array(order)).cast(self._schema)
        numbers, starts, counts = np.unique(place[order], return_index=True, return_counts=True)
        for number, start, length in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True):
            yield number, ordered.slice(start, length)

    def _cut(self, panes: pa.Table, readings: Mapping[int, Reading]) -> Iterator[bytes]:
        """In pieces that any log takes, as long as a pane by itself is not larger."""
        told = [(source, reading.as_of, reading.horizon) for source, reading in readings.items()]
        columns = [pa.array(column, pa.int64()) for column in zip(*told, strict=True)] or [pa.array([], pa.int64())] * 3
        rows = panes.combine_chunks().to_batches()
        body = rows[0] if rows else pa.RecordBatch.from_pylist([], self._schema)
        blob = chunks.encode(self._fingerprint, body, pa.RecordBatch.from_arrays(columns, schema=_READINGS))
        if len(blob) <= MAX_CHUNK_BYTES or len(panes) < 2:
            yield blob
        else:
            half = len(panes) // 2
            yield from self._cut(panes.slice(0, half), {})
            yield from self._cut(panes.slice(half), readings)


def _place_text(plan: WindowPlan, merge_text: str) -> str:
    groups = ", ".join(f"coalesce(g{number}::VARCHAR, chr(1))" for number in range(len(plan.groups)))
    place = f"md5_number_lower(concat_ws(chr(0), {groups})) % {plan.sources}" if groups else "0"
    return f"SELECT *, ({place})::BIGINT AS place FROM ({merge_text})"  # noqa: S608


def _address(number: int, partitions: int) -> str:
    """A key that an event has in a partition."""
    return next(key for key in map(str, count()) if partition_of(key, partitions) == number)
