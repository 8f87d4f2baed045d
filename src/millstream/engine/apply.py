"""`CROSS APPLY`: an event as a row for each element of an array in it, or for each property of a record.

The rows of an event stand beside each other and share its place in the log. An event without elements stays as one
row: what it comes to is for `WHERE` and the counts to say. Everything about an event as a whole (whether it is late,
rejected, processed) is counted where its first element is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from millstream.engine.aggregate import FLOATS
from millstream.engine.duck import select
from millstream.engine.fragments import finite, guarded, literal, quoted
from millstream.engine.plan import Apply, Field

INDEX = "#index"
"""The column with the place of an element, by the number of what is applied."""


@dataclass(frozen=True, slots=True)
class _Pieces:
    """How an element is found: the values of all, and the names of all, if they have names."""

    values: str
    names: str


_FUNCTIONS = {
    "GetArrayElements": _Pieces("json_extract({0}, '$[*]')", "NULL::VARCHAR[]"),
    "GetRecordProperties": _Pieces("json_extract({0}, '$.*')", "json_keys({0})"),
}


def applied_text(number: int, apply: Apply, events: str) -> str:
    """Events as a row for each element: with its fields, its place, and whether there is one."""
    pieces, argument = _FUNCTIONS[apply.function], f"({guarded(apply.argument)})::JSON"
    values, names, element = (f'"#{word}{number}"' for word in ("values", "names", "element"))
    listed = select(
        ["*", f"{pieces.values.format(argument)} AS {values}", f"{pieces.names.format(argument)} AS {names}"], events
    )
    each = f"lambda p: {{'i': p, 'v': {values}[p + 1], 'k': {names}[p + 1]}}"
    elements = f"CASE WHEN len({values}) > 0 THEN list_transform(range(len({values})), {each}) ELSE [NULL] END"
    rows = select([f"* EXCLUDE ({values}, {names})", f"unnest({elements}) AS {element}"], listed)
    columns = [f"{_read(field, element)} AS {quoted(field.name)}" for field in apply.fields]
    columns += [f'coalesce({element}.i, 0) AS "{INDEX}{number}"', f'{element} IS NOT NULL AS "#there{number}"']
    return select([f"* EXCLUDE ({element})", *columns], rows)


def there_text(applies: Sequence[Apply]) -> list[str]:
    """What must hold for a row to have all the elements that it needs."""
    return [f'"#there{number}"' for number, apply in enumerate(applies) if not apply.optional]


def place_columns(applies: Sequence[Apply]) -> list[str]:
    """The columns that tell the rows of an event apart, in their order."""
    return [f'"{INDEX}{number}"' for number in range(len(applies))]


def _read(field: Field, element: str) -> str:
    what, *path = field.path
    if what == "ArrayIndex":
        return f"{element}.i"
    if what == "PropertyName":
        return f"{element}.k"
    place = literal("$" + "".join(f".{json.dumps(name, ensure_ascii=False)}" for name in path))
    if field.type == "JSON":
        return f"json_extract({element}.v, {place})"
    text = f"json_extract_string({element}.v, {place})"
    if field.type == "TIMESTAMP":  # a time without its zone is UTC
        return f"make_timestamp(epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)))"
    value = f"TRY_CAST({text} AS {field.type})"
    return finite(value) if field.type in FLOATS else value
