"""The window statements: events fold into panes, panes of one window into one, closed windows into results."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from millstream.clock import SECOND, Micros
from millstream.engine.aggregate import FLOATS
from millstream.engine.decode import Partials, finite, guarded
from millstream.engine.duck import Duck, select
from millstream.engine.plan import Column, TumblingPlan

_DIRECT_ROWS = 128  # so few events are panes as they are; a statement would cost more

_PLACE = [pa.field("slot", pa.int64()), pa.field("end", pa.int64())]
_DIRECT_NAMES = {"row": "first_row", "time": "high"}
_EVENT = [pa.field("row", pa.int64()), pa.field("time", pa.int64()), pa.field("skew", pa.int64())]


class Folding:
    """The statements of one plan. `columns` are those of groups and partial values, as the decoder gives them."""

    def __init__(self, duck: Duck, plan: TumblingPlan, partials: Partials, columns: pa.Schema) -> None:
        self.pane_schema = pa.schema([*_PLACE, *columns])
        kept = [pa.field("kept", pa.bool_())] if plan.where is not None else []
        self.event_schema = pa.schema([*_PLACE, *columns, *_EVENT, *kept])
        groups = [name for name in columns.names if name.startswith("g")]
        merges = [_merge(f"p{n}", columns.field(f"p{n}").type, merge) for n, merge in enumerate(partials.merges)]
        self._events = duck.source("lifted", self.event_schema)
        self._fold = duck.statement(_fold_text(groups, merges, filtered=bool(kept)))
        self._panes = duck.source("panes", self.pane_schema)
        self._merge = duck.statement(_merge_text("panes", groups, merges))
        self._closed = duck.source("closed", self.pane_schema.append(pa.field("key", pa.string())))
        self._finish = duck.statement(_finish_text(plan, groups, merges, partials.finishes))

    def fold(self, events: pa.Table) -> pa.Table:
        """Events (`event_schema`, a row each; those with a negative slot do not count) as a row for each window, group
        and value of `kept`: the columns of panes, and `kept`, `first_row`, `last_row`, `skew`, `high`."""
        if len(events) > _DIRECT_ROWS:
            self._events.put(events)
            return self._fold.run()
        if "kept" not in events.column_names:
            events = events.append_column("kept", pa.array(np.ones(len(events), np.bool_)))
        events = events.filter(pa.array(events.column("slot").to_numpy() >= 0))
        renamed = [_DIRECT_NAMES.get(name, name) for name in events.column_names]
        return events.rename_columns(renamed).append_column("last_row", events.column("row"))

    def merge(self, panes: pa.Table) -> pa.Table:
        """Panes of the same window and group as one."""
        self._panes.put(panes)
        return self._merge.run()

    def finish(self, panes: pa.Table, keys: list[str]) -> pa.Table:
        """The results of closed windows, from their panes and the key of each: `key`, `id` and `data` (JSON text),
        ordered by the windows' ends and then by key."""
        self._closed.put(panes.append_column("key", pa.array(keys, pa.string())))
        return self._finish.run()


def _merge(name: str, type_: pa.DataType, function: str) -> str:
    """Merging keeps the type: DuckDB sums BIGINT as HUGEINT."""
    return f"{function}({name}){'::BIGINT' if type_ == pa.int64() else ''} AS {name}"


def _fold_text(groups: list[str], merges: list[str], filtered: bool) -> str:
    places = ["slot", '"end"', *groups, *(["kept"] if filtered else [])]
    extent = ["min(row) AS first_row", "max(row) AS last_row", "max(skew) AS skew", "max(time) AS high"]
    kept = [] if filtered else ["true AS kept"]
    return select([*places, *merges, *kept, *extent], "lifted", where="slot >= 0", group=places)


def _merge_text(source: str, groups: list[str], merges: list[str], *more: str) -> str:
    places = ["slot", '"end"', *groups]
    return select([*places, *merges, *more], source, group=places)


def _finish_text(plan: TumblingPlan, groups: list[str], merges: list[str], finishes: list[str]) -> str:
    merged = _merge_text("closed", groups, merges, "any_value(key) AS key")
    values = [f"({finish}) AS a{n}" for n, finish in enumerate(finishes)]
    place = ["slot", '"end"', "key", *groups]
    # ordered before the JSON is made, because sorting moves whole rows
    window = select(
        [*place, *values, 'make_timestamp("end") AS window_end'], merged, order=['"end"', "key", *groups, "slot"]
    )
    data = ", ".join(f"{_text(column.name)}, {_json(column, plan.size)}" for column in plan.columns)
    result = ["key", f"{_id(plan.name, groups)} AS id", f"json_object({data})::VARCHAR AS data"]
    having = guarded(plan.having) if plan.having is not None else None
    return select(result, window, where=having)


def _id(name: str, groups: list[str]) -> str:
    """An id that the same window always gets: the query, the key, the window's end, and a digest of further groups.

    It reads from its end, so a key with colons in it cannot make it another's."""
    parts = [_text(f"{name}:"), "key", "':'", '"end"::VARCHAR']
    if groups:
        values = ", ".join(f"coalesce({group}::VARCHAR, chr(1))" for group in groups)
        parts += ["':'", f"md5(concat_ws(chr(0), {values}))"]
    return " || ".join(parts)


def _json(column: Column, size: Micros) -> str:
    """A fragment as JSON shows it: times in RFC 3339, and numbers that JSON does not have as null."""
    if column.sql == "window_end" and size % SECOND == 0:
        return "strftime(window_end, '%Y-%m-%dT%H:%M:%SZ')"  # a third faster than with a fraction that may be needed
    sql = guarded(column.sql)
    if column.type.startswith("TIMESTAMP"):
        return f"replace({sql}::TIMESTAMP::VARCHAR, ' ', 'T') || 'Z'"
    return finite(sql) if column.type in FLOATS else sql


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
