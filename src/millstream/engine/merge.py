"""The statements that scan panes: those of one window become one, and closed windows become results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import Micros, to_text
from millstream.engine.aggregate import Partial
from millstream.engine.columns import json_value
from millstream.engine.duck import FEW_ROWS, Duck, Source, select
from millstream.engine.fragments import guarded, literal
from millstream.engine.keys import Ints
from millstream.engine.partials import Partials
from millstream.engine.plan import Column, WindowPlan
from millstream.engine.sliding import BOUNDS
from millstream.engine.spans import Spans
from millstream.engine.window import Count, Sliding

_TEXTS = [pa.field("key", pa.string()), pa.field("end_text", pa.string())]
_SLOT = pa.field("slot", pa.int64())


class Merging:
    """The statements of one plan. `columns` are the groups and partial values of panes; `merge_text` is the query over
    panes that gives those of the same window and group as one."""

    def __init__(
        self, duck: Duck, plan: WindowPlan, spans: Spans, partials: Partials, columns: Sequence[pa.Field]
    ) -> None:
        self.pane_schema = pa.schema([_SLOT, *spans.fields, *columns])
        groups = [field.name for field in columns if field.name.startswith("g")]
        types = {field.name: field.type for field in columns}
        by_name = {f"p{n}": merge for n, merge in enumerate(partials.merges)}
        merges = [_merge(name, types[name], merge) for name, merge in by_name.items()]
        self._panes = Source(self.pane_schema)
        place = ["slot", *(f'"{field.name}"' for field in spans.fields), *groups]
        self.merge_text = _merge_text(place, merges)
        self._merge = duck.statement(self.merge_text, self._panes)
        self._slide = None
        if isinstance(plan.windows[0], Sliding):
            self._moving = Source(pa.schema([*self.pane_schema, *BOUNDS]))
            over = [_merge(name, types[name], merge, " OVER w") for name, merge in by_name.items()]
            text = _slide_text(plan.windows[0], groups, over)
            self._slide = duck.statement(text, self._moving)
        self._frame = None
        if plan.counts is not None and not plan.tumbles:
            self._framed = Source(pa.schema([*self.pane_schema, BOUNDS[0]]))
            over = [_merge(name, types[name], merge, " OVER w") for name, merge in by_name.items()]
            self._frame = duck.statement(_frame_text(plan.counts, groups, merges, over), self._framed)
        windows = [field for field in self.pane_schema if field.name not in ("last", "start")]
        self._closed = Source(pa.schema([*windows, *_TEXTS]))
        self._finish = duck.statement(_finish_text(plan, groups, merges, partials), self._closed)
        self._finish_alone = None
        if not groups and not plan.regroups and plan.counts is None:
            self._finish_alone = duck.statement(_finish_text(plan, groups, merges, partials, alone=True), self._closed)

    def merge(self, panes: pa.Table) -> pa.Table:
        """Panes of the same window and group as one."""
        self._panes.table = panes
        return self._merge.run()

    def framed(self, panes: pa.Table, horizon: Ints) -> pa.Table:
        """Of windows of so many events that overlap: those that are closed up to a horizon, from the panes that are in
        them."""
        assert self._frame is not None
        self._framed.table = panes.append_column(BOUNDS[0], pa.array(horizon))
        return self._frame.run()

    def finish(self, panes: pa.Table, key: Callable[[int], str]) -> pa.Table:
        """The results of closed windows, from their panes: `key`, `id` and `data` (JSON text), ordered by the windows'
        ends and then by key. `key` gives that of a slot. Of windows that count they are ordered by their `last` events,
        and tell these."""
        if self._slide is not None:
            self._moving.table = panes
            panes = self._slide.run()
        statement = self._finish
        if self._finish_alone is not None and (order := _order_alone(panes, key)) is not None:
            statement = self._finish_alone
            panes = panes if order == sorted(order) else panes.take(order)
        names = _texts(panes.column("slot"), key)
        ends = _texts(panes.column("end"), _end_text)  # for each result, in SQL, it took a quarter of the statement
        self._closed.table = pa.Table.from_arrays([*panes.columns, names, ends], schema=self._closed.table.schema)
        return statement.run()


def _order_alone(panes: pa.Table, key: Callable[[int], str]) -> list[int] | None:
    """The order of results from few panes, each of which is all of its window; None where they are not."""
    if len(panes) > FEW_ROWS:
        return None
    place = [panes.column(name).to_pylist() for name in ("end", "slot", "w") if name in panes.column_names]
    windows = list(zip(*place, strict=True))
    if len(set(windows)) < len(windows):
        return None
    return sorted(range(len(windows)), key=lambda row: (windows[row][0], key(windows[row][1]), *windows[row][2:]))


@lru_cache(maxsize=1024)
def _end_text(end: Micros) -> str:
    """A time as `_json` shows it."""
    text = to_text(end)
    return f"{text[:-1].rstrip('0')}Z" if "." in text else text


def _texts(numbers: pa.ChunkedArray, text: Callable[[int], str]) -> pa.ChunkedArray:
    """What `text` makes of numbers; of many, it is called once for each that there is."""
    if len(numbers) <= FEW_ROWS:
        return pa.chunked_array([pa.array([text(number) for number in numbers.to_pylist()], pa.string())])
    encoded = pc.dictionary_encode(numbers).combine_chunks()
    texts = pa.array([text(number) for number in encoded.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([texts.take(encoded.indices)])


def _merge(name: str, type_: pa.DataType, partial: Partial, over: str = "") -> str:
    """Merging keeps the type: DuckDB sums BIGINT as HUGEINT."""
    merged = partial.merged(name, over)
    return f"{f'({merged})::BIGINT' if type_ == pa.int64() else merged} AS {name}"


def _merge_text(place: list[str], merges: list[str], *more: str) -> str:
    return select([*place, *merges, *more], "source", group=place)


def _slide_text(window: Sliding, groups: list[str], merges: list[str]) -> str:
    """What is in the windows that end between `done` and `horizon`, each time at which that changes.

    Such a time stands among the panes as a row without values, and looks back over the panes in its window."""
    values = [merge.rpartition(" AS ")[2] for merge in merges]
    by = ["slot", *groups]
    points = [
        select(
            [*by, f'"end" + {passed} AS moment'],
            "panes",
            where=f'"end" + {passed} > done AND "end" + {passed} <= horizon',
        )
        for passed in (0, window.size)
    ]
    rows = [
        select([*by, '"end" AS moment', *values, "1 AS panes"], "panes"),
        select([*by, "moment", *(f"NULL AS {value}" for value in values), "0 AS panes"], " UNION ".join(points)),
    ]
    frame = f"(PARTITION BY {', '.join(by)} ORDER BY moment RANGE BETWEEN {window.size - 1} PRECEDING AND CURRENT ROW)"
    framed = select(
        ["slot", 'moment AS "end"', *groups, *merges, "panes", "sum(panes) OVER w AS inside"], " UNION ALL ".join(rows)
    )
    framed += f" WINDOW w AS {frame}"
    windows = select(["slot", '"end"', *groups, *values], framed, where="panes = 0 AND inside > 0")
    return f"WITH panes AS MATERIALIZED ({select(['*'], 'source')}) {windows}"


def _frame_text(window: Count, groups: list[str], merges: list[str], over: list[str]) -> str:
    """What is in the windows that are closed now. A pane has the events up to a number at which a window ends, and a
    window looks back from there over the panes in it."""
    before = window.size - window.hop
    values = [merge.rpartition(" AS ")[2] for merge in merges]
    panes = select(
        ["slot", f'"last" - {before} AS number', *groups, *merges, 'min("end") AS begun', "max(horizon) AS horizon"],
        "source",
        group=["slot", '"last"', *groups],
    )
    frame = f"(PARTITION BY slot ORDER BY number RANGE BETWEEN {before} PRECEDING AND CURRENT ROW)"
    framed = select(
        ["slot", "number", *groups, *over, "min(begun) OVER (PARTITION BY slot) AS begun", "horizon"], panes
    )
    framed += f" WINDOW w AS {frame}"
    columns = ["slot", 'number AS "end"', "0::BIGINT AS w", *groups, *values]
    return select(columns, framed, where="number >= begun AND number <= horizon")


def _finish_text(
    plan: WindowPlan, groups: list[str], merges: list[str], partials: Partials, *, alone: bool = False
) -> str:
    """`alone`: each pane is all of its window, and they stand in the order of the results. To group and to sort takes
    more than half of the statement for a few of them."""
    kind = [] if plan.tumbles else ["w"]
    place = ["slot", '"end"', *kind, *groups]
    key = f"{_group_key(plan, groups)} AS key" if plan.regroups else "any_value(key) AS key"
    merged = "source" if alone else _merge_text(place, merges, key, "any_value(end_text) AS end_text")
    values = [f"({finish}) AS a{n}" for n, finish in enumerate(partials.finishes)]
    end, order, last = '"end"', ['"end"', "key", *kind, *groups, "slot"], list[str]()
    number = '"end"::VARCHAR'
    if plan.counts is not None:
        number += " || '.' || last::VARCHAR" if plan.counts.keep else ""  # a group may begin to count anew
        end, order, last = partials.until, [partials.last, *groups, '"end"'], [f"{partials.last} AS last"]
    values.append(f"{_of_kind(plan, [window.id for window in plan.windows])} AS window_id")
    # ordered before the JSON is made, because sorting moves whole rows
    window = select(
        [*place, "key", "end_text", *values, f"make_timestamp({end}) AS window_end", *last],
        merged,
        order=() if alone else order,
    )
    value = json_value if plan.counts is not None else _json
    data = ", ".join(f"{literal(column.name)}, {value(column)}" for column in plan.columns)
    told = [_of_kind(plan, [window.title for window in plan.windows]), *groups] if len(plan.windows) > 1 else groups
    result = [
        "key",
        f"{_id(plan.name, told, number)} AS id",
        f"json_object({data})::VARCHAR AS data",
        *(["last"] if last else []),
    ]
    having = guarded(plan.having) if plan.having is not None else None
    return select(result, window, where=having)


def _group_key(plan: WindowPlan, groups: list[str]) -> str:
    """The key of results that are not of one key of the stream: their groups, or where they go if there are none."""
    if not groups:
        return literal(plan.into)
    return f"concat_ws('/', {', '.join(f'{group}::VARCHAR' for group in groups)})"


def _of_kind(plan: WindowPlan, texts: Sequence[str | None]) -> str:
    """A text for each kind of window that a plan has."""
    constants = ["NULL::VARCHAR" if text is None else literal(text) for text in texts]
    return constants[0] if len(constants) == 1 else f"([{', '.join(constants)}])[w + 1]"


def _id(name: str, groups: list[str], end: str) -> str:
    """An id that the same window always gets: the query, the key, the window's `end`, and a digest of what else tells
    it from others (further groups, and the kind of window if there are several).

    It reads from its end, so a key with colons in it cannot make it another's."""
    parts = [literal(f"{name}:"), "key", "':'", end]
    if groups:
        values = ", ".join(f"coalesce({group}::VARCHAR, chr(1))" for group in groups)
        parts += ["':'", f"md5(concat_ws(chr(0), {values}))"]
    return " || ".join(parts)


def _json(column: Column) -> str:
    return "end_text" if column.sql == "window_end" else json_value(column)
