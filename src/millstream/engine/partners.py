"""The statements of a join: which events belong to each other, and what comes of a pair.

Events of the same key are compared only if they are near in time: the left ones' time is cut into *buckets* as wide as
the bound of the join, so that what may belong to an event lies in one bucket or two, and DuckDB joins them by key and
bucket. So a step over a long time costs no more than a pair for each result and some in the neighbourhood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.columns import json_value
from millstream.engine.duck import Duck, Source, select
from millstream.engine.fragments import guarded, literal, quoted
from millstream.engine.keys import Ints
from millstream.engine.plan import EVENT_TIME, Column, Join, WindowPlan
from millstream.engine.waiting import OWN

_PLACES = [pa.field(name, pa.int64()) for name in ("#slot", "#time", "#arrival", "#begun", "#row", "#n")]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Events that belong to each other: their places on the left and on the right side, and the row of the step at
    which the later of them came."""

    left: Ints
    right: Ints
    row: Ints


class Partners:
    """Finds pairs, and makes results of them. `values` are the columns of both sides' values; after `silence` an event
    waits no longer (`clocks.py`)."""

    def __init__(
        self,
        duck: Duck,
        plan: WindowPlan,
        join: Join,
        values: tuple[list[pa.Field], list[pa.Field]],
        silence: Micros,
    ) -> None:
        self._join = join
        self._width = join.high - join.low + 1
        left = [*_PLACES, pa.field("#from", pa.int64()), pa.field("#to", pa.int64()), *values[0]]
        right = [*_PLACES, pa.field("#from", pa.int64()), *values[1]]
        self._left, self._right = Source(pa.schema(left)), Source(pa.schema(right))
        self._pairs = duck.statement(_pairs_text(join, silence), self._left, self._right)
        both = [pa.field(f"{'lr'[n]}{field.name}", field.type) for n, fields in enumerate(values) for field in fields]
        self._results = Source(pa.schema([pa.field("#time", pa.int64()), *both]))
        self._finish = duck.statement(_finish_text(plan, join), self._results)
        self._shown = (Source(self._left.table.schema), Source(self._right.table.schema))
        self._show = [
            duck.statement(_shown_text(side, title), source)
            for side, title, source in zip(join.sides, ("left", "right"), self._shown, strict=True)
        ]
        self._counts = (len(values[0]), len(values[1]))

    def find(self, left: pa.Table, right: pa.Table, rows: tuple[Ints, Ints]) -> Pairs:
        """The pairs in which one at least has come in this step. `rows` are the events' rows in it, -1: they came
        before."""
        if not len(left) or not len(right):
            nothing = np.empty(0, np.int64)
            return Pairs(nothing, nothing, nothing)
        time, other = left.column("time").to_numpy(), right.column("time").to_numpy()
        begin, end = (time + self._join.low) // self._width, (time + self._join.high) // self._width
        second = pa.array(end, mask=begin == end)
        self._left.table = _placed(left, rows[0], [pa.array(begin), second], self._left)
        self._right.table = _placed(right, rows[1], [pa.array(other // self._width)], self._right)
        found = self._pairs.run()
        return Pairs(*(found.column(name).to_numpy() for name in ("l", "r", "row")))

    def results(self, left: pa.Table, right: pa.Table, time: Ints) -> tuple[pa.Array, pa.Array]:
        """The results' payloads, and which of them there are: events of both sides beside each other (on the right NULL
        throughout where there is none), and the times of the pairs."""
        values = [
            *left.columns[len(left.columns) - self._counts[0] :],
            *right.columns[len(right.columns) - self._counts[1] :],
        ]
        self._results.table = pa.Table.from_arrays([pa.array(time), *values], schema=self._results.table.schema)
        found = self._finish.run()
        return found.column("data").combine_chunks(), found.column("kept").combine_chunks()

    def show(self, side: int, events: pa.Table) -> pa.Array:
        """Waiting events of a side as JSON, in their order."""
        source = self._shown[side]
        nothing = np.zeros(len(events), np.int64)
        buckets = [pa.array(nothing)] * (len(source.table.schema) - len(_PLACES) - self._counts[side])
        source.table = _placed(events, nothing, buckets, source)
        return self._show[side].run().column("data").combine_chunks()


def _placed(events: pa.Table, rows: Ints, buckets: list[pa.Array], source: Source) -> pa.Table:
    known = [events.column(name) for name in ("slot", "time", "arrival", "begun")]
    places = [*known, pa.array(rows), pa.array(np.arange(len(events)))]
    values = events.columns[len(OWN) :]
    return pa.Table.from_arrays([*places, *buckets, *values], schema=source.table.schema)


def _pairs_text(join: Join, silence: Micros) -> str:
    """Pairs of new events with all, and of earlier ones with new ones."""
    apart = f'r."#time" - l."#time" BETWEEN {join.low} AND {join.high}'
    on = ['l."#slot" = r."#slot"', 'l."#bucket" = r."#from"', apart]
    on += [f'{one}."#begun" - {other}."#arrival" < {silence}' for one, other in ("lr", "rl")]
    if join.on is not None:
        on.append(f"coalesce({guarded(join.on)}, false)")
    left = select(
        ['* EXCLUDE ("#from", "#to")', 'unnest(["#from", "#to"]) AS "#bucket"', *_values(join.left, "")], "source"
    )
    right = select(["*", *_values(join.right, "")], "beside")
    row = 'greatest(l."#row", r."#row") AS row'
    head = f'{" ".join(["SELECT", ""])}l."#n" AS l, r."#n" AS r, {row} FROM ({left}) AS l JOIN ({right}) AS r ON '
    texts = [[*on, 'l."#row" >= 0'], [*on, 'l."#row" < 0', 'r."#row" >= 0']]
    return " UNION ALL ".join(head + " AND ".join(conditions) for conditions in texts)


def _finish_text(plan: WindowPlan, join: Join) -> str:
    """Results of pairs, in their order."""
    time = f'make_timestamp("#time") AS {EVENT_TIME}'
    inner = select([time, *_values(join.left, "l"), *_values(join.right, "r")], "source")
    pairs = ", ".join(f"{literal(column.name)}, {json_value(column)}" for column in plan.columns)
    kept = f"coalesce({guarded(plan.where)}, false)" if plan.where is not None else "true"
    return select([f"json_object({pairs})::VARCHAR AS data", f"{kept} AS kept"], inner)


def _shown_text(side: WindowPlan, title: str) -> str:
    """Events that wait, in their order."""
    inner = select(['make_timestamp("#time") AS "#at"', *_values(side, "")], "source")
    columns = [
        Column("time", '"#at"', "TIMESTAMP"),
        *(replace(c, sql=quoted(c.name)) for c in side.columns if c.name[0] != "#"),
    ]
    pairs = ", ".join(f"{literal(column.name)}, {json_value(column)}" for column in columns)
    return select([f"json_object('waits', {literal(title)}, {pairs})::VARCHAR AS data"], inner)


def _values(side: WindowPlan, prefix: str) -> list[str]:
    """The values of a side under the names that the plan has for them."""
    return [f"{prefix}v{n}::{column.type} AS {quoted(column.name)}" for n, column in enumerate(side.columns)]
