"""Sessions: events that follow each other by at most a timeout.

Panes of the same instant become panes of a session's stretch: from `start` to `end`, the times of its first and last
event. Which sessions there are follows from all panes of a key. Those that follow each other by at most the timeout are
a *run*; where sessions may last for `longest` at most, a run is cut at multiples of that (as Azure Stream Analytics
does): at the first at which it has lasted so long, and at every further one. What follows a cut began there.

A session ends with its timeout, or at its cut. An event is late when its own instant is closed: so what comes later
cannot change a session that is. Panes of a closed session are still needed where the run may go on behind a cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import Micros
from millstream.engine.keys import FOREVER, NEVER, Ints, Mask
from millstream.engine.panes import chosen
from millstream.engine.spans import OpenSpans
from millstream.engine.window import Session


@dataclass(frozen=True, slots=True)
class _Sessions:
    """For each pane: the number of its session, where that began (if at a cut), and where it ends; where its run ends
    if nothing follows; and whether the run goes on behind the session."""

    number: Ints
    began: Ints
    at_cut: Mask
    ends: Ints
    run_ends: Ints
    goes_on: Mask


class SessionSpans:
    """`Spans` of sessions: of each slot, and of each value of the columns `groups`."""

    kinds = 1
    tumbles = True
    moves = True

    def __init__(self, window: Session, groups: Sequence[str] = ()) -> None:
        self._groups = groups
        self._timeout = window.timeout
        self._longest = window.longest

    @property
    def fields(self) -> list[pa.Field]:
        """See `Spans`."""
        return [pa.field("end", pa.int64()), pa.field("start", pa.int64())]

    def latest(self, panes: pa.Table, until: Ints) -> Ints:
        """See `Spans`."""
        ends = self._of_panes(panes).ends
        latest: Ints = np.where(ends <= until, ends, NEVER)
        return latest

    def rest(self, panes: pa.Table, horizon: Ints) -> pa.Table:
        """See `Spans`. Panes that no cut can part get the same place, and so will be merged."""
        if not len(panes):
            return panes
        found = self._of_panes(panes)
        stays = (found.ends > horizon) | (~found.goes_on & (found.run_ends > horizon))
        start, end = panes.column("start").to_numpy(), panes.column("end").to_numpy()
        stretch = found.number if self._longest is None else _numbered(found.number, -(-end // self._longest))
        first, last = np.full(len(panes), FOREVER), np.full(len(panes), NEVER)
        np.minimum.at(first, stretch, start)
        np.maximum.at(last, stretch, end)
        begins = np.where(found.at_cut, found.began, first[stretch])
        return chosen(_with(_with(panes, "start", begins), "end", last[stretch]), stays)

    def next_ends(self, panes: pa.Table, horizon: Ints) -> Ints:
        """See `Spans`."""
        ends = self._of_panes(panes).ends
        next_ends: Ints = np.where(ends > horizon, ends, FOREVER)
        return next_ends

    def closed(self, panes: pa.Table, horizon: Ints, done: Ints) -> Iterator[pa.Table]:
        """See `Spans`."""
        ends = self._of_panes(panes).ends
        yield chosen(_with(panes, "end", ends).drop_columns(["start"]), (ends > done) & (ends <= horizon))

    def of(self, panes: pa.Table) -> Iterator[tuple[int, tuple[int, Micros, Micros]]]:
        """See `Spans`."""
        slot, start, end = (panes.column(name).to_pylist() for name in ("slot", "start", "end"))
        return ((one, (0, first, last)) for one, first, last in zip(slot, start, end, strict=True))

    def open(self, ends: Sequence[Micros], horizon: Micros) -> Iterator[tuple[int, Micros, Micros]]:
        """See `Spans`."""
        if ends[0] > horizon:
            yield 0, ends[0], ends[0]

    def still_open(self, open_spans: OpenSpans, horizon: Micros) -> OpenSpans:
        """See `Spans`. All: what is closed may be needed still, and a step has only so many events."""
        return open_spans

    def latest_of(self, open_spans: OpenSpans, until: Micros, default: Micros) -> Micros:
        """See `Spans`."""
        if not open_spans:
            return default
        _, start, end = np.array(sorted(open_spans), np.int64).T
        ends = self._sessions(np.zeros(len(start), np.int64), start, end).ends
        return max(default, int(ends[ends <= until].max(initial=NEVER)))

    def _of_panes(self, panes: pa.Table) -> _Sessions:
        lane, start, end = (panes.column(name).to_numpy() for name in ("slot", "start", "end"))
        for name in self._groups:
            value = pc.dictionary_encode(panes.column(name), "encode").combine_chunks()
            lane = _numbered(lane, value.indices.to_numpy())
        return self._sessions(lane, start, end)

    def _sessions(self, slot: Ints, start: Ints, end: Ints) -> _Sessions:
        run = _runs(slot, start, end, self._timeout)
        size = len(run)
        began, last = np.full(size, FOREVER), np.full(size, NEVER)  # of each run
        np.minimum.at(began, run, start)
        np.maximum.at(last, run, end)
        if self._longest is None:
            nowhere = np.zeros(size, np.bool_)
            return _Sessions(run, began[run], nowhere, last[run] + self._timeout, last[run] + self._timeout, nowhere)
        first_cut = -(-(began[run] + self._longest) // self._longest) * self._longest
        nth = np.where(end <= first_cut, 0, -(-(end - first_cut) // self._longest))  # session of the run
        latest = np.zeros(size, np.int64)
        np.maximum.at(latest, run, nth)
        cut = first_cut + nth * self._longest
        number = _numbered(run, nth)
        last_of = np.full(size, NEVER)
        np.maximum.at(last_of, number, end)
        return _Sessions(
            number,
            np.where(nth > 0, cut - self._longest, began[run]),
            nth > 0,
            np.minimum(last_of[number] + self._timeout, cut),
            last[run] + self._timeout,
            nth < latest[run],
        )


def _runs(slot: Ints, start: Ints, end: Ints, timeout: Micros) -> Ints:
    """For each pane the number of its run: a new one begins where nothing before reaches as far as the timeout."""
    size = len(slot)
    if not size:
        return np.empty(0, np.int64)
    order = np.lexsort((end, start, slot))
    changes = np.append(True, slot[order][1:] != slot[order][:-1])
    by_end = np.argsort(end, kind="stable")
    rank = np.empty(size, np.int64)
    rank[by_end] = np.arange(size)
    lane = np.cumsum(changes) * size  # so that the furthest end so far begins anew with each key
    reach = end[by_end[np.maximum.accumulate(lane + rank[order]) - lane]]
    changes[1:] |= start[order][1:] > reach[:-1] + timeout
    run = np.empty(size, np.int64)
    run[order] = np.cumsum(changes) - 1
    return run


def _numbered(first: Ints, second: Ints) -> Ints:
    """For each pair of numbers the same new one, from 0 on."""
    if not len(first):
        return first
    order = np.lexsort((second, first))
    a, b = first[order], second[order]
    number = np.empty(len(first), np.int64)
    number[order] = np.cumsum(np.append(False, (a[1:] != a[:-1]) | (b[1:] != b[:-1])))
    return number


def _with(panes: pa.Table, name: str, values: Ints) -> pa.Table:
    place = panes.schema.get_field_index(name)
    return panes.set_column(place, panes.schema.field(place), pa.array(values))
