"""Sliding windows: `(t - size, t]` for every instant t at which an event comes in, or goes out.

A pane holds the events of one instant. It is needed until it has gone out of the last window. Which windows closed in a
step, and what is in each, is found by one statement over all panes of a key (`merge.py`): a window frame over their
instants, for which DuckDB builds trees of partial values, so that a result costs the logarithm of what it holds.

An event is late when its own instant is closed: so what comes later cannot change a window that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.keys import NEVER, Ints
from millstream.engine.panes import chosen
from millstream.engine.spans import OpenSpans
from millstream.engine.window import Sliding

BOUNDS = [pa.field("horizon", pa.int64()), pa.field("done", pa.int64())]
"""What `closed` adds to panes: it gives all panes of a key once, and the statement finds the windows."""


class SlidingSpans:
    """`Spans` of a sliding window."""

    kinds = 1
    tumbles = True
    moves = True

    def __init__(self, window: Sliding) -> None:
        self._size = window.size

    @property
    def fields(self) -> list[pa.Field]:
        """See `Spans`."""
        return [pa.field("end", pa.int64())]

    def latest(self, panes: pa.Table, until: Ints) -> Ints:
        """See `Spans`."""
        time = panes.column("end").to_numpy()
        latest: Ints = np.where(time + self._size <= until, time + self._size, np.where(time <= until, time, NEVER))
        return latest

    def rest(self, panes: pa.Table, horizon: Ints) -> pa.Table:
        """See `Spans`."""
        return chosen(panes, panes.column("end").to_numpy() + self._size > horizon)

    def next_ends(self, panes: pa.Table, horizon: Ints) -> Ints:
        """See `Spans`."""
        time = panes.column("end").to_numpy()
        next_ends: Ints = np.where(time > horizon, time, time + self._size)
        return next_ends

    def closed(self, panes: pa.Table, horizon: Ints, done: Ints) -> Iterator[pa.Table]:
        """See `Spans`, and `BOUNDS`."""
        time = panes.column("end").to_numpy()
        comes_in = (time > done) & (time <= horizon)
        goes_out = (time + self._size > done) & (time + self._size <= horizon)
        slot = panes.column("slot").to_numpy()
        mine = np.isin(slot, slot[comes_in | goes_out])
        if mine.any():
            table = panes
            for field, bound in zip(BOUNDS, (horizon, done), strict=True):
                table = table.append_column(field, pa.array(bound))
            yield chosen(table, mine)

    def of(self, panes: pa.Table) -> Iterator[tuple[int, tuple[int, Micros, Micros]]]:
        """See `Spans`."""
        slot, end = panes.column("slot").to_pylist(), panes.column("end").to_pylist()
        return ((one, (0, time, time)) for one, time in zip(slot, end, strict=True))

    def open(self, ends: Sequence[Micros], horizon: Micros) -> Iterator[tuple[int, Micros, Micros]]:
        """See `Spans`."""
        if ends[0] > horizon:
            yield 0, ends[0], ends[0]

    def still_open(self, open_spans: OpenSpans, horizon: Micros) -> OpenSpans:
        """See `Spans`."""
        return {span for span in open_spans if span[2] + self._size > horizon}

    def latest_of(self, open_spans: OpenSpans, until: Micros, default: Micros) -> Micros:
        """See `Spans`."""
        points = (point for _, _, time in open_spans for point in (time, time + self._size) if point <= until)
        return max(default, max(points, default=default))
