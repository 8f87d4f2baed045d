"""What a query is once it is understood: the parts of a plan, each SQL fragment in DuckDB's own language.

A plan is made by `millstream.sql` and executed here. Its fragments stand on three levels and name only the columns
of their own level:

* *event* level (`time`, `where`, `groups`, the aggregates' `arguments`): the payload's `fields`, the topic's
  `parameters`, the event's own attributes (`ATTRIBUTES`) and the columns of `lookups`, by the names that the plan
  gives them;
* *window* level (`columns`, `having`): `key` (the stream's key), `window_end`, `window_id`, the further groups `g0`,
  `g1`, … and the aggregates `a0`, `a1`, ….

Fragments are scalar and deterministic: the planner has bound each of them, with these types, before it makes a plan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from millstream.clock import SECOND, Micros
from millstream.engine.lookup import Lookup
from millstream.engine.window import Count, Kind, duration
from millstream.log.contract import StreamSpec

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

_PARTS_BYTES = 1 << 30  # far more than is ever under way: what has been read once serves nobody any more

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
class Apply:
    """An event as a row for each element of what `argument` is, an event-level fragment: an array, or a record.
    `fields` are the columns of a row; their paths begin with what they are of: `ArrayIndex`, `ArrayValue`,
    `PropertyName` or `PropertyValue`. If it is `optional`, an event without elements is one row."""

    function: str
    argument: str
    optional: bool
    fields: tuple[Field, ...]

    @property
    def text(self) -> str:
        """What is applied, as a person would write it."""
        return f"{self.function}({self.argument})" + (", if there are any" if self.optional else "")


@dataclass(frozen=True, slots=True)
class Lookback:
    """What an event finds when it looks back, at event level: `LAG`, `LAST` or `ISFIRST`.

    Of the events of its key, and values of `by`, for which `when` holds: `argument` of the one `offset` before it, or
    its own with 0, less than `reach` microseconds ago. `ISFIRST` has no argument, and its intervals are `reach` long.
    It is the column `"#back0"`, …, by its `number` in the plan, and `"#known0"` whether there is such an event. `level`
    is one more than that of the lookbacks that it uses itself. `text` is how a person would write it."""

    number: int
    function: str
    argument: str | None
    type: str
    offset: int
    reach: Micros
    by: tuple[str, ...] = ()
    when: str | None = None
    level: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the result: its name, a window-level fragment, and its type."""

    name: str
    sql: str
    type: str


@dataclass(frozen=True, slots=True)
class Join:
    """Pairs of events of the same key: one of the `left` and one of the `right` side, whose time is between `low` and
    `high` microseconds after that of the left one, and for which `on` holds. An `optional` right side is NULL where
    there is none.

    A side is a plan without windows. Its columns are what is kept of its events, under the names by which `on` and the
    fragments of the whole plan, which stand on the *pair* level, call them."""

    left: WindowPlan
    right: WindowPlan
    low: Micros
    high: Micros
    optional: bool
    on: str | None = None

    @property
    def sides(self) -> tuple[WindowPlan, WindowPlan]:
        """Both."""
        return self.left, self.right

    @property
    def reach(self) -> Micros:
        """How long after an event another one may belong to it."""
        return max(self.high, -self.low, 0)


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """A query over windows of one stream: of one kind, or of several at once; or of none, for each event by itself.
    Then its columns are event-level fragments, in which `EVENT_TIME` is the event's time; and if it is `whole`, they
    stand behind the payload itself. With a `join` they are fragments over pairs of events, and so is `where`.

    `text` is the query as written. `key` is the parameter that is the stream's key, None where the key is the topic.
    `parameters` are the names of the stream's `filters` that the query uses. `time` is a fragment of type `TIMESTAMP`
    (UTC), None for the arrival time. `grace` and `idle` are in microseconds. `keyed` are the columns of events that
    together say which key they have, if there are such. `sources` is how many partitions the stream has, where groups
    do not lie within its key; 0: they do. `early` is after how many microseconds of the log's time open windows give
    results; 0: never.
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
    lookups: tuple[Lookup, ...] = ()
    join: Join | None = None
    time: str | None = None
    where: str | None = None
    having: str | None = None
    grace: Micros = 0
    idle: Micros = IDLE
    lookbacks: tuple[Lookback, ...] = ()
    whole: bool = False
    keyed: tuple[str, ...] = ()
    applies: tuple[Apply, ...] = ()
    sources: int = 0
    early: Micros = 0

    @property
    def regroups(self) -> bool:
        """Whether its groups do not lie within the stream's key: what belongs together comes from all partitions."""
        return self.sources > 0

    @property
    def parts(self) -> str:
        """The topic and stream of what its partitions tell each other, if it regroups."""
        return f"${self.name}.parts"

    @property
    def internal(self) -> StreamSpec | None:
        """The stream that it keeps for itself, if it has one."""
        if not self.regroups:
            return None
        return StreamSpec(self.parts, (self.parts,), partitions=self.sources, retention_bytes=_PARTS_BYTES)

    @property
    def reads(self) -> tuple[str, ...]:
        """Every stream that is read for it."""
        return (*self.streams, self.parts) if self.regroups else self.streams

    @property
    def sides(self) -> tuple[WindowPlan, ...]:
        """Both sides of a join, or itself: each reads one stream."""
        return self.join.sides if self.join is not None else (self,)

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that it reads, each once."""
        return tuple(dict.fromkeys(side.stream for side in self.sides))

    @property
    def looks_at(self) -> frozenset[str]:
        """The columns of `EVENT_SCHEMA` that its steps look at; of late events, which go on as they came, the log has
        the others."""
        found = {"key", "data"}
        for side in self.sides:
            found |= {name.removeprefix("_") for name in side.attributes} - {"time", "payload"}
            found |= {"topic"} if set(side.parameters) - {side.key} else set()
        return frozenset(found)

    @property
    def waits(self) -> bool:
        """Whether something is kept of an event, and given out later."""
        return bool(self.windows) or self.join is not None

    @property
    def reach(self) -> Micros:
        """How long after an event something of it may be waited for."""
        return self.join.reach if self.join is not None else max((window.reach for window in self.windows), default=0)

    @property
    def tumbles(self) -> bool:
        """Whether an event is in one window only."""
        return len(self.windows) < 2 and all(window.tumbles for window in self.windows)

    @property
    def counts(self) -> Count | None:
        """Its window, if that is one of so many events."""
        return next((window for window in self.windows if isinstance(window, Count)), None)

    @property
    def ordered(self) -> bool:
        """Whether a window or an aggregate depends on the order of events."""
        of_aggregate = any(a.call is not None or a.function in ORDERED for a in self.aggregates)
        return of_aggregate or self.counts is not None

    @property
    def moves(self) -> bool:
        """Whether the place of windows depends on the events."""
        return any(window.moves for window in self.windows)

    @property
    def late(self) -> str:
        """The topic of events that come after their window was closed."""
        return f"{self.name}.late"

    @property
    def updates(self) -> str:
        """The topic of results of open windows, if it gives any."""
        return f"{self.name}.early"

    def explain(self) -> str:
        """The plan in words, for a person."""
        return "\n".join(f"{title:<12}{text}" for title, text in self._explained() if text)

    def _explained(self) -> list[tuple[str, str]]:
        if self.join is not None:
            return self._explained_join(self.join)
        return [
            ("query", self.name),
            *self.as_source()[:1],
            ("decodes", ", ".join(f"{field.name} {field.type}" for field in self.fields) or "nothing of the payload"),
            *self.as_source()[1:],
            *(("a row each", apply.text) for apply in self.applies),
            *((lookup.verb, lookup.text) for lookup in self.lookups),
            ("looks back", ", ".join(f"b{n} = {each.text}" for n, each in enumerate(self.lookbacks))),
            ("keeps", _found(self.where or "")),
            ("per", self._per() if self.windows else "event"),
            (
                "in phases",
                "partial values of each partition, which are sent on by group and put together" * self.regroups,
            ),
            ("computes", _found(", ".join(f"{each.text} {each.type}" for each in self.aggregates))),
            ("closes", self._closes()),
            ("early", self._told_early() if self.early else ""),
            ("only if", self._named(self.having or "")),
            (
                "gives",
                ", ".join(
                    [
                        *(["the payload as it came"] if self.whole else []),
                        *(f"{column.name} {column.type} = {self._named(column.sql)}" for column in self.columns),
                    ]
                ),
            ),
            ("into", f"{self.into}; late events into {self.late}" if self.windows and not self.counts else self.into),
        ]

    def _closes(self) -> str:
        if not self.windows:
            return ""
        if self.counts is not None:
            return "with the last of its events, in the order of the log"
        everywhere = " in every partition" * self.regroups
        return f"{duration(self.grace)} of event time after its end{everywhere}, or {duration(self.idle)} of silence"

    def _told_early(self) -> str:
        whose = "groups" if self.regroups else "keys"
        return f"every {duration(self.early)}, of {whose} with new events, into {self.updates}"

    def _per(self) -> str:
        groups = [f"{_found(group.sql)} ({group.type})" for group in self.groups]
        per = ["of all keys"] if self.regroups and not groups else groups if self.regroups else ["key", *groups]
        return f"{', '.join(per)}, and {' and '.join(window.title for window in self.windows)}"

    def _explained_join(self, join: Join) -> list[tuple[str, str]]:
        titles = ("left", "right")
        sides = [(title, line) for title, side in zip(titles, join.sides, strict=True) for line in side.as_side()]
        low, high = (f"{'-' if limit < 0 else ''}{duration(abs(limit))}" for limit in (join.low, join.high))
        return [
            ("query", self.name),
            *(line for side in join.sides[: len(self.streams)] for line in side.as_source()),
            *sides,
            ("pairs", f"of the same key, the right one from {low} to {high} after the left one"),
            ("", "and left ones by themselves, when nothing can come for them any more" if join.optional else ""),
            ("if", join.on or ""),
            ("keeps", self.where or ""),
            (
                "forgets",
                f"an event {duration(max(join.high, 0))} (left) or {duration(max(-join.low, 0))} (right) of event time "
                f"after it, and {duration(self.grace)} of grace; or {duration(join.reach + self.idle)} of silence",
            ),
            ("gives", ", ".join(f"{column.name} {column.type} = {column.sql}" for column in self.columns)),
            ("into", f"{self.into}; late events into {self.late}"),
        ]

    def as_source(self) -> list[tuple[str, str]]:
        """What is read, in words, and which time its events have."""
        key = f"{{{self.key}}}" if self.key else "the topic"
        return [
            ("reads", f"stream {self.stream}, key: {key}"),
            ("event time", self.time or "the arrival at the gateway"),
        ]

    def as_side(self) -> list[str]:
        """What a side of a join is, in words."""
        lookups = [f"a row each of {apply.text}" for apply in self.applies]
        lookups += [f"{lookup.verb} {lookup.text}" for lookup in self.lookups]
        lookups += [f"looks back: b{n} = {each.text}" for n, each in enumerate(self.lookbacks)]
        kept = [column for column in self.columns if column.name[0] != "#"]
        values = _found(", ".join(f"{column.name} {column.type} = {column.sql}" for column in kept))
        return [
            *lookups,
            *([f"events with {_found(self.where)}"] if self.where else []),
            f"keeps {values or 'that it came'}",
        ]

    def _named(self, sql: str) -> str:
        """A window-level fragment with what its groups and aggregates stand for."""

        def meaning(name: re.Match[str]) -> str:
            place = int(name[2])
            return self.aggregates[place].text if name[1] == "a" else self.groups[place].sql

        return _found(re.sub(r"\b([ag])(\d+)\b", meaning, sql))


def _found(sql: str) -> str:
    """An event-level fragment with short names of what is found by looking back."""
    return re.sub(r'"#known(\d+)"', r"b\1 exists", re.sub(r'"#back(\d+)"', r"b\1", sql))
