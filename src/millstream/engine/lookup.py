"""Reference data that events are joined with: at most one row of it an event, that whose columns equal the event's.

A processor has the versions that its next events need (`References.refer`), each in force for events that arrive from
an instant on. Those before the first one are joined with the first. All versions of all of a plan's lookups are one
table, which its statements scan as `beside`: each lookup's own columns, and the number of its version in `#number`
and its own number behind it; so one statement joins the events of a step with several versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.duck import Duck, Source, select
from millstream.engine.fragments import guarded, literal, quoted
from millstream.engine.keys import Ints


@dataclass(frozen=True, slots=True)
class LookupColumn:
    """A column of a reference that a query uses: its name in the plan's fragments, where it is in the reference (a
    column, or a member of one that is JSON), and its type."""

    name: str
    path: tuple[str, ...]
    type: str

    @property
    def of(self) -> str:
        """Its name in the reference."""
        return ".".join(self.path)

    @property
    def is_member(self) -> bool:
        """Whether it is a member of a JSON column, which may be of any type."""
        return len(self.path) > 1


@dataclass(frozen=True, slots=True)
class Lookup:
    """A reference that each event looks its row up in: `on` pairs event-level fragments with names of `columns`.
    Without a row, an event is left out, unless it is `optional`: then the columns are NULL. `text` is the condition as
    written."""

    reference: str
    columns: tuple[LookupColumn, ...]
    on: tuple[tuple[str, str], ...]
    optional: bool
    text: str

    @property
    def verb(self) -> str:
        """What it does to an event, for a person."""
        return "looks up" if self.optional else "needs"

    @property
    def key(self) -> tuple[str, ...]:
        """The reference's own columns whose values tell its rows apart."""
        names = [name for _, name in self.on]
        return tuple(dict.fromkeys(column.of for column in self.columns if column.name in names))


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version of a reference, in force for events that arrive at `since` or later."""

    since: Micros
    table: pa.Table


class References:
    """The versions that a processor's next events are joined with."""

    def __init__(self, lookups: Sequence[Lookup]) -> None:
        self._lookups = lookups
        self._since: list[Ints] = [np.empty(0, np.int64) for _ in lookups]
        self._known: list[Sequence[Version]] = []
        self._empty = _empty(lookups)
        self.names = [f"#version{number}" for number in range(len(lookups))]
        self.source = Source(self._empty.schema)

    def refer(self, versions: Mapping[str, Sequence[Version]]) -> None:
        """From now on these versions count, by the name of their reference, in the order of time."""
        known: list[Sequence[Version]] = [tuple(versions[lookup.reference]) for lookup in self._lookups]
        if known == self._known:
            return
        with closing(Duck()) as duck:  # it would keep the tables that its statements scan
            tables = [
                _conformed(duck, number, lookup, version.table, place)
                for number, lookup in enumerate(self._lookups)
                for place, version in enumerate(known[number])
            ]
        self._known = known
        self._since = [np.array([version.since for version in its], np.int64) for its in known]
        self.source.table = pa.concat_tables([self._empty, *tables], promote_options="default").combine_chunks()

    def numbers(self, arrival: Ints) -> list[pa.Array]:
        """For each lookup, the number of the version that is in force at each arrival."""
        return [pa.array(np.maximum(np.searchsorted(since, arrival, "right") - 1, 0)) for since in self._since]


def _empty(lookups: Sequence[Lookup]) -> pa.Table:
    """The table of no versions."""
    columns = [f"NULL::{column.type} AS {quoted(column.name)}" for lookup in lookups for column in lookup.columns]
    columns += [f'NULL::BIGINT AS "#number{number}"' for number in range(len(lookups))]
    if not columns:
        return pa.table({})
    with closing(Duck()) as duck:
        return duck.statement(f"SELECT {', '.join(columns)} LIMIT 0").run()


def _conformed(duck: Duck, number: int, lookup: Lookup, version: pa.Table, place: int) -> pa.Table:
    """What a lookup has of a version: columns of the types that they have today, NULL where the version had no such
    column or value; one row for each value of the key."""
    there = {name.lower(): name for name in version.column_names}
    columns = [
        f"TRY_CAST({_taken(column, there)} AS {column.type}) AS {quoted(column.name)}" for column in lookup.columns
    ]
    key = ", ".join(quoted(name) for name in dict.fromkeys(name for _, name in lookup.on))
    inner = select([*columns, f'{place}::BIGINT AS "#number{number}"'], "source")
    source = Source(version.schema)
    source.table = version
    return duck.statement(select([f"DISTINCT ON ({key}) *"], inner), source).run()


def _taken(column: LookupColumn, there: Mapping[str, str]) -> str:
    """What a version has of a column; `there` are its names in lower case. A member may have a column of its own."""
    name = there.get(column.of.lower())
    if not column.is_member or (name is None and column.path[0].lower() not in there):
        return "NULL" if name is None else quoted(name)
    inside = "$" if name is not None else "$" + "".join(f'."{each}"' for each in column.path[1:])
    arrow = "->" if column.type == "JSON" else "->>"
    return f"TRY_CAST({quoted(name or there[column.path[0].lower()])} AS JSON) {arrow} {literal(inside)}"


def joined_text(number: int, lookup: Lookup, events: str) -> str:
    """Events with the columns of a lookup, and whether there is a row in `#found` and its number."""
    values = [f"{guarded(value)} AS {_value(number, place)}" for place, (value, _) in enumerate(lookup.on)]
    valued = select(["*", *values], events)
    conditions = [f'l."#number{number}" = e."#version{number}"']
    conditions += [f"e.{_value(number, place)} = l.{quoted(name)}" for place, (_, name) in enumerate(lookup.on)]
    columns = ["e.*", *map(_beside, lookup.columns)]
    columns.append(f'l."#number{number}" IS NOT NULL AS "#found{number}"')
    return " ".join(
        ["SELECT", ", ".join(columns), "FROM", f"({valued}) AS e LEFT JOIN beside AS l ON", " AND ".join(conditions)]
    )


def _beside(column: LookupColumn) -> str:
    """A column of the table, in which JSON is a text."""
    its = f"l.{quoted(column.name)}"
    return f"{its}::JSON AS {quoted(column.name)}" if column.type == "JSON" else its


def found_text(lookups: Sequence[Lookup]) -> list[str]:
    """What must hold for an event to have all the rows that it needs."""
    return [f'"#found{number}"' for number, lookup in enumerate(lookups) if not lookup.optional]


def _value(number: int, place: int) -> str:
    return quoted(f"#on{number}.{place}")
