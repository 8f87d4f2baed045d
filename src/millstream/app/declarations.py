"""What an application consists of, as its declarations left it: data, for whoever runs or shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from millstream.app.fluent import Declare, Keyed
from millstream.app.parameter import Signature
from millstream.app.place import Place, caller, place_of
from millstream.clock import Micros
from millstream.errors import AppError
from millstream.log import StreamSpec
from millstream.log.contract import Start
from millstream.reference import RegistrySource, Source
from millstream.topic import Filter

CATCH_ALL = "events"
"""The stream that captures every topic which does not begin with `$`, unless the app is declared without it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often an event is tried, and how long after a failure: `delay`, then `factor` times longer each time, at most
    `maximum`. By default 5 attempts over 15 seconds. `attempts=1` does not retry."""

    attempts: int = 5
    delay: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    maximum: timedelta = timedelta(minutes=1)

    def __post_init__(self) -> None:
        place = place_of(caller(2))  # of whoever calls the dataclass
        if self.attempts < 1:
            raise AppError(f"{place}: Retry(attempts={self.attempts}): an event is tried at least once")
        if not isinstance(self.delay, timedelta) or not isinstance(self.maximum, timedelta):
            raise AppError(f"{place}: Retry: delay and maximum are durations, for example timedelta(seconds=1)")
        if self.delay < timedelta(0) or self.maximum < timedelta(0) or self.factor < 1:
            raise AppError(f"{place}: {self}: a delay cannot be negative, nor a factor below 1")

    def seconds_after(self, attempt: int) -> float:
        """How long to wait after the failure of `attempt` (from 1)."""
        try:
            seconds = self.delay.total_seconds() * self.factor ** (attempt - 1)
        except OverflowError:
            return self.maximum.total_seconds()
        return min(seconds, self.maximum.total_seconds())


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream that the app declares. Give it to `app.on`, or name it in a query. `payload` is the type of its events'
    payloads, from which queries take their columns' types."""

    spec: StreamSpec
    payload: Any = None
    place: Place | None = None
    declare: Declare | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.spec.name

    def key_by(self, *columns: str) -> Keyed:
        """Begin a query over this stream: `telemetry.key_by("device").tumbling("1m").agg(n="count(*)").into("counts")`.
        The columns are the stream's key, or whatever else windows are to be grouped by; none: all events together."""
        place = place_of(caller(1))
        if self.declare is None:
            raise AppError(f"{place}: stream {self.name!r} belongs to no app; make it with app.stream(…)")
        return Keyed(self.declare, self.name, columns)


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference data that the app declares: a table from outside, which queries join their events with. It is read
    again every `refresh` seconds (0: only at start)."""

    name: str
    source: Source | RegistrySource
    refresh: float
    place: Place


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that is called with the events of a stream, durably.

    `group` is its consumer group; `topics` selects among the stream's events (None: all of them) and `levels` are the
    filters that give the topic's parameters; `batch` is the most events a call gets (None: whatever has come); `into`
    is the topic of plain data that it returns; `wake` is called for keys at the time that their state says.
    """

    group: str
    stream: str
    signature: Signature
    topics: Filter | None
    levels: tuple[Filter, ...]
    concurrency: int
    retry: Retry
    start: Start
    batch: int | None
    into: Filter | None
    wake: Signature | None
    place: Place

    @property
    def signatures(self) -> list[Signature]:
        """Of all that is called."""
        return [self.signature] if self.wake is None else [self.signature, self.wake]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A function that is called with what is published at the moment, at most once."""

    name: str
    topics: Filter
    signature: Signature
    into: Filter | None
    place: Place


@dataclass(frozen=True, slots=True)
class Query:
    """SQL over a stream. Its consumer group has its name; `into` is the topic of its results, `late` of the events
    that came too late; `grace` is how much later than its end a window closes, in microseconds of event time; `shadow`
    the query in force beside which it runs; `early` after how many microseconds open windows give results (0: never).

    Where a text has several queries, each is one: `steps` are the streams of those that its text reads as steps of
    WITH, and it is `timed` if it is such a step."""

    name: str
    sql: str
    into: str
    late: str
    start: Start
    payload: Any
    grace: Micros
    place: Place
    shadow: str | None = None
    steps: Mapping[str, str] = field(default_factory=dict)
    timed: bool = False
    early: Micros = 0

    @property
    def updates(self) -> str:
        """The topic of results of open windows, if it gives any."""
        return f"{self.name}.early"
