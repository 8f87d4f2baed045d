"""From the columns of events to the arguments of a function that is called for many of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from millstream.app.parameter import FRAMES, Gets, Parameter, Signature
from millstream.event import Batch
from millstream.worker.arguments import Found, Levels, payload_getter
from millstream.worker.given import NOTHING, Given, Made
from millstream.worker.segment import Item, Segment

_ATTRIBUTES = ("topic", "key", "id", "type", "time")  # in a frame of payloads with a `_` before, as in queries


class BatchArguments:
    """Arguments of a function that is called for many events of a partition at once."""

    def __init__(self, signature: Signature, levels: Levels, given: Given) -> None:
        self._levels = levels
        self._given = given
        self._positional = [one for one in signature.parameters if not one.keyword_only]
        self._by_name = [one for one in signature.parameters if one.keyword_only]
        self._decoded = [payload_getter(one) for one in signature.parameters if one.decode is not None]

    def check(self, item: Item) -> None:
        """Raise `PayloadError` where an event's payload does not fit, before it spoils its batch."""
        for get in self._decoded:
            get(*item, NOTHING)

    def of(self, subject: Sequence[Item], made: Made = NOTHING) -> Found:
        """Of events of one partition, in order."""
        return (
            [self._get(parameter, subject, made) for parameter in self._positional],
            {parameter.name: self._get(parameter, subject, made) for parameter in self._by_name},
        )

    def _get(self, parameter: Parameter, items: Sequence[Item], made: Made) -> Any:
        if self._given.has(parameter):
            return self._given.of(parameter)
        if parameter.dependency is not None:
            return made[parameter.dependency.factory]
        if parameter.gets in FRAMES:
            return _as_frame(parameter.gets, self._columns(parameter, items))
        return _of_batch(parameter, items)

    def _columns(self, parameter: Parameter, items: Sequence[Item]) -> pa.RecordBatch:
        """The events' columns; with a payload's type the topic's levels, the payloads' fields and the attributes."""
        events = columns_of(items)
        if parameter.fields is None:
            return events
        levels = [self._levels.of(topic) for topic in events.column("topic").to_pylist()]
        names = [name for name in levels[0] if all(name in one for one in levels)]
        columns = {name: pa.array([one[name] for one in levels]) for name in names}
        get = payload_getter(parameter)
        rows = [parameter.fields(get(segment, index, NOTHING)) for segment, index in items]
        fields = dict.fromkeys(name for row in rows for name in row)
        columns |= {name: pa.array([row.get(name) for row in rows]) for name in fields}
        columns |= {f"_{name}": events.column(name) for name in _ATTRIBUTES}
        return pa.RecordBatch.from_pydict(columns)


def _of_batch(parameter: Parameter, items: Sequence[Item]) -> Any:
    if parameter.gets is Gets.EVENTS:
        return [segment.event(index) for segment, index in items]
    if parameter.gets is Gets.PAYLOADS:
        get = payload_getter(parameter)
        return [get(segment, index, NOTHING) for segment, index in items]
    segment, index = items[-1]
    return Batch(segment.stream, segment.partition, columns_of(items), segment.offsets[index] + 1)


def _as_frame(kind: Gets, columns: pa.RecordBatch) -> Any:
    if kind is Gets.RECORD_BATCH:
        return columns
    table = pa.Table.from_batches([columns])
    if kind is Gets.POLARS:
        import polars  # who annotates its frames has it

        return polars.from_arrow(table)
    return table.to_pandas() if kind is Gets.PANDAS else table


def columns_of(items: Sequence[Item]) -> pa.RecordBatch:
    """Events as columns of `BATCH_SCHEMA`, in the order of the items."""
    indices: dict[Segment, list[int]] = {}
    for segment, index in items:
        indices.setdefault(segment, []).append(index)
    parts = [segment.columns(wanted) for segment, wanted in indices.items()]
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)
