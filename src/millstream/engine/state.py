"""The state of a windowed query, by partition: keys, open panes, and how they are saved and restored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from millstream.clock import SECOND, Micros
from millstream.engine import chunks
from millstream.engine.chunks import SNAPSHOT_BYTES, ChunkLog
from millstream.engine.kept import DELTA_BYTES, PREFIX, KeptRows
from millstream.engine.keys import FOREVER, KEY_SCHEMA, NEVER, NUMBERED_SCHEMA, Ints, Keys, Mask
from millstream.engine.lateness import Ticks
from millstream.engine.midnight import DAY
from millstream.engine.panes import Panes, chosen
from millstream.engine.plan import WindowPlan
from millstream.engine.saved import Saved
from millstream.engine.scratch import Room
from millstream.engine.spans import Spans

_DAY = "day"
"""The chunk with the day of the last midnight that passed."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Panes of windows that are closed up to a `horizon`, and were before up to `done`. Rows that are kept apart
    (`kept.py`) are not among them."""

    panes: pa.Table
    horizon: Ints
    done: Ints


class WindowState:
    """Keys and open windows of the partitions that a processor owns.

    `merge` gives panes of the same window as one; `fingerprint` tells states apart that do not fit each other. `kept`
    is the column of panes with rows that are kept apart, in a `room`.
    """

    def __init__(
        self,
        plan: WindowPlan,
        spans: Spans,
        pane_schema: pa.Schema,
        merge: Callable[[pa.Table], pa.Table],
        fingerprint: bytes,
        kept: str | None = None,
        room: Room | None = None,
    ) -> None:
        self.keys = Keys()
        self._spans = spans
        self.panes = Panes(pane_schema, merge)
        self._plan = plan
        self._schema = pane_schema
        self._merge = merge
        self._fingerprint = fingerprint
        self._chunks: dict[int, ChunkLog] = {}
        self._rows = None
        if kept is not None:
            room = room or Room()
            self._rows = KeptRows(
                pane_schema, kept, spans, self.keys, room, fingerprint, plan.name, shares=plan.regroups
            )
        self._key_schema = KEY_SCHEMA if self._rows is None else NUMBERED_SCHEMA
        self._least = SNAPSHOT_BYTES if self._rows is None else DELTA_BYTES
        self.days: dict[int, int] = {}  # of the last record of each partition
        self._passed: set[int] = set()  # partitions of which a midnight is to be saved
        self._shrunk: set[int] = set()  # and those that are to be saved as a whole: they may have fewer keys

    def restore(self, partition: int, saved: Mapping[str, bytes]) -> None:
        """Take a partition on with the chunks that were saved for it. `QueryError`: they are of another query."""
        self.forget(partition)
        day = int(saved.get(_DAY, b"0"))
        rows = {name: chunk for name, chunk in saved.items() if name.startswith(PREFIX)}
        saved = {name: chunk for name, chunk in saved.items() if name != _DAY and name not in rows}
        tables = [self._schema.empty_table()]
        for keys, panes in chunks.decode(saved, self._fingerprint, (self._key_schema, self._schema), self._plan.name):
            slots = self.keys.restore(partition, keys)
            of_pane = slots[panes.column("slot").to_numpy()]
            self.keys.done[slots] = keys.column("closed").to_numpy()  # which is the horizon
            tables.append(pa.Table.from_batches([panes]).set_column(0, self._schema.field(0), pa.array(of_pane)))
        table = pa.concat_tables(tables)
        if self._rows is not None:
            self._rows.restore(partition, rows, self._plan.grace)
        self.add(self._spans.rest(table, self._horizon_of(table)))
        self._chunks[partition] = ChunkLog.of(saved, self._least)
        newest = int(self.keys.seen[self.keys.of(partition)].max(initial=0)) if len(self.keys) else 0
        if day or newest > 0:
            self.days[partition] = max(day, newest // DAY)

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        self._chunks.pop(partition, None)
        self.days.pop(partition, None)
        self._passed.discard(partition)
        self._shrunk.discard(partition)
        if self._rows is not None:
            self._rows.forget(partition)
        if partition in self.keys:
            self.panes.move(self.keys.forget(partition))

    def forget_silent(self, partition: int, day: int) -> None:
        """Note the day of a partition's next records. If it is another one than before, let go what `midnight.py`
        says."""
        if day <= self.days[partition]:
            return
        self.days[partition] = day
        self._passed.add(partition)
        keys, count = self.keys, len(self.keys)
        if self._plan.counts is not None:  # whose windows may be open for however long
            is_silent = keys.seen[:count] <= day * DAY - self._plan.counts.keep
        else:
            is_silent = (keys.open_from[:count] == FOREVER) & (keys.seen[:count] < (day - 1) * DAY)
        self._let_go(partition, is_silent & (keys.partition[:count] == partition))

    def reset(self, partition: int, is_meant: Callable[[str], bool]) -> Saved:
        """Let keys of a partition go, with their open windows. Gives what to save."""
        gone = np.zeros(len(self.keys), np.bool_)
        gone[[slot for slot in self.keys.of(partition).tolist() if is_meant(self.keys.names[slot])]] = True
        self._let_go(partition, gone)
        return self.save(np.empty(0, np.int64), self._schema.empty_table())

    def _let_go(self, partition: int, gone: Mask) -> None:
        if gone.any():
            if self._rows is not None:
                self._rows.let_go(partition, np.flatnonzero(gone))
            self.panes.move(self.keys.keep(~gone))
            self._shrunk.add(partition)

    def add(self, panes: pa.Table) -> None:
        """Keep panes of open windows."""
        if len(panes):
            if self._rows is not None:
                self._rows.add(panes)
                panes = self._rows.without(panes)
            self.panes.append(panes)
            next_ends = self._spans.next_ends(panes, self._horizon_of(panes))
            np.minimum.at(self.keys.open_from, panes.column("slot").to_numpy(), next_ends)

    def tick(self, ticks: Mapping[int, Ticks], last_row: Ints, fresh: pa.Table) -> Mask:
        """Close the windows, open ones and those of the step's `fresh` panes, that are due at a tick behind the last
        event of their key, whose row in the step is `last_row` (-1: there is none). Gives the keys concerned."""
        keys = self.keys
        until = np.full(len(keys), NEVER, np.int64)
        for partition, its_ticks in ticks.items():
            slots = keys.of(partition)
            passed = its_ticks.latest(last_row[slots]) - keys.seen[slots]
            until[slots] = keys.high[slots] + passed - self._plan.idle
        concerned = np.zeros(len(keys), np.bool_)
        both = [self.panes.table, fresh]
        for panes in [pa.concat_tables(both)] if self._spans.moves else both:
            slot, end = panes.column("slot").to_numpy(), panes.column("end").to_numpy()
            due = np.full(len(slot), True) if self._spans.moves else end <= until[slot]
            if due.any():
                concerned[slot[due]] = True
                np.maximum.at(keys.closed, slot[due], self._spans.latest(chosen(panes, due), until[slot[due]]))
        return concerned

    def close(self, changed: Ints, fresh: pa.Table) -> tuple[Closed, pa.Table]:
        """Keep the panes of windows that are open, among them the step's `fresh` ones. Gives the panes of windows that
        are closed now, which only the keys `changed` can have, as they were before, and the fresh ones to save."""
        keys, grace = self.keys, self._plan.grace
        if self._spans.moves:
            return self._close_moving(changed, fresh)
        closes = fresh.column("end").to_numpy() <= self._horizon_of(fresh)
        closed, stays = chosen(fresh, closes), chosen(fresh, ~closes)
        closing = changed[keys.open_from[changed] <= keys.horizon(grace, changed)]
        if len(closing):
            taken = self.panes.take(self.panes.end <= keys.horizon(grace, self.panes.slot))
            keys.open_from[closing] = FOREVER
            np.minimum.at(keys.open_from, self.panes.slot, self.panes.end)
            self.add(self._rest(taken))
        else:
            taken = closed.slice(0, 0)
        found = self._closed(pa.concat_tables([taken, closed]))
        keys.done[closing] = keys.horizon(grace, closing)
        stays = pa.concat_tables([stays, self._rest(closed)])
        self.add(stays)
        return found, stays

    def _close_moving(self, changed: Ints, fresh: pa.Table) -> tuple[Closed, pa.Table]:
        """Which windows there are can only be told from all panes of a key."""
        keys = self.keys
        everything = pa.concat_tables([self.panes.take(np.isin(self.panes.slot, changed)), fresh])
        closed = self._closed(everything)
        keys.done[changed] = keys.horizon(self._plan.grace, changed)
        keys.open_from[changed] = FOREVER
        self.add(self._rest(everything))
        return closed, fresh

    def _closed(self, panes: pa.Table) -> Closed:
        return Closed(panes, self._horizon_of(panes), self.keys.done[panes.column("slot").to_numpy()])

    def finished(self, closed: Closed, *, ends: bool = True) -> Iterator[pa.Table]:
        """What `close` gave as closed, once for each of its windows, with all their rows. It must be taken to the end
        before anything else happens, unless nothing `ends`: then windows may be looked at that are open."""
        if self._rows is None:
            yield from self._spans.closed(closed.panes, closed.horizon, closed.done)
            return
        for mine, rows, of_row in self._rows.of(closed.panes, closed.done, closed.horizon, ends=ends):
            panes = pa.concat_tables([chosen(closed.panes, mine), rows])
            horizon, done = (np.append(its[mine], its[of_row]) for its in (closed.horizon, closed.done))
            yield from self._spans.closed(panes, horizon, done)

    def _rest(self, panes: pa.Table) -> pa.Table:
        return self._spans.rest(panes, self._horizon_of(panes))

    def _horizon_of(self, panes: pa.Table) -> Ints:
        return self.keys.horizon(self._plan.grace, panes.column("slot").to_numpy())

    def open_spans(self, slots: Ints) -> dict[int, set[tuple[int, Micros, Micros]]]:
        """The open windows of some keys: kind, first and last end."""
        mine = np.isin(self.panes.slot, slots)
        spans: dict[int, set[tuple[int, Micros, Micros]]] = {}
        for slot, span in self._spans.of(chosen(self.panes.table, mine)):
            spans.setdefault(slot, set()).add(span)
        return spans

    def due(self, partitions: Collection[int]) -> dict[int, Micros | None]:
        """For each of some partitions the first whole second at which a tick would close a window, if nothing more
        arrives; None: none is open."""
        keys = self.keys
        slots = np.flatnonzero(keys.open_from[: len(keys)] < FOREVER)
        at = keys.seen[slots] + keys.open_from[slots] + self._plan.idle - keys.high[slots]
        first = np.full(max(partitions) + 1, FOREVER, np.int64)
        mine = keys.partition[slots]
        known = mine < len(first)
        np.minimum.at(first, mine[known], at[known])
        return {p: -(-int(first[p]) // SECOND) * SECOND if first[p] < FOREVER else None for p in partitions}

    def save(self, changed: Ints, added: pa.Table) -> Saved:
        """What to save after a step that changed these keys and added these panes."""
        saved = Saved()
        for number, delta in self._deltas(changed, added):
            log = self._chunks.setdefault(number, ChunkLog(self._least))
            if log.wants_snapshot or (self._rows is not None and self._rows.wants_block(number)):
                self._shrunk.add(number)
            if number not in self._shrunk:
                saved.save[number] = log.delta(delta)
        for number in self._shrunk:
            log = self._chunks.setdefault(number, ChunkLog(self._least))
            saved.save[number], saved.drop[number] = log.snapshot(self._snapshot(number))
            if self._rows is not None:
                self._rows.save_block(number, saved)
        if self._rows is not None:
            self._rows.save_dropped(saved)
        for number in self._passed:
            saved.save.setdefault(number, {})[_DAY] = str(self.days[number]).encode()
        self._shrunk.clear()
        self._passed.clear()
        return saved

    def _snapshot(self, partition: int) -> bytes:
        slots = self.keys.of(partition)
        mine = self.keys.partition[self.panes.slot] == partition
        panes = self._merge(chosen(self.panes.table, mine))
        has_panes = np.zeros(len(self.keys), np.bool_)
        has_panes[panes.column("slot").to_numpy()] = True
        known = slots[(self.keys.high[slots] > NEVER) | has_panes[slots]]
        if not len(known):
            return chunks.encode(self._fingerprint, self._key_rows(known), self._pane_rows(panes, known))
        ((_, snapshot),) = self._deltas(known, panes)
        return snapshot

    def _deltas(self, slots: Ints, panes: pa.Table) -> Iterator[tuple[int, bytes]]:
        """For each partition a delta of its keys among `slots` (ascending) and of panes of these keys.

        All rows are put in the order of partitions once; a partition's are a slice of them."""
        partition = self.keys.partition
        order = np.argsort(partition[slots], kind="stable")
        numbers, starts, counts = np.unique(partition[slots[order]], return_index=True, return_counts=True)
        row = np.empty(len(slots), np.int64)  # of each key in the delta
        row[order] = np.arange(len(slots)) - np.repeat(starts, counts)
        of_pane = panes.column("slot").to_numpy()
        pane_order = np.argsort(partition[of_pane], kind="stable")
        of_pane = of_pane[pane_order]
        bounds = np.searchsorted(partition[of_pane], np.append(numbers, numbers[-1:] + 1))
        key_rows = self._key_rows(slots[order])
        pane_rows = self._pane_rows(panes.take(pane_order), row[np.searchsorted(slots, of_pane)])
        places = zip(*(each.tolist() for each in (numbers, starts, counts, bounds[:-1], np.diff(bounds))), strict=True)
        for number, start, count, pane, panes_here in places:
            keys_here = key_rows.slice(start, count)
            yield number, chunks.encode(self._fingerprint, keys_here, pane_rows.slice(pane, panes_here))

    def _key_rows(self, slots: Ints) -> pa.RecordBatch:
        rows = self.keys.rows(slots, self._plan.grace)
        if self._rows is None:
            return rows
        return pa.RecordBatch.from_arrays([*rows.columns, pa.array(self.keys.number[slots])], schema=NUMBERED_SCHEMA)

    def _pane_rows(self, panes: pa.Table, rows: Ints) -> pa.RecordBatch:
        """Panes whose `slot` is the row of their key."""
        columns = [column.combine_chunks() for column in panes.columns[1:]]
        return pa.RecordBatch.from_arrays([pa.array(rows), *columns], schema=self._schema)
