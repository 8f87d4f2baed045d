"""The statements that scan panes: those of one window become one, and closed windows become results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import Micros, to_text
from millstream.engine.aggregate import FLOATS
from millstream.engine.duck import Duck, Source, select
from millstream.engine.fragments import finite, guarded, literal
from millstream.engine.keys import Keys
from millstream.engine.partials import Partials
from millstream.engine.plan import Column, TumblingPlan

_TEXTS = [pa.field("key", pa.string()), pa.field("end_text", pa.string())]
_PLACE = [pa.field("slot", pa.int64()), pa.field("end", pa.int64())]


class Merging:
    """The statements of one plan. `columns` are the groups and partial values of panes."""

    def __init__(self, duck: Duck, plan: TumblingPlan, partials: Partials, columns: Sequence[pa.Field]) -> None:
        self.pane_schema = pa.schema([*_PLACE, *columns])
        groups = [field.name for field in columns if field.name.startswith("g")]
        types = {field.name: field.type for field in columns}
        merges = [_merge(f"p{n}", types[f"p{n}"], merge) for n, merge in enumerate(partials.merges)]
        self._panes = Source(self.pane_schema)
        self._merge = duck.statement(_merge_text(groups, merges), self._panes)
        self._closed = Source(pa.schema([*self.pane_schema, *_TEXTS]))
        self._finish = duck.statement(_finish_text(plan, groups, merges, partials.finishes), self._closed)

    def merge(self, panes: pa.Table) -> pa.Table:
        """Panes of the same window and group as one."""
        self._panes.table = panes
        return self._merge.run()

    def finish(self, panes: pa.Table, keys: Keys) -> pa.Table:
        """The results of closed windows, from their panes: `key`, `id` and `data` (JSON text), ordered by the windows'
        ends and then by key."""
        names = _of_distinct(panes.column("slot"), keys.names.__getitem__)
        ends = _of_distinct(
            panes.column("end"), _end_text
        )  # for each result, in SQL, it took a quarter of the statement
        self._closed.table = panes.append_column(_TEXTS[0], names).append_column(_TEXTS[1], ends)
        return self._finish.run()


def _end_text(end: Micros) -> str:
    """A time as `_json` shows it."""
    text = to_text(end)
    return f"{text[:-1].rstrip('0')}Z" if "." in text else text


def _of_distinct(numbers: pa.ChunkedArray, text: Callable[[int], str]) -> pa.ChunkedArray:
    """What `text` makes of numbers; it is called once for each that there is."""
    encoded = pc.dictionary_encode(numbers).combine_chunks()
    texts = pa.array([text(number) for number in encoded.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([texts.take(encoded.indices)])


def _merge(name: str, type_: pa.DataType, function: str) -> str:
    """Merging keeps the type: DuckDB sums BIGINT as HUGEINT."""
    return f"{function}({name}){'::BIGINT' if type_ == pa.int64() else ''} AS {name}"


def _merge_text(groups: list[str], merges: list[str], *more: str) -> str:
    places = ["slot", '"end"', *groups]
    return select([*places, *merges, *more], "source", group=places)


def _finish_text(plan: TumblingPlan, groups: list[str], merges: list[str], finishes: list[str]) -> str:
    merged = _merge_text(groups, merges, "any_value(key) AS key", "any_value(end_text) AS end_text")
    values = [f"({finish}) AS a{n}" for n, finish in enumerate(finishes)]
    place = ["slot", '"end"', "key", "end_text", *groups]
    # ordered before the JSON is made, because sorting moves whole rows
    window = select(
        [*place, *values, 'make_timestamp("end") AS window_end'], merged, order=['"end"', "key", *groups, "slot"]
    )
    data = ", ".join(f"{literal(column.name)}, {_json(column)}" for column in plan.columns)
    result = ["key", f"{_id(plan.name, groups)} AS id", f"json_object({data})::VARCHAR AS data"]
    having = guarded(plan.having) if plan.having is not None else None
    return select(result, window, where=having)


def _id(name: str, groups: list[str]) -> str:
    """An id that the same window always gets: the query, the key, the window's end, and a digest of further groups.

    It reads from its end, so a key with colons in it cannot make it another's."""
    parts = [literal(f"{name}:"), "key", "':'", '"end"::VARCHAR']
    if groups:
        values = ", ".join(f"coalesce({group}::VARCHAR, chr(1))" for group in groups)
        parts += ["':'", f"md5(concat_ws(chr(0), {values}))"]
    return " || ".join(parts)


def _json(column: Column) -> str:
    """A fragment as JSON shows it: times in RFC 3339, and numbers that JSON does not have as null."""
    if column.sql == "window_end":
        return "end_text"
    sql = guarded(column.sql)
    if column.type.startswith("TIMESTAMP"):
        return f"replace({sql}::TIMESTAMP::VARCHAR, ' ', 'T') || 'Z'"
    return finite(sql) if column.type in FLOATS else sql
