"""From payloads to lifted events: one DuckDB statement decodes the fields that a query needs, and evaluates its
event-level fragments.

A payload that is no JSON makes a vectorised decode fail for all. What does not begin and end like an object is masked
first, by a glance at two bytes. The rest is decoded in the hope that it is JSON, and if that fails again, and for some
steps afterwards, with whatever is not `json_valid` masked (measured: hope saves a quarter of the decode; `TRY` would
cost three times as much as soon as one payload in a vector of 2048 is bad). Both ways decode the same payloads to the
same values. DuckDB's parser also refuses whatever is not UTF-8, wherever it stands, so raw bytes are handed to it as
they are. It tolerates a trailing comma, and the numbers `NaN` and `Infinity`, which are then absent: JSON has no such
values.

A value that does not fit the type that the query wants is NULL, and so is an expression that fails on a value
(`TRY`): one event can never stop a query.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.engine.aggregate import FLOATS, Partial, split
from millstream.engine.duck import Duck, select
from millstream.engine.keys import Ints
from millstream.engine.plan import Aggregate, Field, TumblingPlan
from millstream.event import Batch
from millstream.topic import Filter

_NAME = re.compile(r'"[^"]+"|\w+')
_JSON_SPACE = b" \t\n\r"
_CAREFUL_STEPS = 64  # after hope was in vain; bounds what bad payloads can cost to a fraction of the decode


@dataclass(frozen=True, slots=True)
class Decoded:
    """A step's events, decoded: a row for each.

    `columns` has the group columns `g…` and the lifted partial values `p…`; `valid` says that there is a payload and an
    event time (microseconds, where valid; None: the arrival time is meant), `kept` what `WHERE` says."""

    columns: pa.Table
    time: Ints | None
    valid: npt.NDArray[np.bool_]
    kept: npt.NDArray[np.bool_] | None


class Partials:
    """The partial values that a plan's aggregates need, each once, and how every aggregate finishes from them."""

    def __init__(self, plan: TumblingPlan) -> None:
        self.arguments: list[str] = []
        self.lifts: list[str] = []
        self.merges: list[str] = []
        self.finishes = [self._add(a, *split(a)) for a in plan.aggregates]

    def _add(self, aggregate: Aggregate, partials: tuple[Partial, ...], finish: str) -> str:
        arguments = map(_argument, aggregate.arguments, aggregate.argument_types)
        columns = [f"x{self._place(self.arguments, argument)}" for argument in arguments]
        return finish.format(*(f"p{self._lift(p.lift.format(*columns), p.merge)}" for p in partials))

    def _lift(self, lift: str, merge: str) -> int:
        for number, known in enumerate(zip(self.lifts, self.merges, strict=True)):
            if known == (lift, merge):
                return number
        self.lifts.append(lift)
        self.merges.append(merge)
        return len(self.lifts) - 1

    @staticmethod
    def _place(known: list[str], sql: str) -> int:
        if sql not in known:
            known.append(sql)
        return known.index(sql)


class Decoder:
    """Decodes batches for one plan."""

    def __init__(self, duck: Duck, plan: TumblingPlan, partials: Partials) -> None:
        self._plan = plan
        self._filters = [Filter.parse(text) for text in plan.filters]
        self._parameters = lru_cache(maxsize=100_000)(self._parameters_of)
        self._schema = pa.schema(
            [
                pa.field("#data", pa.string()),
                *(pa.field(name, pa.timestamp("us") if name == "_time" else pa.string()) for name in plan.attributes),
                *(pa.field(name, pa.string()) for name in plan.parameters),
            ]
        )
        self._source = duck.source("events", self._schema)
        self._hopeful = duck.statement(_decode_text(plan, partials, '"#data"'))
        self._careful = duck.statement(_decode_text(plan, partials, 'CASE WHEN json_valid("#data") THEN "#data" END'))
        self._careful_steps = 0
        self.columns: pa.Schema = self._split(self._careful.run()).columns.schema

    def decode(self, batches: Sequence[Batch]) -> Decoded:
        """The batches' events, in their order."""
        self._source.put(pa.Table.from_batches([self._inputs(batch) for batch in batches], self._schema))
        return self._split(self._run())

    def _run(self) -> pa.Table:
        if self._careful_steps:
            self._careful_steps -= 1
        else:
            try:
                return self._hopeful.run()
            except (duckdb.Error, UnicodeDecodeError):  # the error quotes the payload, which may not be UTF-8
                self._careful_steps = _CAREFUL_STEPS
        return self._careful.run()

    def _split(self, table: pa.Table) -> Decoded:
        valid = table.column("valid").to_numpy()
        time = table.column("time") if self._plan.time is not None else None
        kept = table.column("kept").to_numpy() if self._plan.where is not None else None
        columns = table.drop_columns([name for name in ("valid", "time", "kept") if name in table.column_names])
        if time is None:
            return Decoded(columns, None, valid, kept)
        if time.null_count:
            valid = valid & time.is_valid().to_numpy()
            time = time.fill_null(0)
        return Decoded(columns, time.to_numpy(), valid, kept)

    def _inputs(self, batch: Batch) -> pa.RecordBatch:
        events = batch.events
        columns = [_as_text(events.column("data"))]
        for name in self._plan.attributes:
            column = events.column(name[1:])
            columns.append(column.cast(pa.timestamp("us")) if name == "_time" else column)
        if self._plan.parameters:
            columns += self._parameter_columns(events)
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _parameter_columns(self, events: pa.RecordBatch) -> list[pa.Array]:
        names = self._plan.parameters
        if names == (self._plan.key,):
            return [events.column("key")]
        topics = events.column("topic").dictionary_encode()
        values = [self._parameters(topic) for topic in topics.dictionary.to_pylist()]
        return [
            events.column("key")
            if name == self._plan.key
            else pa.array([value.get(name) for value in values], pa.string()).take(topics.indices)
            for name in names
        ]

    def _parameters_of(self, topic: str) -> dict[str, str]:
        """What the first filter that matches finds in a topic."""
        for pattern in self._filters:
            found = pattern.parameters(topic)
            if found is not None:
                return found
        return {}


def _as_text(data: pa.Array) -> pa.Array:
    """Payloads as DuckDB's text, without a copy and without a look at their encoding; those that cannot be JSON objects
    because of their first or last byte are null."""
    validity, offsets, content = data.buffers()
    bounds = np.frombuffer(offsets, np.int32)[data.offset : data.offset + len(data) + 1]
    if content is None or not content.size:
        return pa.nulls(len(data), pa.string())
    characters = np.frombuffer(content, np.uint8)
    first = characters[np.minimum(bounds[:-1], content.size - 1)]
    last = characters[np.maximum(bounds[1:], 1) - 1]
    doubtful = np.flatnonzero((first != ord("{")) | (last != ord("}")) | (bounds[:-1] == bounds[1:]))
    wrong = [row for row in doubtful.tolist() if not _is_braced(data[row].as_py())]
    if wrong:
        valid = np.ones(data.offset + len(data), np.bool_)
        valid[np.array(wrong) + data.offset] = False
        validity = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.string(), len(data), [validity, offsets, content], offset=data.offset)


def _is_braced(payload: bytes) -> bool:
    inner = payload.strip(_JSON_SPACE)
    return inner.startswith(b"{") and inner.endswith(b"}")


def _decode_text(plan: TumblingPlan, partials: Partials, data: str) -> str:
    """The statement, in four levels: the payload parsed; the fields; the fragments; the lifted partial values.

    The names of our own columns that meet a user's have a `#`, which no parameter can have."""
    parsed = select(["*", f'{_parse(plan.fields, data)} AS "#json"'], "events")
    fields = ['"#json" IS NOT NULL AS "#valid"', *(f"{_read(field)} AS {quoted(field.name)}" for field in plan.fields)]
    fields += map(quoted, (*plan.attributes, *plan.parameters))
    fragments = ['"#valid" AS valid', *(f"{sql} AS x{n}" for n, sql in enumerate(partials.arguments))]
    fragments += [f"{guarded(group.sql)}::{group.type} AS g{n}" for n, group in enumerate(plan.groups)]
    lifted = ["valid", *(f"g{n}" for n in range(len(plan.groups)))]
    lifted += [f"{sql} AS p{n}" for n, sql in enumerate(partials.lifts)]
    if plan.time is not None:
        fragments.append(f"epoch_us({guarded(plan.time)}::TIMESTAMP) AS time")
        lifted.append("time")
    if plan.where is not None:
        fragments.append(f"coalesce({guarded(plan.where)}, false) AS kept")
        lifted.append("kept")
    return select(lifted, select(fragments, select(fields, parsed)))


def _parse(fields: Sequence[Field], data: str) -> str:
    if not fields:
        return 'CASE WHEN json_valid("#data") THEN 1 END'
    structure = json.dumps(_structure(fields), ensure_ascii=False).replace("'", "''")
    return f"from_json({data}, '{structure}')"


def _structure(fields: Sequence[Field]) -> dict[str, object]:
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
        text = name.replace("'", "''")
        value = f"struct_extract({value}, '{text}')"
    if field.type == "TIMESTAMP":
        return f"make_timestamp(epoch_us({value}))"
    return finite(value) if field.type in FLOATS else value


def _argument(sql: str, type_: str) -> str:
    """An aggregate's argument: one infinite value would be all that is left of a sum."""
    return finite(guarded(sql)) if type_ in FLOATS and not _NAME.fullmatch(sql) else guarded(sql)


def quoted(name: str) -> str:
    """A name as an identifier of DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def finite(sql: str) -> str:
    """A floating fragment that is NULL where it is infinite or no number."""
    return f"CASE WHEN isfinite({sql}) THEN {sql} END"


def guarded(sql: str) -> str:
    """A fragment that is NULL where it would fail."""
    return sql if _NAME.fullmatch(sql) else f"TRY({sql})"
