"""Which windows a pane belongs to: what the state of a query asks of its kind of windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.keys import Ints

OpenSpans = set[tuple[int, Micros, Micros]]
"""Open windows of a key: the number of their kind, and the first and last end (of windows that move: the first and last
time of a pane)."""


class Spans(Protocol):
    """Panes are tables with the columns `slot` and `fields`, and others that are of no concern here. `horizon` is for
    each pane the instant up to which windows of its key are closed."""

    kinds: int
    """How many kinds of windows there are."""
    tumbles: bool
    """Whether an event is in one pane only, of which `end` says all."""
    moves: bool
    """Whether windows depend on the events: then every table of panes must hold all panes of its keys."""

    @property
    def fields(self) -> list[pa.Field]:
        """The columns of a pane that say where it belongs, of which the first is `end`."""
        ...

    def latest(self, panes: pa.Table, until: Ints) -> Ints:
        """For each pane the last end by `until` of a window that it is in (any instant before, if there is none)."""
        ...

    def rest(self, panes: pa.Table, horizon: Ints) -> pa.Table:
        """The panes that are still needed when all windows up to `horizon` are closed."""
        ...

    def next_ends(self, panes: pa.Table, horizon: Ints) -> Ints:
        """The end of the first open window of each pane (of `rest`); `FOREVER` where there is none."""
        ...

    def closed(self, panes: pa.Table, horizon: Ints, done: Ints) -> Iterator[pa.Table]:
        """The panes once for each of their windows up to `horizon` that was not closed up to `done`, whose end is
        their `end` then. In pieces, in the order of ends."""
        ...

    def of(self, panes: pa.Table) -> Iterator[tuple[int, tuple[int, Micros, Micros]]]:
        """The slots of panes, each with one of `OpenSpans`."""
        ...

    def open(self, ends: Sequence[Micros], horizon: Micros) -> Iterator[tuple[int, Micros, Micros]]:
        """The windows of an event that are not closed; `ends` are its first ends of each kind, and then the last ones
        (unless it is in one pane only)."""
        ...

    def still_open(self, open_spans: OpenSpans, horizon: Micros) -> OpenSpans:
        """Those of some windows that are still needed."""
        ...

    def latest_of(self, open_spans: OpenSpans, until: Micros, default: Micros) -> Micros:
        """The last end by `until` of open windows; `default` if there is none, or that is later."""
        ...
