"""What the partitions of a query tell each other, if its groups do not lie within the stream's key: parts of windows,
and up to where a partition has passed.

They do it through a stream of the query's own, with as many partitions as its source. Each group belongs to one of
them, by a digest of its values, which is the same on every machine and in every version. A message is an event with
columns of Arrow in it: panes of one partition's groups, and behind them readings of clocks; and if there are early
results, of which interval of the log's time it is (`marked.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pyarrow as pa
from msgspec.structs import astuple

from millstream.clock import Micros
from millstream.engine import chunks
from millstream.engine.duck import Duck, Source
from millstream.engine.keys import NEVER
from millstream.engine.merge import Merging
from millstream.engine.partition_clock import Passing, Reading
from millstream.engine.plan import WindowPlan
from millstream.event import Batch, Event, to_columns
from millstream.log.contract import MAX_CHUNK_BYTES
from millstream.log.partition import partition_of

_READINGS = pa.schema([("source", pa.int64()), ("as_of", pa.int64()), ("horizon", pa.int64())])
_PASSINGS = pa.schema([(name, pa.int64()) for name in Passing.__struct_fields__])
_NOBODY = -1  # the source of a row that only tells the interval
_TYPE = "application/vnd.millstream.parts"


@dataclass(slots=True)
class Message:
    """What a partition was told: panes, and readings by the number of their partition. `place` is its offset, `blob` it
    as it is written, and `since` the mark at which its interval began, if there are early results."""

    partition: int
    place: int
    blob: bytes
    panes: pa.Table
    readings: Mapping[int, Reading]
    since: Micros = NEVER
    passings: Sequence[Passing] = field(default_factory=list)


class Parts:
    """Makes the messages of one plan, and reads them."""

    def __init__(self, plan: WindowPlan, duck: Duck, merging: Merging, fingerprint: bytes) -> None:
        self._plan = plan
        self._fingerprint = fingerprint
        self.pane_schema = merging.pane_schema
        self._panes = Source(self.pane_schema)
        self._place = duck.statement(_place_text(plan, merging.merge_text), self._panes)
        self._addresses = [_address(number, plan.sources) for number in range(plan.sources)]

    def messages(
        self,
        panes: pa.Table,
        readings: Mapping[int, Reading],
        since: Micros | None = None,
        passings: Sequence[Passing] = (),
    ) -> pa.RecordBatch | None:
        """Messages with panes, and readings by the number of their partition, for whom they concern (columns of
        `EVENT_SCHEMA`). If there are early results, all of it is of the interval that began at `since`."""
        of_interval = []
        if since is not None:
            nobody = Passing(_NOBODY, since, NEVER, NEVER, NEVER, NEVER)
            of_interval = [_rows([astuple(one) for one in (nobody, *passings)], _PASSINGS)]
        blobs = [(number, blob) for number, its in self._placed(panes) for blob in self._cut(its, of_interval)]
        if readings or passings:
            empty = pa.RecordBatch.from_pylist([], self.pane_schema)
            told = _rows([(source, *astuple(its)) for source, its in readings.items()], _READINGS)
            blob = chunks.encode(self._fingerprint, empty, told, *of_interval)
            blobs += [(number, blob) for number in range(self._plan.sources)]
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

    def read(self, batch: Batch) -> Iterator[Message]:
        """Messages, in their order. `QueryError`: they are of another query."""
        events = batch.events
        for place, blob in zip(events.column("offset").to_pylist(), events.column("data").to_pylist(), strict=True):
            yield self.message(batch.partition, place, blob)

    def message(self, partition: int, place: int, blob: bytes) -> Message:
        """A message as it was written. `QueryError`: it is of another query."""
        schemas = (self.pane_schema, _READINGS, _PASSINGS)
        panes, readings, *others = chunks.decode_one(blob, self._fingerprint, schemas, self._plan.name)
        told = {source: Reading(as_of, horizon) for source, as_of, horizon in _tuples(readings)}
        message = Message(partition, place, blob, pa.Table.from_batches([panes]), told)
        for row in others:
            passings = [Passing(*its) for its in _tuples(row)]
            message.since = passings[0].since
            message.passings = passings[1:]
        return message

    def _placed(self, panes: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Panes, merged, by the partition that puts them together."""
        if not len(panes):
            return
        slot = pa.array(np.zeros(len(panes), np.int64))  # whichever partition they are of
        self._panes.table = panes.set_column(0, self.pane_schema.field(0), slot)
        placed = self._place.run()
        place = placed.column("place").to_numpy()
        order = np.argsort(place, kind="stable")
        ordered = placed.drop_columns(["place"]).take(pa.array(order)).cast(self.pane_schema)
        numbers, starts, counts = np.unique(place[order], return_index=True, return_counts=True)
        for number, start, length in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True):
            yield number, ordered.slice(start, length)

    def _cut(self, panes: pa.Table, of_interval: Sequence[pa.RecordBatch]) -> Iterator[bytes]:
        """In pieces that any log takes, as long as a pane by itself is not larger."""
        (rows,) = panes.combine_chunks().to_batches()
        blob = chunks.encode(self._fingerprint, rows, _rows([], _READINGS), *of_interval)
        if len(blob) <= MAX_CHUNK_BYTES or len(panes) < 2:
            yield blob
        else:
            half = len(panes) // 2
            yield from self._cut(panes.slice(0, half), of_interval)
            yield from self._cut(panes.slice(half), of_interval)


def _rows(tuples: Sequence[Sequence[int]], schema: pa.Schema) -> pa.RecordBatch:
    columns = list(zip(*tuples, strict=True)) or [()] * len(schema)
    return pa.RecordBatch.from_arrays([pa.array(column, pa.int64()) for column in columns], schema=schema)


def _tuples(rows: pa.RecordBatch) -> Iterator[tuple[int, ...]]:
    return zip(*(column.to_pylist() for column in rows.columns), strict=True)


def _place_text(plan: WindowPlan, merge_text: str) -> str:
    groups = ", ".join(f"coalesce(g{number}::VARCHAR, chr(1))" for number in range(len(plan.groups)))
    place = f"md5_number_lower(concat_ws(chr(0), {groups})) % {plan.sources}" if groups else "0"
    return f"SELECT *, ({place})::BIGINT AS place FROM ({merge_text})"  # noqa: S608


def _address(number: int, partitions: int) -> str:
    """A key that an event has in a partition."""
    return next(key for key in map(str, count()) if partition_of(key, partitions) == number)
