"""The events before: what `LAG`, `LAST` and `ISFIRST` find, for all events of a step at once.

Of each key (and value of PARTITION BY) the last events are kept for which WHEN held: as many as the largest offset
asks for. *In order* is an event whose time is not before that of any of them that stands before it in the log. Only
events in order are kept, so the times of those that are kept ascend, and which event another one finds follows from
the order of the log alone, however that is cut into steps. An event that is behind has lost its place in the order: it
finds nothing, is nobody's event before, and is the first of no interval.

Nothing is found that is further back than LIMIT DURATION by event time. And what is kept of a key that has fallen
silent goes at last: where an event arrives more than LIMIT DURATION and a day (`FORGOTTEN`) after the last one for
which WHEN held, it is as if there had been none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from millstream.clock import SECOND, Micros
from millstream.engine.arena import Arena
from millstream.engine.keys import Ints, Mask
from millstream.engine.plan import Lookback

FORGOTTEN: Micros = 86_400 * SECOND
"""How much longer than LIMIT DURATION events are kept of a key that has fallen silent, by the time of arrival."""

_MARGIN: Micros = 3600 * SECOND  # by which the clocks of gateways may go back
_SLACK = 4096  # rows that may be dead before it is worth to clear them away


@dataclass(frozen=True, slots=True)
class Events:
    """Events of one partition in the order of the log: the number of their group (a key and value of PARTITION BY),
    their times, whether WHEN holds, and the values that others may find (`x0`, …)."""

    group: Ints
    time: Ints
    arrival: Ints
    when: Mask
    values: pa.Table


class History:
    """The last events of each group in one partition, `depth` of each, with values of a schema.

    Of a group is also known when the last event arrived for which WHEN held; when that is longer ago than `reach` and
    `FORGOTTEN`, it begins anew."""

    def __init__(self, depth: int, reach: Micros, schema: pa.Schema) -> None:
        self._depth = depth
        self._patience = reach + FORGOTTEN
        self._schema = pa.schema([("time", pa.int64()), *schema])
        self.saved = pa.schema([("group", pa.string()), ("seen", pa.int64()), *self._schema])
        self._names: list[str] = []
        self._index: dict[str, int] = {}
        self._last = np.full((64, depth), -1, np.int64)  # their rows, the latest first
        self._seen = np.zeros(64, np.int64)
        self._rows = Arena(self._schema)
        self._kept = 0

    def __len__(self) -> int:
        """How many events are kept."""
        return self._kept

    def groups(self, names: Sequence[str]) -> Ints:
        """The numbers of groups; one that is new gets the next."""
        found = []
        for name in names:
            number = self._index.get(name)
            if number is None:
                number = self._index[name] = len(self._names)
                self._names.append(name)
            found.append(number)
        if len(self._names) > len(self._last):
            more = max(len(self._names), 2 * len(self._last)) - len(self._last)
            self._last = np.concatenate([self._last, np.full((more, self._depth), -1, np.int64)])
            self._seen = np.concatenate([self._seen, np.zeros(more, np.int64)])
        return np.array(found, np.int64)

    def step(self, events: Events, lookbacks: Sequence[Lookback]) -> tuple[list[Ints], pa.Table, Ints]:
        """What events find, for each of the lookbacks: rows of a table of values, -1 for none. Then they are kept
        themselves. Gives the groups that changed, too."""
        touched = np.unique(events.group)
        before = self._last[touched][:, ::-1]
        old = before[before >= 0]
        of_old = np.repeat(touched, (before >= 0).sum(axis=1))
        kept = self._rows.take(old)
        order = _Order(
            np.concatenate([of_old, events.group]),
            np.concatenate([kept.column("time").to_numpy(), events.time]),
            np.concatenate([self._seen[of_old], events.arrival]),
            np.concatenate([np.full(len(old), True), events.when]),
            self._patience,
        )
        both = pa.concat_tables([kept.drop_columns("time"), events.values])
        found = [order.look(lookback)[len(old) :] for lookback in lookbacks]
        changed = np.unique(events.group[events.when])
        self._seen[events.group[events.when]] = events.arrival[events.when]  # of equal places the last one counts
        self._keep(touched, order.last(self._depth), old, events)
        return found, both, changed

    def _keep(self, touched: Ints, last: Ints, old: Ints, events: Events) -> None:
        """Keep the last events of the groups that were touched, of their old ones and these."""
        fresh = np.unique(last[last >= len(old)])
        row = np.concatenate([old, np.full(len(events.group), -1)])
        row[fresh] = len(self._rows) + np.arange(len(fresh))
        self._last[touched] = np.where(last >= 0, row[last], -1)
        self._kept += int((last >= 0).sum()) - len(old)
        rows = pa.table([pa.array(events.time), *events.values.columns], schema=self._schema)
        self._append(rows.take(pa.array(fresh - len(old))))

    def _append(self, rows: pa.Table) -> None:
        self._rows.append(rows)
        if len(self._rows) > 2 * self._kept + _SLACK:
            self._clear()

    def _clear(self) -> None:
        """Let rows go that no group has any more."""
        last = self._last[: len(self._names)]
        live = np.unique(last[last >= 0])
        last[last >= 0] = np.searchsorted(live, last[last >= 0])
        self._rows.keep(live)
        self._kept = len(live)

    def forget(self, now: Micros) -> None:
        """Let groups go that begin anew with whatever arrives from now on."""
        self._keep_groups(self._seen[: len(self._names)] >= now - self._patience - _MARGIN)

    def let_go(self, is_meant: Callable[[str], bool]) -> None:
        """Let groups go by their names."""
        self._keep_groups(np.array([not is_meant(name) for name in self._names], np.bool_))

    def _keep_groups(self, stays: Mask) -> None:
        if stays.all():
            return
        self._last = self._last[: len(stays)][stays]
        self._seen = self._seen[: len(stays)][stays]
        self._names = [self._names[number] for number in np.flatnonzero(stays).tolist()]
        self._index = {name: number for number, name in enumerate(self._names)}
        self._clear()

    def rows(self, groups: Ints | None = None) -> pa.RecordBatch:
        """The events that are kept of groups (None: of all), as `restore` takes them."""
        numbers = np.arange(len(self._names)) if groups is None else groups
        last = self._last[numbers][:, ::-1]
        of_row = np.repeat(numbers, (last >= 0).sum(axis=1))
        names = [self._names[number] for number in of_row.tolist()]
        rows = self._rows.take(last[last >= 0]).combine_chunks()
        columns = [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in rows.columns]
        arrays = [pa.array(names, pa.string()), pa.array(self._seen[of_row]), *columns]
        return pa.RecordBatch.from_arrays(arrays, schema=self.saved)

    def restore(self, rows: pa.RecordBatch) -> None:
        """Take on what `rows` gave; of a group it says everything."""
        if not len(rows):
            return
        groups = self.groups(rows.column("group").to_pylist())
        ends = np.append(np.flatnonzero(groups[1:] != groups[:-1]), len(groups) - 1)
        rank = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(len(groups))
        self._kept += len(groups) - int((self._last[groups[ends]] >= 0).sum())
        self._last[groups[ends]] = -1
        self._last[groups, rank] = len(self._rows) + np.arange(len(groups))
        self._seen[groups] = rows.column("seen").to_numpy()
        self._append(pa.Table.from_batches([rows]).drop_columns(["group", "seen"]))


class _Order:
    """Events of groups, each group's in the order of the log: which are in order, and which stand before each."""

    def __init__(self, group: Ints, time: Ints, arrival: Ints, when: Mask, patience: Micros) -> None:
        self._sorted = np.argsort(group, kind="stable")
        self._time, self._when = time[self._sorted], when[self._sorted]
        group, arrival = group[self._sorted], arrival[self._sorted]
        place = np.arange(len(group))
        begins = np.append(True, group[1:] != group[:-1])[: len(group)]
        begin = np.maximum.accumulate(np.where(begins, place, 0))
        before = np.append(-1, np.maximum.accumulate(np.where(self._when, place, -1)))[:-1]
        forgotten = (before >= begin) & (arrival - arrival[before] > patience)
        begins |= forgotten & self._when
        behind = self._behind(np.cumsum(begins))
        enters = self._when & ~behind
        count = np.append(0, np.cumsum(enters))
        self._entered = np.append(np.flatnonzero(enters), 0)  # which stands for none
        self._count = count[:-1]  # how many have entered before each
        self._first = count[np.maximum.accumulate(np.where(begins, place, 0))]  # and before what it belongs to
        self._lost = behind | forgotten
        ends = np.flatnonzero(np.append(group[1:] != group[:-1], True)[: len(group)])
        self._ends, self._begins = count[ends + 1], self._first[ends]
        self._first_ok = self._when & ~behind

    def _behind(self, number: Ints) -> Mask:
        """Which are before an earlier event of their group for which WHEN holds."""
        _, rank = np.unique(self._time, return_inverse=True)
        base = number * (len(rank) + 1)
        highest = np.append(0, np.maximum.accumulate(base + np.where(self._when, rank + 1, 0)))[:-1]
        behind: Mask = rank + 1 < highest - base  # which is below 0 where that is of a group before
        return behind

    def look(self, lookback: Lookback) -> Ints:
        """What each finds: its place, -1 for none; in the order in which they were given."""
        target = self._count - max(lookback.offset, 1)
        there = (target >= self._first) & ~self._lost
        found = self._entered[np.where(there, target, -1)]
        place = np.arange(len(found))
        if lookback.function == "ISFIRST":  # the first one finds itself
            there &= self._time[found] > (self._time - 1) // lookback.reach * lookback.reach
            found = np.where(self._first_ok & ~there, place, -1)
        else:
            there &= self._time[found] > self._time - lookback.reach
            found = np.where(there, found, -1)
            if not lookback.offset:
                found = np.where(self._when, place, found)
        result = np.empty_like(found)
        result[self._sorted] = np.where(found >= 0, self._sorted[found], -1)
        return result

    def last(self, depth: int) -> Ints:
        """The last ones in order of each group, the latest first: their places, -1 where there are fewer."""
        target = self._ends[:, None] - 1 - np.arange(depth)
        there = target >= self._begins[:, None]
        return np.where(there, self._sorted[self._entered[np.where(there, target, -1)]], -1)
