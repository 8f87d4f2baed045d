"""A step's batches as the columns that its statements scan: without a copy where Arrow has them already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from millstream.engine.aggregate import OFFSET
from millstream.engine.keys import NEVER, Ints, Slots
from millstream.engine.lookup import References
from millstream.engine.pieces import Pieces
from millstream.engine.plan import WindowPlan
from millstream.engine.scan import HORIZON
from millstream.event import Batch
from millstream.topic import Filter

S = TypeVar("S")
R = TypeVar("R")

_FEW_ROWS = 256
_JSON_SPACE = b" \t\n\r"

_OWN = [pa.field("#row", pa.int64()), pa.field("#slot", pa.int64()), pa.field("#arrival", pa.int64())]


class Inputs:
    """Makes the inputs of one plan: a table of `schema`, a row for each event.

    `#row` is the event's place among all events of the step, `#slot` its key, `#arrival` its arrival and `#data` its
    payload, NULL where that is certainly no JSON object; `#horizon`, where windows overlap, is up to where windows were
    closed when it came (`before`); `#version…` is the version of a reference that is in force for it. The names that
    meet a user's have a `#`, which none of his
    can have."""

    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self.references = References(plan.lookups)
        self._filters = [Filter.parse(text) for text in plan.filters]
        self._parameters = lru_cache(maxsize=100_000)(self._parameters_of)
        horizon = [] if plan.tumbles else [pa.field(HORIZON, pa.int64())]
        offset = [pa.field(OFFSET, pa.int64())] if plan.ordered else []
        self._attributes = [name for name in plan.attributes if name != "_payload"]
        self.schema = pa.schema(
            [
                *_OWN,
                *horizon,
                *offset,
                *(pa.field(name, pa.int64()) for name in self.references.names),
                pa.field("#data", pa.string()),
                *(pa.field(name, pa.timestamp("us") if name == "_time" else pa.string()) for name in self._attributes),
                *(pa.field(name, pa.string()) for name in plan.parameters),
            ]
        )

    def gather(
        self, batches: Sequence[Batch], slots: Sequence[Ints] | None, pieces: Pieces[Any] | None = None
    ) -> pa.Table:
        """The events of the batches, in their order. Their keys have these slots (None: nobody asks for slots, and all
        have the same). Many events are shared out among the threads of `pieces`."""
        slots = slots or [np.zeros(len(batch), np.int64) for batch in batches]
        events = [batch.events for batch in batches]
        rows = sum(map(len, slots))
        if rows <= _FEW_ROWS:  # then a copy costs less than handling each by itself
            events, slots = [pa.concat_batches(events)], [np.concatenate(slots)]
        places = list(zip(events, np.cumsum([0, *map(len, slots)]).tolist(), slots, strict=False))
        return pa.Table.from_batches(_each(pieces, lambda place: self._of(*place), places, rows), self.schema)

    def before(self, inputs: pa.Table, rows: Ints, horizon: Ints) -> pa.Table:
        """Inputs of which some rows came when windows were closed up to a horizon."""
        place = self.schema.get_field_index(HORIZON)
        column = inputs.column(place).to_numpy().copy()
        column[rows] = horizon
        return inputs.set_column(place, self.schema.field(place), pa.array(column))

    def _of(self, events: pa.RecordBatch, start: int, slots: Ints) -> pa.RecordBatch:
        rows = np.arange(start, start + len(slots))
        columns = [pa.array(rows), pa.array(slots), events.column("time").view(pa.int64())]
        if not self._plan.tumbles:
            columns.append(pa.array(np.full(len(slots), NEVER)))
        if self._plan.ordered:
            columns.append(events.column("offset"))
        if self._plan.lookups:
            columns += self.references.numbers(columns[2].to_numpy())
        columns.append(_as_text(events.column("data")))
        for name in self._attributes:
            column = events.column(name[1:])
            columns.append(column.cast(pa.timestamp("us")) if name == "_time" else column)
        if self._plan.parameters:
            columns += self._parameter_columns(events)
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _parameter_columns(self, events: pa.RecordBatch) -> list[pa.Array]:
        names = self._plan.parameters
        if names == (self._plan.key,):
            return [events.column("key")]
        topics = events.column("topic").dictionary_encode()
        values = [self._parameters(topic) for topic in topics.dictionary.to_pylist()]
        return [
            events.column("key")
            if name == self._plan.key
            else pa.array([value.get(name) for value in values], pa.string()).take(topics.indices)
            for name in names
        ]

    def _parameters_of(self, topic: str) -> dict[str, str]:
        """What the first filter that matches finds in a topic."""
        for pattern in self._filters:
            found = pattern.parameters(topic)
            if found is not None:
                return found
        return {}


def slots_of(batches: Sequence[Batch], keys: Slots, pieces: Pieces[Any] | None = None) -> list[Ints]:
    """The slots of the events' keys, batch by batch; a key that is new gets one."""
    rows = sum(map(len, batches))
    if rows <= _FEW_ROWS:
        return [keys.slots(batch.partition, batch.events.column("key").to_pylist()) for batch in batches]
    encoded = list(_each(pieces, lambda batch: batch.events.column("key").dictionary_encode(), batches, rows))
    slots = [
        keys.slots(batch.partition, its.dictionary.to_pylist()) for batch, its in zip(batches, encoded, strict=True)
    ]
    return [its_slots.take(its.indices.to_numpy()) for its_slots, its in zip(slots, encoded, strict=True)]


def _each(pieces: Pieces[Any] | None, function: Callable[[S], R], items: Sequence[S], rows: int) -> Iterable[R]:
    return map(function, items) if pieces is None else pieces.map(function, items, rows)


def _as_text(data: pa.Array) -> pa.Array:
    """Payloads as DuckDB's text, without a copy and without a look at their encoding; those that cannot be JSON objects
    because of their first or last byte are null."""
    validity, offsets, content = data.buffers()
    bounds = np.frombuffer(offsets, np.int32)[data.offset : data.offset + len(data) + 1]
    if content is None or not content.size:
        return pa.nulls(len(data), pa.string())
    characters = np.frombuffer(content, np.uint8)
    first = characters.take(np.minimum(bounds[:-1], content.size - 1))
    last = characters.take(np.maximum(bounds[1:], 1) - 1)
    doubtful = np.flatnonzero((first != ord("{")) | (last != ord("}")) | (bounds[:-1] == bounds[1:]))
    wrong = [row for row in doubtful.tolist() if not _is_braced(data[row].as_py())]
    if wrong:
        valid = np.ones(data.offset + len(data), np.bool_)
        valid[np.array(wrong) + data.offset] = False
        validity = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.string(), len(data), [validity, offsets, content], offset=data.offset)


def _is_braced(payload: bytes) -> bool:
    inner = payload.strip(_JSON_SPACE)
    return inner.startswith(b"{") and inner.endswith(b"}")
