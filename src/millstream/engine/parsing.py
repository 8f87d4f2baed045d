"""Payloads that several queries of a worker read are parsed once for all of them.

Queries on a stream that keep up with each other step on the same batches, as the same objects. The first one parses
the fields that any of them wants into a column, which the others find; to parse takes more than half of what a query
costs. A field has the value that it has for each query alone: `from_json` looks for each member of a
structure by itself. So those share who agree on the types of the fields that they have in common, and have only
types that are the same on their way through Arrow. Small steps are not worth it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial

import duckdb
import pyarrow as pa

from millstream.engine.careful import Careful
from millstream.engine.duck import FEW_ROWS, Duck, Source
from millstream.engine.pieces import Pieces
from millstream.engine.plan import Field, WindowPlan
from millstream.engine.scan import PARSED, parsed_text
from millstream.event import Batch

_KEPT = 4  # steps: as many as are under way at once, and their like

_EXACT = {
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    *("FLOAT", "DOUBLE", "BOOLEAN", "VARCHAR", "DATE", "TIMESTAMP", "JSON"),
}
"""Types of fields that, beside decimals, come back from Arrow as they were (JSON as its text)."""

_DATA = pa.schema([pa.field("#data", pa.string())])

_Kept = tuple[list[pa.RecordBatch], pa.ChunkedArray | None]


class Parsing:
    """The fields of a stream's payloads, for threads of several queries."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields
        statement = self._statement()
        self._field = statement.run(_DATA.empty_table()).schema.field(PARSED)
        self._statements = Pieces(statement, self._statement)
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, ...], _Kept] = OrderedDict()

    def schema(self, inputs: pa.Schema) -> pa.Schema:
        """That of inputs with the parsed payloads."""
        return inputs.append(self._field)

    def add(self, inputs: pa.Table, batches: Sequence[Batch]) -> pa.Table:
        """The inputs of a step over batches, with the parsed payloads if that is worth it."""
        if len(inputs) <= FEW_ROWS:
            return inputs
        events = [batch.events for batch in batches]
        key = tuple(map(id, events))
        with self._lock:  # who comes meanwhile mostly waits for the same
            _, column = self._kept.get(key) or self._parse(key, events, inputs)
        return inputs if column is None else inputs.append_column(self._field, column)

    def _statement(self) -> Careful:
        duck = Duck()
        statement = Careful(duck, partial(parsed_text, self._fields), Source(_DATA))
        duck.lock()
        return statement

    def _parse(self, key: tuple[int, ...], events: list[pa.RecordBatch], inputs: pa.Table) -> _Kept:
        try:
            parts = self._statements.run(Careful.run, inputs.select(_DATA.names))
            column = pa.concat_tables(parts).column(0)
        except duckdb.Error:  # of a field, not of the payload: whose query it is meets it alone
            column = None
        self._kept[key] = events, column  # which keeps their ids from being given to others
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return events, column


def parsings(plans: Iterable[WindowPlan]) -> dict[str, Parsing]:
    """By the names of the plans that share their parsing with others."""
    groups: list[tuple[str, dict[tuple[str, ...], Field], list[str]]] = []
    for plan in plans:
        if not _may_share(plan):
            continue
        for stream, fields, names in groups:  # noqa: B007 (used below)
            if stream == plan.stream and _agree([*fields.values(), *plan.fields]):
                break
        else:
            if not _agree(plan.fields):
                continue
            stream, fields, names = plan.stream, {}, []
            groups.append((stream, fields, names))
        fields.update({field.path: field for field in plan.fields})
        names.append(plan.name)
    shared = {}
    for _, fields, names in groups:
        if len(names) > 1:
            shared.update(dict.fromkeys(names, Parsing(list(fields.values()))))
    return shared


def _may_share(plan: WindowPlan) -> bool:
    is_cut = plan.regroups and plan.early > 0  # at marks: nobody has the same batches
    return bool(plan.fields) and not (plan.join is not None or plan.counts is not None or is_cut or plan.lookbacks)


def _agree(fields: Sequence[Field]) -> bool:
    """Whether fields can stand in one structure. Names of its members differ not only in their case, and none of them
    is a value for one query and a structure for another."""
    known: dict[tuple[str, ...], tuple[tuple[str, ...], str | None]] = {}
    for field in fields:
        if field.type not in _EXACT and not field.type.startswith("DECIMAL("):
            return False
        for length in range(1, len(field.path) + 1):
            path = field.path[:length]
            its = path, field.type if length == len(field.path) else None
            if known.setdefault(tuple(map(str.casefold, path)), its) != its:
                return False
    return True
