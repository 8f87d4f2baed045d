"""Queries in Python: `telemetry.key_by("device").tumbling("1m").agg(peak="max(celsius)").into("peaks")`.

Each call gives the next thing that can be said, so an editor completes it and a type checker knows it. What comes out
is the text of a query, which is planned, checked and run as any other; expressions are SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from millstream.app.place import Place, caller, place_of
from millstream.clock import SECOND
from millstream.duration import Duration, seconds_of
from millstream.errors import AppError
from millstream.log import LATEST
from millstream.log.contract import Start

if TYPE_CHECKING:
    from millstream.app.declarations import Reference, Stream

END = "window_end"
"""The column of the window's end, behind those of the key and before those of `agg`."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a query is declared; see `App.query`."""

    name: str
    into: str | Stream | None
    start: Start
    grace: Duration
    shadow: str | None
    early: Duration = 0


Declare = Callable[[Place, str, Options], "Stream"]
"""Declares a query at a place of the user's code, from its text, and gives the stream of its results."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """The events of a stream, by key. The key is the stream's, or names that determine it, and further columns."""

    _declare: Declare
    _stream: str
    _columns: tuple[str, ...]
    _time: str | None = None
    _filters: tuple[str, ...] = ()
    _joins: tuple[str, ...] = ()

    def time(self, expression: str) -> Keyed:
        """The event time: a field, or an expression. Without it, the time of arrival counts."""
        return replace(self, _time=expression)

    def filter(self, condition: str) -> Keyed:
        """Only events for which this holds, and whatever was said before."""
        return replace(self, _filters=(*self._filters, condition))

    def enrich(self, reference: str | Reference, on: str, *, optional: bool = False) -> Keyed:
        """Join each event with a row of reference data, whose columns are then called by its name:
        `.enrich(machines, "machine = machines.id")`. Events without one are left out, unless it is `optional`."""
        name = reference if isinstance(reference, str) else reference.name
        join = f"{'LEFT JOIN' if optional else 'JOIN'} {_quoted(name)} ON {on}"
        return replace(self, _joins=(*self._joins, join))

    def join(
        self,
        other: Keyed,
        within: Duration,
        *,
        before: Duration = 0,
        on: str = "",
        optional: bool = False,
        grace: Duration = 0,
    ) -> Paired:
        """Pairs of an event, called `a`, with one of the other's of the same key, called `b`, that is at most `within`
        later, or `before` earlier, and for which `on` holds: `.join(ends, within="10s", on="a.part = b.part")`. Events
        that nothing came for are left out, unless `b` is `optional`."""
        if self._joins or other._joins:
            raise AppError(f"{place_of(caller(1))}: join() takes events as they are; enrich them in a query before it")
        return Paired(self, other, (_micros(before), _micros(within)), on, optional, grace)

    def select(self, **columns: str) -> Changed:
        """Each event by itself, at once. What a result has beside its key: names, and SQL over the event, such as
        `rise="celsius - LAG(celsius) OVER (LIMIT DURATION(minute, 10))"`."""
        if not columns:
            raise AppError(f"{place_of(caller(1))}: select() names no column; for example select(value='value')")
        return Changed(self, tuple(columns.items()))

    def tumbling(self, size: Duration, *, offset: Duration = 0, grace: Duration = 0, early: Duration = 0) -> Windowed:
        """Windows of a size, one after the other. They close `grace` of event time after their end; open ones have
        results every `early` (`App.query`)."""
        return Windowed(self, f"TumblingWindow({_word('Duration', size)}{_offset(offset)})", grace, early)

    def hopping(
        self, size: Duration, every: Duration, *, offset: Duration = 0, grace: Duration = 0, early: Duration = 0
    ) -> Windowed:
        """Windows of a size that overlap: another one ends at `every`."""
        words = f"{_word('Duration', size)}, {_word('Hop', every)}{_offset(offset)}"
        return Windowed(self, f"HoppingWindow({words})", grace, early)

    def sliding(self, size: Duration, *, grace: Duration = 0) -> Windowed:
        """Windows of a size, one for each time at which an event enters or leaves."""
        return Windowed(self, f"SlidingWindow({_word('Duration', size)})", grace)

    def session(
        self, timeout: Duration, *, at_most: Duration | None = None, grace: Duration = 0, early: Duration = 0
    ) -> Windowed:
        """Events with no pause longer than `timeout` between them, over `at_most` a time."""
        limit = "" if at_most is None else f", {_word('MaxDuration', at_most)}"
        return Windowed(self, f"SessionWindow({_word('Timeout', timeout)}{limit})", grace, early)

    def count_window(self, size: int, *, every: int | None = None, keep: Duration | None = None) -> Windowed:
        """So many events, one window after the other; or the last so many, at `every` so many of them. They are counted
        in the order in which they come, so none is late. A group of which none has come for `keep` begins anew; None:
        it never does."""
        numbers = [str(size), *([] if every is None else [str(every)])]
        return Windowed(
            self, f"CountWindow({', '.join([*numbers, *([] if keep is None else [_word('Keep', keep)])])})", 0
        )


@dataclass(frozen=True, slots=True)
class Changed:
    """What comes of each event."""

    _keyed: Keyed
    _columns: tuple[tuple[str, str], ...]

    @property
    def sql(self) -> str:
        """The query's text."""
        columns = [*self._keyed._columns, *(f"{expression} AS {_quoted(name)}" for name, expression in self._columns)]
        return f"SELECT {', '.join(columns)}\n{_source(self._keyed)}"

    def into(
        self, topic: str | Stream, *, name: str | None = None, start: Start = LATEST, shadow: str | None = None
    ) -> Stream:
        """See `Aggregated.into`."""
        place = place_of(caller(1))
        known = topic if isinstance(topic, str) else topic.name
        return self._keyed._declare(place, self.sql, Options(name or known, topic, start, 0, shadow))


@dataclass(frozen=True, slots=True)
class Paired:
    """Pairs of events of the same key."""

    _left: Keyed
    _right: Keyed
    _bound: tuple[int, int]
    _on: str
    _optional: bool
    _grace: Duration

    def select(self, **columns: str) -> Selected:
        """What a result has beside its key: names, and SQL over the pair, such as `took="b.ts - a.ts"`."""
        if not columns:
            raise AppError(f"{place_of(caller(1))}: select() names no column; for example select(value='b.value')")
        return Selected(self, tuple(columns.items()))


@dataclass(frozen=True, slots=True)
class Selected:
    """What comes of each pair."""

    _pairs: Paired
    _columns: tuple[tuple[str, str], ...]
    _conditions: tuple[str, ...] = ()

    def where(self, condition: str) -> Selected:
        """Only pairs for which this holds, and whatever was said before."""
        return replace(self, _conditions=(*self._conditions, condition))

    @property
    def sql(self) -> str:
        """The query's text."""
        pairs = self._pairs
        sides = zip("ab", (pairs._left, pairs._right), strict=True)
        steps = ",\n".join(f"  {name} AS (SELECT * {_source(side)})" for name, side in sides)
        both = zip(pairs._left._columns, pairs._right._columns, strict=False)
        on = [*(f"a.{one} = b.{other}" for one, other in both), *filter(None, [pairs._on])]
        before, within = pairs._bound
        on.append(f"DATEDIFF(microsecond, a, b) BETWEEN {-before} AND {within}")
        keys = [f"a.{name}" for name in pairs._left._columns]
        columns = [*keys, *(f"{expression} AS {_quoted(name)}" for name, expression in self._columns)]
        return "\n".join(
            [
                f"WITH\n{steps}",
                f"SELECT {', '.join(columns)}",
                f"FROM a {'LEFT JOIN' if pairs._optional else 'JOIN'} b ON {' AND '.join(map(_bracketed, on))}",
                *([f"WHERE {_all(self._conditions)}"] if self._conditions else []),
            ]
        )

    def into(
        self, topic: str | Stream, *, name: str | None = None, start: Start = LATEST, shadow: str | None = None
    ) -> Stream:
        """See `Aggregated.into`."""
        place = place_of(caller(1))
        known = topic if isinstance(topic, str) else topic.name
        options = Options(name or known, topic, start, self._pairs._grace, shadow)
        return self._pairs._left._declare(place, self.sql, options)


@dataclass(frozen=True, slots=True)
class Windowed:
    """The windows of each key."""

    _keyed: Keyed
    _window: str
    _grace: Duration
    _early: Duration = 0

    def agg(self, **columns: str) -> Aggregated:
        """What a result has beside its key and `window_end`: names, and SQL over the window's events."""
        if not columns:
            raise AppError(f"{place_of(caller(1))}: agg() names no column; for example agg(n='count(*)')")
        return Aggregated(self, tuple(columns.items()))


@dataclass(frozen=True, slots=True)
class Aggregated:
    """The results of each key's windows."""

    _windowed: Windowed
    _columns: tuple[tuple[str, str], ...]
    _conditions: tuple[str, ...] = ()

    def where(self, condition: str) -> Aggregated:
        """Only results for which this holds, in terms of their columns, and whatever was said before."""
        return replace(self, _conditions=(*self._conditions, condition))

    @property
    def sql(self) -> str:
        """The query's text."""
        keyed = self._windowed._keyed
        columns = "".join(f",\n    {expression} AS {_quoted(name)}" for name, expression in self._columns)
        lines = [
            f"SELECT {', '.join([*keyed._columns, f'System.Timestamp() AS {END}'])}{columns}",
            _source(keyed),
            f"GROUP BY {', '.join([*keyed._columns, self._windowed._window])}",
            *([f"HAVING {_all(self._conditions)}"] if self._conditions else []),
        ]
        return "\n".join(lines)

    def into(
        self, topic: str | Stream, *, name: str | None = None, start: Start = LATEST, shadow: str | None = None
    ) -> Stream:
        """Run it, and publish its results on a topic, which is also a stream of that name. `name` is the query's (by
        default the topic's), under which its state and position are kept; `start` and `shadow` as in `App.query`.

        Returns the stream of the results. `AppError`."""
        place = place_of(caller(1))
        known = topic if isinstance(topic, str) else topic.name
        windowed = self._windowed
        options = Options(name or known, topic, start, windowed._grace, shadow, windowed._early)
        return windowed._keyed._declare(place, self.sql, options)


def _source(keyed: Keyed) -> str:
    """What events are read."""
    lines = [
        f"FROM {_quoted(keyed._stream)}" + (f" TIMESTAMP BY {keyed._time}" if keyed._time is not None else ""),
        *keyed._joins,
        *([f"WHERE {_all(keyed._filters)}"] if keyed._filters else []),
    ]
    return "\n".join(lines)


def _all(conditions: tuple[str, ...]) -> str:
    return conditions[0] if len(conditions) == 1 else " AND ".join(f"({condition})" for condition in conditions)


def _bracketed(condition: str) -> str:
    return f"({condition})" if " OR " in condition.upper() else condition


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _offset(offset: Duration) -> str:
    return f", {_word('Offset', offset)}" if offset else ""


def _word(word: str, duration: Duration) -> str:
    """A number of a window in a word of its own."""
    return f"{word}(microsecond, {_micros(duration, 3)})"


def _micros(duration: Duration, depth: int = 2) -> int:
    """A duration in microseconds, of which every one is a whole number."""
    try:
        return round(seconds_of(duration) * SECOND)
    except (TypeError, ValueError) as error:
        raise AppError(f"{place_of(caller(depth))}: {error}") from None
