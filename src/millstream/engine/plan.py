"""What a query is once it is understood: the parts of a plan, each SQL fragment in DuckDB's own language.

A plan is made by `millstream.sql` and executed here. Its fragments stand on three levels and name only the columns
of their own level:

* *event* level (`time`, `where`, `groups`, the aggregates' `arguments`): the payload's `fields`, the topic's
  `parameters` and the event's own attributes (`ATTRIBUTES`), by the names that the plan gives them;
* *window* level (`columns`, `having`): `key` (the stream's key), `window_end`, `window_id`, the further groups `g0`,
  `g1`, … and the aggregates `a0`, `a1`, ….

Fragments are scalar and deterministic: the planner has bound each of them, with these types, before it makes a plan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from millstream.clock import SECOND, Micros
from millstream.engine.window import Kind, duration

ATTRIBUTES = {
    "_topic": "VARCHAR",
    "_key": "VARCHAR",
    "_id": "VARCHAR",
    "_type": "VARCHAR",
    "_time": "TIMESTAMP",
    "_payload": "VARCHAR",
}
"""The event's own attributes as columns, and their types. `_time` is the arrival: the commit time at the gateway."""

ORDERED = ("first", "last", "arg_min", "arg_max")
"""Aggregates that choose an event: by its time, or by the arguments behind the first one; and where these are equal,
the earliest in event time and in the log."""

EVENT_TIME = '"#window_end"'
"""The event's time, in the columns of a plan without windows."""

IDLE: Micros = 10 * SECOND  # how long after a window's end its results wait for a device that has fallen silent


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the JSON payload: the column's name, the path of names that leads to it, and its DuckDB type."""

    name: str
    path: tuple[str, ...]
    type: str


@dataclass(frozen=True, slots=True)
class Group:
    """A group column beside the stream's key: an event-level fragment and its type."""

    sql: str
    type: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate over a window: a function that splits (`aggregate.py`), event-level arguments (none: `count(*)`),
    their types, and the type of the result.

    One that does not split keeps the events of a window, as rows `e` with the arguments as `"#0"`, `"#1"`, …: then
    `call` is what is computed of them."""

    function: str
    arguments: tuple[str, ...]
    argument_types: tuple[str, ...]
    type: str
    call: str | None = None

    @property
    def text(self) -> str:
        """The aggregate as a person would write it."""
        if self.call is None:
            return f"{self.function}({', '.join(self.arguments) or '*'})"
        text = self.call
        for number, argument in enumerate(self.arguments):
            text = text.replace(f'e."#{number}"', argument)
        return text


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the result: its name, a window-level fragment, and its type."""

    name: str
    sql: str
    type: str


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """A query over windows of one stream: of one kind, or of several at once; or of none, for each event by itself.
    Then its columns are event-level fragments, in which `EVENT_TIME` is the event's time, and no column means the
    payload itself.

    `text` is the query as written. `key` is the parameter that is the stream's key, None where the key is the topic.
    `parameters` are the names of the stream's `filters` that the query uses. `time` is a fragment of type `TIMESTAMP`
    (UTC), None for the arrival time. `grace` and `idle` are in microseconds.
    """

    name: str
    text: str
    stream: str
    into: str
    filters: tuple[str, ...]
    key: str | None
    windows: tuple[Kind, ...]
    columns: tuple[Column, ...]
    aggregates: tuple[Aggregate, ...] = ()
    fields: tuple[Field, ...] = ()
    parameters: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    time: str | None = None
    where: str | None = None
    having: str | None = None
    grace: Micros = 0
    idle: Micros = IDLE

    @property
    def tumbles(self) -> bool:
        """Whether an event is in one window only."""
        return len(self.windows) < 2 and all(window.tumbles for window in self.windows)

    @property
    def ordered(self) -> bool:
        """Whether an aggregate depends on the order of events."""
        return any(a.call is not None or a.function in ORDERED for a in self.aggregates)

    @property
    def moves(self) -> bool:
        """Whether the place of windows depends on the events."""
        return any(window.moves for window in self.windows)

    @property
    def late(self) -> str:
        """The topic of events that come after their window was closed."""
        return f"{self.name}.late"

    def explain(self) -> str:
        """The plan in words, for a person."""
        return "\n".join(f"{title:<12}{text}" for title, text in self._explained() if text)

    def _explained(self) -> list[tuple[str, str]]:
        key = f"{{{self.key}}}" if self.key else "the topic"
        groups = "".join(f", {group.sql} ({group.type})" for group in self.groups)
        return [
            ("query", self.name),
            ("reads", f"stream {self.stream}, key: {key}"),
            ("decodes", ", ".join(f"{field.name} {field.type}" for field in self.fields) or "nothing of the payload"),
            ("event time", self.time or "the arrival at the gateway"),
            ("keeps", self.where or ""),
            ("per", f"key{groups}, and {' and '.join(w.title for w in self.windows)}" if self.windows else "event"),
            ("computes", ", ".join(f"{aggregate.text} {aggregate.type}" for aggregate in self.aggregates)),
            (
                "closes",
                ""
                if not self.windows
                else f"{duration(self.grace)} of event time after its end, or {duration(self.idle)} of silence",
            ),
            ("only if", self._named(self.having or "")),
            (
                "gives",
                ", ".join(f"{column.name} {column.type} = {self._named(column.sql)}" for column in self.columns)
                or "the payload as it came",
            ),
            ("into", f"{self.into}; late events into {self.late}" if self.windows else self.into),
        ]

    def _named(self, sql: str) -> str:
        """A window-level fragment with what its groups and aggregates stand for."""

        def meaning(name: re.Match[str]) -> str:
            place = int(name[2])
            return self.aggregates[place].text if name[1] == "a" else self.groups[place].sql

        return re.sub(r"\b([ag])(\d+)\b", meaning, sql)
