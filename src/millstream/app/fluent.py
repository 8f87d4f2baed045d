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
    from millstream.app.declarations import Stream

END = "window_end"
"""The column of the window's end, behind those of the key and before those of `agg`."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a query is declared; see `App.query`."""

    name: str
    into: str | Stream
    start: Start
    grace: Duration
    shadow: str | None


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

    def time(self, expression: str) -> Keyed:
        """The event time: a field, or an expression. Without it, the time of arrival counts."""
        return replace(self, _time=expression)

    def filter(self, condition: str) -> Keyed:
        """Only events for which this holds, and whatever was said before."""
        return replace(self, _filters=(*self._filters, condition))

    def tumbling(self, size: Duration, *, offset: Duration = 0, grace: Duration = 0) -> Windowed:
        """Windows of a size, one after the other. They close `grace` of event time after their end."""
        return Windowed(self, f"TumblingWindow({_word('Duration', size)}{_offset(offset)})", grace)

    def hopping(self, size: Duration, every: Duration, *, offset: Duration = 0, grace: Duration = 0) -> Windowed:
        """Windows of a size that overlap: another one ends at `every`."""
        words = f"{_word('Duration', size)}, {_word('Hop', every)}{_offset(offset)}"
        return Windowed(self, f"HoppingWindow({words})", grace)

    def sliding(self, size: Duration, *, grace: Duration = 0) -> Windowed:
        """Windows of a size, one for each time at which an event enters or leaves."""
        return Windowed(self, f"SlidingWindow({_word('Duration', size)})", grace)

    def session(self, timeout: Duration, *, at_most: Duration | None = None, grace: Duration = 0) -> Windowed:
        """Events with no pause longer than `timeout` between them, over `at_most` a time."""
        limit = "" if at_most is None else f", {_word('MaxDuration', at_most)}"
        return Windowed(self, f"SessionWindow({_word('Timeout', timeout)}{limit})", grace)


@dataclass(frozen=True, slots=True)
class Windowed:
    """The windows of each key."""

    _keyed: Keyed
    _window: str
    _grace: Duration

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
        key = ", ".join(keyed._columns)
        columns = "".join(f",\n    {expression} AS {_quoted(name)}" for name, expression in self._columns)
        lines = [
            f"SELECT {key}, System.Timestamp() AS {END}{columns}",
            f"FROM {_quoted(keyed._stream)}" + (f" TIMESTAMP BY {keyed._time}" if keyed._time is not None else ""),
            *([f"WHERE {_all(keyed._filters)}"] if keyed._filters else []),
            f"GROUP BY {key}, {self._windowed._window}",
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
        options = Options(name or known, topic, start, self._windowed._grace, shadow)
        return self._windowed._keyed._declare(place, self.sql, options)


def _all(conditions: tuple[str, ...]) -> str:
    return conditions[0] if len(conditions) == 1 else " AND ".join(f"({condition})" for condition in conditions)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _offset(offset: Duration) -> str:
    return f", {_word('Offset', offset)}" if offset else ""


def _word(word: str, duration: Duration) -> str:
    """A number of a window in a word of its own, in microseconds, which every duration is a whole number of."""
    try:
        return f"{word}(microsecond, {round(seconds_of(duration) * SECOND)})"
    except (TypeError, ValueError) as error:
        raise AppError(f"{place_of(caller(2))}: {error}") from None
