"""The text of the statements that scan events: payloads parsed, the event-level fragments evaluated, windows found.

A value that does not fit the type that the query wants is NULL, and so is an expression that fails on a value
(`TRY`): one event can never stop a query.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from millstream.clock import SECOND, Micros
from millstream.engine.aggregate import FLOATS, OFFSET
from millstream.engine.columns import json_value
from millstream.engine.duck import select
from millstream.engine.fixed import first_text, last_text
from millstream.engine.fragments import finite, guarded, literal, quoted
from millstream.engine.partials import Partials
from millstream.engine.plan import EVENT_TIME, Column, Field, WindowPlan
from millstream.engine.window import Kind, Session, Window

AHEAD: Micros = 300 * SECOND
"""An event time further than this beyond its arrival is brought back to it: one wrong clock must not close the
windows of a key long before their time."""

HORIZON = "#horizon"
"""The column with the instant up to which windows were closed when an event came; only plans that do not tumble have
it."""

_FIRST_TIME: Micros = -62_135_596_800 * SECOND  # 0001-01-01, the first that a timestamp of RFC 3339 can say

_EXTENT = [
    "min(row) AS first_row",
    "max(row) AS last_row",
    "max(time - arrival) AS skew",
    "max(time) AS high",
    "count(*) AS events",
    "count(*) FILTER (clamped) AS clamped",
]
_COUNTS = ("events", "clamped")  # the last of the extent


def fold_text(plan: WindowPlan, partials: Partials, data: str) -> str:
    """Panes; beside them each event that is not valid, with slot -1 and its row in the place of the window's end.

    Of several kinds of windows each has panes of its own, and the first of them tells how many events there are."""
    groups = [f"{guarded(group.sql)}::{group.type} AS g{n}" for n, group in enumerate(plan.groups)]
    arguments = [f"{sql} AS x{n}" for n, sql in enumerate(partials.arguments)]
    events = _timed_text(plan, [*groups, *arguments], data)
    folds = [*(f"{fold} AS p{n}" for n, fold in enumerate(partials.folds)), *_EXTENT]
    by = [*(f"g{n}" for n in range(len(groups))), "kept"]
    first, *others = plan.windows
    if not others:
        return _panes_text(plan, first, events, by, folds, ["row", "row", "0"])
    uncounted = [*folds[: -len(_COUNTS)], *(f"0::BIGINT AS {name}" for name in _COUNTS)]
    panes = [_panes_text(plan, first, "timed", by, folds, ["row", "row", "0"])]
    panes += [_panes_text(plan, window, "timed", by, uncounted) for window in others]
    return f"WITH timed AS MATERIALIZED ({events}) " + " UNION ALL ".join(panes)


def plain_text(plan: WindowPlan, data: str) -> str:
    """Each event that is kept with its result, ordered by row; beside them each one that is not valid."""
    told = f"epoch_us({guarded(plan.time)}::TIMESTAMP)" if plan.time is not None else '"#arrival"'
    time = f'make_timestamp(least({told}, "#arrival" + {AHEAD}))'

    def value(column: Column) -> str:
        return json_value(replace(column, sql=column.sql.replace(EVENT_TIME, time)))

    pairs = ", ".join(f"{literal(column.name)}, {value(column)}" for column in plan.columns)
    result = f"json_object({pairs})::VARCHAR" if plan.columns else quoted("_payload")
    events = _timed_text(plan, [f"{result} AS data"], data)
    return select(["row", "valid", "clamped", "time", "data"], events, where="kept OR NOT valid", order=["row"])


def _panes_text(
    plan: WindowPlan, window: Kind, events: str, by: list[str], folds: list[str], invalid: list[str] | None = None
) -> str:
    """Panes of one kind of window; `invalid` is what stands in the place of an event that is not valid, if it shall."""
    place = [text for text, _ in _ends(plan, window)]
    names = [name for _, name in _ends(plan, window)]
    if invalid is not None:
        place = [f"CASE WHEN valid THEN {text} ELSE {other} END" for text, other in zip(place, invalid, strict=False)]
    placed = select(
        [
            "* EXCLUDE (slot)",
            "CASE WHEN valid THEN slot ELSE -1 END AS slot",
            *(f"{text} AS {name}" for text, name in zip(place, names, strict=True)),
        ],
        events,
        where=None if invalid is not None else "valid",
    )
    by = ["slot", *names, *by]
    return select([*by, *folds], placed, group=by)


def _ends(plan: WindowPlan, window: Kind) -> list[tuple[str, str]]:
    """What says to which windows an event belongs (`spans.py`), and the names of it."""
    if isinstance(window, Session):
        return [("time", '"end"'), ("time", "start")]
    if plan.tumbles or not isinstance(window, Window):
        return [(first_text(window, "time"), '"end"')]
    number = plan.windows.index(window)
    return [
        (first_text(window, f"greatest(time, {quoted(HORIZON)} + 1)"), '"end"'),
        (last_text(window, "time"), '"last"'),
        (f"{number}::BIGINT", "w"),
    ]


def events_text(plan: WindowPlan, data: str) -> str:
    """Each event, with the first (`e0`, `e1`, …) and then the last ends (`l0`, …) of its windows of each kind."""
    firsts = [f"{first_text(window, 'time')} AS e{n}" for n, window in enumerate(plan.windows)]
    overlapping = [] if plan.tumbles else [window for window in plan.windows if isinstance(window, Window)]
    lasts = [f"{last_text(window, 'time')} AS l{n}" for n, window in enumerate(overlapping)]
    columns = ["row", "slot", "arrival", "time", "kept", *firsts, *lasts]
    return select(columns, _timed_text(plan, [], data), where="valid", order=["row"])


def _timed_text(plan: WindowPlan, fragments: Sequence[str], data: str) -> str:
    """Events with their times, and what the fragments make of them: the payload parsed; its fields; the event-level
    fragments; the time clamped."""
    parsed = select(["*", f'{_parse(plan.fields, data)} AS "#json"'], "source")
    fields = ['"#row"', '"#slot"', '"#arrival"', '"#json" IS NOT NULL AS "#valid"']
    fields += [f"{_read(field)} AS {quoted(field.name)}" for field in plan.fields]
    fields += [f'{data} AS "_payload"' if name == "_payload" else quoted(name) for name in plan.attributes]
    fields += map(quoted, plan.parameters)
    own = ['"#row" AS row', '"#slot" AS slot', '"#arrival" AS arrival', '"#valid" AS decoded']
    if not plan.tumbles:
        fields.append(quoted(HORIZON))
        own.append(quoted(HORIZON))
    if plan.ordered:
        fields.append(quoted(OFFSET))
        own.append(quoted(OFFSET))
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
