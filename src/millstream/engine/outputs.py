"""What a step publishes: the results of closed windows, and the events that came too late."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import Micros, to_text
from millstream.engine.keys import Ints
from millstream.engine.plan import WindowPlan
from millstream.event import EVENT_SCHEMA, Batch

_HEADERS = EVENT_SCHEMA.field("headers").type


def result_events(plan: WindowPlan, parts: Sequence[pa.Table]) -> pa.RecordBatch | None:
    """Results (`key`, `id`, `data`) as events on the topic `plan.into`, of the query's name as their type."""
    rows = sum(map(len, parts))
    if not rows:
        return None
    results = pa.concat_tables(parts).combine_chunks()
    columns = {
        "topic": _repeated(plan.into, rows),
        "key": results.column("key").chunk(0),
        "id": results.column("id").chunk(0),
        "type": _repeated(plan.name, rows),
        "content_type": _repeated("application/json", rows),
        "headers": pa.nulls(rows, _HEADERS),
        "data": results.column("data").chunk(0).view(pa.binary()),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)


def early_events(plan: WindowPlan, parts: Sequence[pa.Table], mark: Micros) -> pa.RecordBatch | None:
    """Results of windows that are open, as events on the topic `plan.updates`. Their ids have the mark behind what the
    results would have, and a header tells it."""
    results = result_events(plan, parts)
    if results is None:
        return None
    rows = results.num_rows
    changed = {
        "topic": _repeated(plan.updates, rows),
        "id": pc.binary_join_element_wise(results.column("id"), str(mark), ":"),
        "headers": pa.array([[("early-at", to_text(mark))]] * rows, _HEADERS),
    }
    columns = [changed.get(name, results.column(name)) for name in EVENT_SCHEMA.names]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


def late_events(plan: WindowPlan, batches: Sequence[Batch], rows: Ints, ends: Ints) -> pa.RecordBatch | None:
    """The events at `rows` of the batches together, as they came, on the topic `plan.late`. Headers tell the topic and
    position they had, and the end of the window that they missed."""
    if not len(rows):
        return None
    parts = []
    start = 0
    for batch in batches:
        mine = (rows >= start) & (rows < start + len(batch))
        if mine.any():
            parts.append(_late_of(plan, batch, rows[mine] - start, ends[mine]))
        start += len(batch)
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]


def _late_of(plan: WindowPlan, batch: Batch, rows: Ints, ends: Ints) -> pa.RecordBatch:
    events = batch.events.take(pa.array(rows))
    added = zip(
        events.column("topic").to_pylist(),
        events.column("offset").to_pylist(),
        ends.tolist(),
        events.column("headers").to_pylist(),
        strict=True,
    )
    headers = [
        [
            *(had or ()),
            ("late-topic", topic),
            ("late-position", f"{batch.stream}:{batch.partition}:{offset}"),
            ("late-window-end", to_text(end)),
        ]
        for topic, offset, end, had in added
    ]
    changed = {"topic": _repeated(plan.late, len(rows)), "headers": pa.array(headers, _HEADERS)}
    columns = [changed.get(name, events.column(name)) for name in EVENT_SCHEMA.names]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


def _repeated(text: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), rows)  # a type that Arrow finds itself takes it imports each time
