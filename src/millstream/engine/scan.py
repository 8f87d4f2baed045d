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
from millstream.engine.apply import applied_text, place_columns, there_text
from millstream.engine.columns import json_value
from millstream.engine.duck import select
from millstream.engine.fixed import first_text, last_text
from millstream.engine.fragments import finite, guarded, literal, quoted
from millstream.engine.lookup import found_text, joined_text
from millstream.engine.partials import Partials
from millstream.engine.plan import EVENT_TIME, Column, Field, WindowPlan
from millstream.engine.window import Kind, Session, Window

AHEAD: Micros = 300 * SECOND
"""An event time further than this beyond its arrival is brought back to it: one wrong clock must not close the
windows of a key long before their time."""

HORIZON = "#horizon"
"""The column with the instant up to which windows were closed when an event came; only plans that do not tumble have
it."""

PARSED = "#json"
"""The column with the payload's fields: as a fragment for the payload, it says that they are parsed already
(`parsing.py`)."""

_FIRST_TIME: Micros = -62_135_596_800 * SECOND  # 0001-01-01, the first that a timestamp of RFC 3339 can say

_EXTENT = [
    "min(row) AS first_row",
    "max(row) AS last_row",
    "max(time - arrival) AS skew",
    "max(time) AS high",
    "count(CASE WHEN first THEN 1 END) AS events",  # FILTER would take memory for a vector of all columns each time
    "count(CASE WHEN first AND clamped THEN 1 END) AS clamped",
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


def plain_text(plan: WindowPlan, data: str, *, narrow: bool = False) -> str:
    """Each event that is kept with its result, ordered by row; beside them each one that is not valid. With APPLY, each
    of its rows, and their `place` in the event. `narrow`: see `json_value`."""

    def value(column: Column) -> str:
        return json_value(replace(column, sql=_with_time(plan, column.sql)), narrow=narrow)

    pairs = ", ".join(f"{literal(column.name)}, {value(column)}" for column in plan.columns)
    result = f"json_object({pairs})::VARCHAR" if plan.columns else quoted("_payload")
    if plan.whole and plan.columns:
        result = _appended(quoted("_payload"), result)
    places = place_columns(plan.applies)
    events = _timed_text(plan, [f"{result} AS data", *places], data)
    columns = ["row", "valid", "clamped", "time", "data"]
    if places:
        columns.append(f"concat_ws('.', {', '.join(places)}) AS place")
    # a scan keeps the order of its rows, and sorting wide ones takes a seventh of the statement; joins do not keep it
    order = ["row", *places] if plan.lookups or places else []
    return select(columns, events, where="kept OR NOT valid", order=order)


def _appended(payload: str, columns: str) -> str:
    """A JSON object with the members of another one behind its own, which stay as they came."""
    comma = f"CASE WHEN len(json_keys({payload})) > 0 THEN ',' ELSE '' END"
    return f"left(rtrim({payload}, chr(32) || chr(9) || chr(10) || chr(13)), -1) || {comma} || substr({columns}, 2)"


def lookback_text(plan: WindowPlan, by: Sequence[str], when: str | None, values: Sequence[str], data: str) -> str:
    """Each valid event, ordered by row: what it is looked for by (a text, if there is anything), whether `when` holds,
    and the values that others may find (`x0`, …)."""
    fragments = [
        f"coalesce({guarded(_with_time(plan, when))}, false) AS found" if when is not None else "true AS found"
    ]
    if by:
        texts = ", ".join(f"{guarded(_with_time(plan, sql))}::VARCHAR" for sql in by)
        fragments.append(f'json_array({texts})::VARCHAR AS "by"')
    names = [f"x{number}" for number in range(len(values))]
    fragments += [f"{guarded(_with_time(plan, sql))} AS {name}" for sql, name in zip(values, names, strict=True)]
    columns = ["row", "slot", "arrival", "time", "found", *(['"by"'] if by else []), *names]
    return select(columns, _timed_text(replace(plan, where=None), fragments, data), where="valid", order=["row"])


def rows_text(plan: WindowPlan, data: str) -> str:
    """Each event with its time and the plan's columns, as `v0`, `v1`, …, ordered by row. With APPLY, each of its rows,
    and whether it is the `first`."""
    values = [f"{guarded(_with_time(plan, c.sql))}::{c.type} AS v{n}" for n, c in enumerate(plan.columns)]
    kept = [f"v{n}::VARCHAR AS v{n}" if c.type == "JSON" else f"v{n}" for n, c in enumerate(plan.columns)]
    known = ["coalesce(time, 0) AS time", "coalesce(clamped, false) AS clamped"]  # NULL in events that are not valid
    places = place_columns(plan.applies)
    columns = ["row", "slot", "arrival", "valid", "kept", "first", *known, *kept]
    return select(columns, _timed_text(plan, [*values, *places], data), order=["row", *places])


def numbered_text(plan: WindowPlan, partials: Partials, data: str) -> str:
    """Each event, ordered by row, with what windows that count are made of: its groups (and `by`, all of them as a
    text) and arguments. With APPLY, each of its rows, and whether it is the `first`."""
    groups = [f"{guarded(group.sql)}::{group.type} AS g{n}" for n, group in enumerate(plan.groups)]
    arguments = [f"{sql} AS x{n}" for n, sql in enumerate(partials.arguments)]
    places = place_columns(plan.applies)
    names = [*(f"g{n}" for n in range(len(groups))), *(f"x{n}" for n in range(len(arguments)))]
    if groups:
        by = ", ".join(f"g{n}::VARCHAR" for n in range(len(groups)))
        names.append(f'json_array({by})::VARCHAR AS "by"')
    known = ["coalesce(time, 0) AS time", "coalesce(clamped, false) AS clamped"]  # NULL in events that are not valid
    columns = ["row", "slot", quoted(OFFSET), "valid", "kept", "first", *known, *names]
    order = ["row", *places] if plan.lookups or places else []  # as in `plain_text`
    return select(columns, _timed_text(plan, [*groups, *arguments, *places], data), order=order)


def _with_time(plan: WindowPlan, sql: str) -> str:
    """An event-level fragment that knows the event's time."""
    told = f"epoch_us({guarded(plan.time)}::TIMESTAMP)" if plan.time is not None else '"#arrival"'
    return sql.replace(EVENT_TIME, f'make_timestamp(least({told}, "#arrival" + {AHEAD}))')


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
    folds = [*passed_text(plan, window), *folds]
    return select([*by, *folds], placed, group=by)


def passed_text(plan: WindowPlan, window: Kind) -> list[str]:
    """If the plan regroups, the first row of a pane that closes the window before: which the grace is over for."""
    if not plan.regroups or not isinstance(window, Window):
        return []
    return [f'min(row) FILTER (time > "end" - {window.hop - plan.grace}) AS passed']


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
    kept, by = ("bool_or(kept) AS kept", ["row", "slot", "arrival", "time"]) if plan.applies else ("kept", [])
    columns = ["row", "slot", "arrival", "time", kept, *firsts, *lasts]
    return select(columns, _timed_text(plan, [], data), where="valid", group=by, order=["row"])


def _timed_text(plan: WindowPlan, fragments: Sequence[str], data: str) -> str:
    """Events with their times, and what the fragments make of them: the payload parsed; its fields; what is looked up;
    the event-level fragments; the time clamped."""
    is_parsed = data == PARSED
    parsed = "source" if is_parsed else parsed_text(plan.fields, data, "*")
    data = f'CASE WHEN "{PARSED}" IS NOT NULL THEN "#data" END' if is_parsed else data
    fields = ['"#row"', '"#slot"', '"#arrival"', '"#json" IS NOT NULL AS "#valid"']
    fields += [f"{_read(field, is_parsed)} AS {quoted(field.name)}" for field in plan.fields]
    fields += [f'{data} AS "_payload"' if name == "_payload" else quoted(name) for name in plan.attributes]
    fields += map(quoted, plan.parameters)
    fields += [f'"#back{each.number}", "#known{each.number}"' for each in plan.lookbacks]
    own = ['"#row" AS row', '"#slot" AS slot', '"#arrival" AS arrival', '"#valid" AS decoded']
    if not plan.tumbles:
        fields.append(quoted(HORIZON))
        own.append(quoted(HORIZON))
    if plan.ordered:
        fields.append(quoted(OFFSET))
        own.append(quoted(OFFSET))
    fields += [f'"#version{number}"' for number in range(len(plan.lookups))]
    events = select(fields, parsed)
    for number, apply in enumerate(plan.applies):
        events = applied_text(number, apply, events)
    own.append(f"{' AND '.join(f'{place} = 0' for place in place_columns(plan.applies)) or 'true'} AS first")
    for number, lookup in enumerate(plan.lookups):
        events = joined_text(number, lookup, events)
    conditions = [*there_text(plan.applies), *found_text(plan.lookups)]
    conditions += [f"coalesce({guarded(plan.where)}, false)"] if plan.where is not None else []
    kept = " AND ".join(conditions) or "true"
    told = f"epoch_us({guarded(plan.time)}::TIMESTAMP)" if plan.time is not None else '"#arrival"'
    evaluated = select([*own, f"{kept} AS kept", f"{told} AS told", *fragments], events)
    latest = f"arrival + {AHEAD}"
    timed = [
        f"decoded AND coalesce(told >= {_FIRST_TIME}, false) AS valid",
        f"least(told, {latest}) AS time",
        f"told > {latest} AS clamped",
    ]
    return select(["* EXCLUDE (decoded, told)", *timed], evaluated)


def parsed_text(fields: Sequence[Field], data: str, *columns: str) -> str:
    """The fields of each payload as a structure, NULL where it is none, behind other columns."""
    return select([*columns, f"{_parse(fields, data)} AS {quoted(PARSED)}"], "source")


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


def _read(field: Field, is_parsed: bool) -> str:
    value = quoted(PARSED)
    for name in field.path:
        value = f"struct_extract({value}, {literal(name)})"
    if field.type == "TIMESTAMP":
        return f"make_timestamp(epoch_us({value}))"
    if is_parsed and field.type == "JSON":
        return f"{value}::JSON"
    return finite(value) if field.type in FLOATS else value
