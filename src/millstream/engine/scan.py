"""The text of the statements that scan events: payloads parsed, the event-level fragments evaluated, windows found.

A value that does not fit the type that the query wants is NULL, and so is an expression that fails on a value
(`TRY`): one event can never stop a query.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from millstream.clock import SECOND, Micros
from millstream.engine.aggregate import FLOATS
from millstream.engine.duck import select
from millstream.engine.fragments import finite, guarded, literal, quoted
from millstream.engine.partials import Partials
from millstream.engine.plan import Field, TumblingPlan

AHEAD: Micros = 300 * SECOND
"""An event time further than this beyond its arrival is brought back to it: one wrong clock must not close the
windows of a key long before their time."""

_FIRST_TIME: Micros = -62_135_596_800 * SECOND  # 0001-01-01, the first that a timestamp of RFC 3339 can say

_EXTENT = [
    "min(row) AS first_row",
    "max(row) AS last_row",
    "max(time - arrival) AS skew",
    "max(time) AS high",
    "count(*) AS events",
    "count(*) FILTER (clamped) AS clamped",
]


def fold_text(plan: TumblingPlan, partials: Partials, data: str) -> str:
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


def events_text(plan: TumblingPlan, data: str) -> str:
    columns = ["row", "slot", "arrival", "time", f'{_end("time", plan.size)} AS "end"', "kept"]
    return select(columns, _timed_text(plan, [], data), where="valid", order=["row"])


def _timed_text(plan: TumblingPlan, fragments: Sequence[str], data: str) -> str:
    """Events with their times, and what the fragments make of them: the payload parsed; its fields; the event-level
    fragments; the time clamped."""
    parsed = select(["*", f'{_parse(plan.fields, data)} AS "#json"'], "source")
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
