"""Windows that stand still: which of them a pane belongs to, where they overlap.

An event at time t is in every window `(end - size, end]` around it: those that end from `first(t)`, the first end at or
after t, to `last(t)`, the last end before `t + size`. All events with the same two are in the same windows, so they are
one pane, of which a few partial values are kept however many windows it is in; they are merged into each of these when
it closes. A pane has `end`, the first window that it is still to be merged into, `last`, and `w`, the number of the
kind of window. Where windows tumble both ends are the same, and a pane has `end` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.keys import Ints
from millstream.engine.panes import chosen
from millstream.engine.spans import OpenSpans
from millstream.engine.window import Kind, Window

_PIECE_ROWS = 1 << 20  # of panes, one for each window, that are merged at a time: bounds the memory


class FixedSpans:
    """`Spans` of windows that tumble or hop."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        self.kinds = len(windows)
        self.tumbles = self.kinds == 1 and windows[0].tumbles
        self.moves = False
        self._hop = np.array([window.hop for window in windows], np.int64)
        self._offset = np.array([window.offset for window in windows], np.int64)

    @property
    def fields(self) -> list[pa.Field]:
        """See `Spans`."""
        names = ("end",) if self.tumbles else ("end", "last", "w")
        return [pa.field(name, pa.int64()) for name in names]

    def latest(self, panes: pa.Table, until: Ints) -> Ints:
        """See `Spans`."""
        if self.tumbles:
            end: Ints = panes.column("end").to_numpy()
            return end
        hop, offset = self._steps(panes)
        latest: Ints = np.minimum(panes.column("last").to_numpy(), offset + (until - offset) // hop * hop)
        return latest

    def rest(self, panes: pa.Table, horizon: Ints) -> pa.Table:
        """See `Spans`."""
        end = panes.column("end").to_numpy()
        if self.tumbles:
            return chosen(panes, end > horizon)
        hop, offset = self._steps(panes)
        end = np.maximum(end, offset + ((horizon - offset) // hop + 1) * hop)
        place = panes.schema.get_field_index("end")
        moved = panes.set_column(place, panes.schema.field(place), pa.array(end))
        return chosen(moved, end <= panes.column("last").to_numpy())

    def next_ends(self, panes: pa.Table, horizon: Ints) -> Ints:
        """See `Spans`."""
        end: Ints = panes.column("end").to_numpy()
        return end

    def closed(self, panes: pa.Table, horizon: Ints, done: Ints) -> Iterator[pa.Table]:
        """See `Spans`."""
        if self.tumbles:
            yield panes
            return
        first, last = panes.column("end").to_numpy(), self.latest(panes, horizon)
        yield from self._pieces(panes.drop_columns(["last"]), first, last)

    def _pieces(self, panes: pa.Table, first: Ints, last: Ints) -> Iterator[pa.Table]:
        hop, offset = self._steps(panes)
        counts = np.maximum((last - first) // hop + 1, 0)
        total = int(counts.sum())
        if not total:
            return
        begin, end = int(first[counts > 0].min()), int(last.max())
        if total <= _PIECE_ROWS or begin == end:
            row = np.repeat(np.arange(len(counts)), counts)
            nth = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
            ends = first[row] + nth * hop[row]
            place = panes.schema.get_field_index("end")
            yield panes.take(pa.array(row)).set_column(place, panes.schema.field(place), pa.array(ends))
            return
        middle = (begin + end) // 2
        before = offset + (middle - offset) // hop * hop  # the last end up to the middle
        yield from self._pieces(panes, first, np.minimum(last, before))
        yield from self._pieces(panes, np.maximum(first, before + hop), last)

    def _steps(self, panes: pa.Table) -> tuple[Ints, Ints]:
        kind = panes.column("w").to_numpy()
        return self._hop[kind], self._offset[kind]

    def of(self, panes: pa.Table) -> Iterator[tuple[int, tuple[int, Micros, Micros]]]:
        """See `Spans`."""
        slot, end = panes.column("slot").to_pylist(), panes.column("end").to_pylist()
        last = end if self.tumbles else panes.column("last").to_pylist()
        kind = [0] * len(end) if self.tumbles else panes.column("w").to_pylist()
        return zip(slot, zip(kind, end, last, strict=True), strict=True)

    def open(self, ends: Sequence[Micros], horizon: Micros) -> Iterator[tuple[int, Micros, Micros]]:
        """See `Spans`."""
        for kind, window in enumerate(self._windows):
            first, last = ends[kind], ends[kind - self.kinds]
            if first <= horizon:
                first = window.offset + ((horizon - window.offset) // window.hop + 1) * window.hop
            if first <= last:
                yield kind, first, last

    def still_open(self, open_spans: OpenSpans, horizon: Micros) -> OpenSpans:
        """See `Spans`."""
        return {span for span in open_spans if span[2] > horizon}

    def latest_of(self, open_spans: OpenSpans, until: Micros, default: Micros) -> Micros:
        """See `Spans`."""
        ends = [default]
        for kind, first, last in open_spans:
            hop, offset = self._windows[kind].hop, self._windows[kind].offset
            end = min(last, offset + (until - offset) // hop * hop)
            if end >= first:
                ends.append(end)
        return max(ends)


def first_text(window: Kind, time: str) -> str:
    """In SQL the first end at or after a time (the remainder has the sign of what is divided)."""
    if not isinstance(window, Window) or window.hop == 1:
        return time
    since = f"({time} - {window.offset})" if window.offset else time
    return f"{time} - {since} % {window.hop} + CASE WHEN {since} % {window.hop} > 0 THEN {window.hop} ELSE 0 END"


def last_text(window: Window, time: str) -> str:
    """In SQL the end of the last window that a time is in."""
    return f"{first_text(window, f'({time} + {window.size})')} - {window.hop}"
