"""The statements that scan events: payloads decoded, the plan's event-level fragments evaluated, and all of it folded
into windows at once. No column of decoded events leaves DuckDB, unless some of them may be late.

A payload that is no JSON makes a vectorised decode fail for all. What does not begin and end like an object is masked
before (`inputs.py`), by a glance at two bytes. The rest is decoded in the hope that it is JSON, and if that fails
again, and for some steps afterwards, with whatever is not `json_valid` masked (measured: hope saves a quarter of the
decode; `TRY` would cost three times as much as soon as one payload in a vector of 2048 is bad). Both ways decode the
same payloads to the same values. DuckDB's parser also refuses whatever is not UTF-8, wherever it stands, so raw bytes
are handed to it as they are. It tolerates a trailing comma, and the numbers `NaN` and `Infinity`, which are then
absent: JSON has no such values.

A value that does not fit the type that the query wants is NULL, and so is an expression that fails on a value
(`TRY`): one event can never stop a query.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import SECOND, Micros
from millstream.engine.aggregate import FLOATS
from millstream.engine.duck import Duck, Statement, select
from millstream.engine.fragments import finite, guarded, literal, quoted
from millstream.engine.keys import Ints
from millstream.engine.partials import Partials
from millstream.engine.plan import Field, TumblingPlan

AHEAD: Micros = 300 * SECOND
"""An event time further than this beyond its arrival is brought back to it: one wrong clock must not close the
windows of a key long before their time."""

_FIRST_TIME: Micros = -62_135_596_800 * SECOND  # 0001-01-01, the first that a timestamp of RFC 3339 can say

_CAREFUL_STEPS = 64  # after hope was in vain; bounds what bad payloads can cost to a fraction of the decode

_EXTENT = [
    "min(row) AS first_row",
    "max(row) AS last_row",
    "max(time - arrival) AS skew",
    "max(time) AS high",
    "count(*) AS events",
    "count(*) FILTER (clamped) AS clamped",
]


@dataclass(frozen=True, slots=True)
class Folded:
    """What a step's events come to.

    `windows` has a row for each key and window (and value of the further groups, and of `WHERE`): `slot`, `end`, the
    groups `g…`, `kept`, the partial values `p…`, where its events stand (`first_row`, `last_row`), the most by which
    an event time is ahead of its arrival (`skew`), the largest event time (`high`), how many `events` there are and
    how many of them were `clamped`. `rejected` are the rows of events without a payload or a time, ascending."""

    windows: pa.Table
    rejected: Ints


class Decoder:
    """Runs the statements of one plan over inputs of `schema` (`inputs.py`). `pane_columns` are the
    groups and partial values, as panes have them."""

    def __init__(self, duck: Duck, plan: TumblingPlan, partials: Partials, schema: pa.Schema) -> None:
        self._source = duck.source("events", schema)
        self._fold = self._both(duck, lambda data: _fold_text(plan, partials, data))
        self._events = self._both(duck, lambda data: _events_text(plan, data))
        self._careful_steps = 0
        self._none = self._fold[1].run()
        names = [name for name in self._none.column_names if name[0] in "gp" and name[1:].isdecimal()]
        self.pane_columns = [self._none.schema.field(name) for name in names]

    @staticmethod
    def _both(duck: Duck, text: Callable[[str], str]) -> tuple[Statement, Statement]:
        """A statement that hopes, and the one that takes care."""
        careful = 'CASE WHEN json_valid("#data") THEN "#data" END'
        return duck.statement(text('"#data"')), duck.statement(text(careful))

    def fold(self, inputs: pa.Table) -> Folded:
        """The events as parts of windows."""
        found = self._run(self._fold, inputs) if len(inputs) else self._none
        is_window = pc.greater_equal(found.column("slot"), 0)
        rejected = found.filter(pc.invert(is_window)).column("end").to_numpy()
        return Folded(found.filter(is_window), np.sort(rejected))

    def events(self, inputs: pa.Table) -> pa.Table:
        """The events that are not rejected, in their order: `row`, `slot`, `arrival`, `time`, `end` and `kept`."""
        return self._run(self._events, inputs)

    def _run(self, statements: tuple[Statement, Statement], inputs: pa.Table) -> pa.Table:
        hopeful, careful = statements
        self._source.put(inputs)
        if self._careful_steps:
            self._careful_steps -= 1
        else:
            try:
                return hopeful.run()
            except (duckdb.Error, UnicodeDecodeError):  # the error quotes the payload, which may not be UTF-8
                self._careful_steps = _CAREFUL_STEPS
        return careful.run()


def _fold_text(plan: TumblingPlan, partials: Partials, data: str) -> str:
    """Windows; beside them each event that is not valid, with slot -1 and its row in the place of the window's end."""
    groups = [f"{guarded(group.sql)}::{group.type} AS g{n}" for n, group in enumerate(plan.groups)]
    arguments = [f"{sql} AS x{n}" for n, sql in enumerate(partials.arguments)]
    events = _timed_text(plan, [*groups, *arguments], data)
    place = [
        "CASE WHEN valid THEN slot ELSE -1 END AS slot",
        f'CASE WHEN valid THEN {_end("time", plan.size)} ELSE row END AS "end"',
    ]
    placed = select(["* EXCLUDE (slot)", *place], events)
    by = ["slot", '"end"', *(f"g{n}" for n in range(len(groups))), "kept"]
    folds = [f"{fold} AS p{n}" for n, fold in enumerate(partials.folds)]
    return select([*by, *folds, *_EXTENT], placed, group=by)


def _events_text(plan: TumblingPlan, data: str) -> str:
    columns = ["row", "slot", "arrival", "time", f'{_end("time", plan.size)} AS "end"', "kept"]
    return select(columns, _timed_text(plan, [], data), where="valid", order=["row"])


def _timed_text(plan: TumblingPlan, fragments: Sequence[str], data: str) -> str:
    """Events with their times, and what the fragments make of them: the payload parsed; its fields; the event-level
    fragments; the time clamped."""
    parsed = select(["*", f'{_parse(plan.fields, data)} AS "#json"'], "events")
    fields = ['"#row"', '"#slot"', '"#arrival"', '"#json" IS NOT NULL AS "#valid"']
    fields += [f"{_read(field)} AS {quoted(field.name)}" for field in plan.fields]
    fields += map(quoted, (*plan.attributes, *plan.parameters))
    own = ['"#row" AS row', '"#slot" AS slot', '"#arrival" AS arrival', '"#valid" AS decoded']
    kept = f"coalesce({guarded(plan.where)}, false)" if plan.where is not None else "true"
    told = f"epoch_us({guarded(plan.time)}::TIMESTAMP)" if plan.time is not None else '"#arrival"'
    evaluated = select([*own, f"{kept} AS kept", f"{told} AS told", *fragments], select(fields, parsed))
    latest = f"arrival + {AHEAD}"
    timed = [
        f"decoded AND coalesce(told >= {_FIRST_TIME}, false) AS valid",
        f"least(told, {latest}) AS time",
        f"told > {latest} AS clamped",
    ]
    return select(["* EXCLUDE (decoded, told)", *timed], evaluated)


def _end(time: str, size: Micros) -> str:
    """The end of the window `(start, end]` of a time: up to the next multiple of the size (the remainder has the sign
    of what is divided)."""
    return f"{time} - {time} % {size} + CASE WHEN {time} % {size} > 0 THEN {size} ELSE 0 END"


def _parse(fields: Sequence[Field], data: str) -> str:
    if not fields:
        return 'CASE WHEN json_valid("#data") THEN 1 END'
    structure = json.dumps(_structure(fields), ensure_ascii=False)
    return f"from_json({data}, {literal(structure)})"


def _structure(fields: Iterable[Field]) -> dict[str, object]:
    structure: dict[str, object] = {}
    for field in fields:
        inner = structure
        for name in field.path[:-1]:
            inner = inner.setdefault(name, {})  # type: ignore[assignment]
        # a time without its zone would be read as if it were UTC
        inner[field.path[-1]] = "TIMESTAMPTZ" if field.type == "TIMESTAMP" else field.type
    return structure


def _read(field: Field) -> str:
    value = '"#json"'
    for name in field.path:
        value = f"struct_extract({value}, {literal(name)})"
    if field.type == "TIMESTAMP":
        return f"make_timestamp(epoch_us({value}))"
    return finite(value) if field.type in FLOATS else value
