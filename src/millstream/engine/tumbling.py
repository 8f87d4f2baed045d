"""A query over tumbling windows: a pure step from batches to results, over state that is kept by partition.

Windows are `(start, end]`, aligned to the epoch: an event at time t is in the window that ends at
ceil(t / size) * size, and the result carries the end. Every stream key has a watermark of its own (`keys.py` says what
closes its windows), so what comes out for a key depends on the order of the log and on nothing else: not on how the
log is cut into steps, not on other keys, not on when the step runs.

A step goes through all its batches at once:

1. decode what the query needs (`decode.py`); what does not decode is rejected;
2. find each event's key, clamped event time and window (`events.py`), and fold the events into panes (`fold.py`);
3. find late events, where there may be any (`lateness.py`), and fold again without them;
4. move the keys' clocks, and apply the ticks that stand behind their last events;
5. merge the panes of closed windows with those of earlier steps into results;
6. keep the other panes, and save what changed (`chunks.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.decode import Decoded, Decoder, Partials
from millstream.engine.duck import Duck
from millstream.engine.events import Events, gather, place_ticks, times_go_on
from millstream.engine.fold import Folding
from millstream.engine.keys import Ints
from millstream.engine.lateness import Glance, Ticks, Windows, suspects, walk
from millstream.engine.outputs import late_events, result_events
from millstream.engine.plan import TumblingPlan
from millstream.engine.rejection import reason
from millstream.engine.state import WindowState
from millstream.engine.step import Rejected, Step
from millstream.event import Batch

_NO_ROWS: Ints = np.empty(0, np.int64)


class TumblingQuery:
    """A processor that runs a plan. `threads` bounds DuckDB's threads (None: one a core).

    A step changes the state at once. When its commit fails, `restore` brings back what is committed.
    """

    def __init__(self, plan: TumblingPlan, *, threads: int | None = None) -> None:
        self.plan = plan
        partials = Partials(plan)
        duck = Duck(threads)
        self._decoder = Decoder(duck, plan, partials)
        self._folding = Folding(duck, plan, partials, self._decoder.columns)
        schema = self._folding.pane_schema
        self._state = WindowState(plan, schema, self._folding.merge, _fingerprint(plan, partials, schema))
        self._due: dict[int, Micros | None] = {}

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """See `Processor.restore`. `QueryError`: the chunks were saved by another query of this name."""
        self._due.pop(partition, None)
        self._state.restore(partition, chunks)

    def forget(self, partition: int) -> None:
        """See `Processor.forget`."""
        self._due.pop(partition, None)
        self._state.forget(partition)

    def step(self, batches: Sequence[Batch]) -> Step:
        """See `Processor.step`. Counts: `processed`, `filtered`, `late`, `rejected`; notes: `clamped`, `results`."""
        if not batches:
            return Step()
        decoded = self._decoder.decode(batches)
        events = gather(batches, decoded, self._state.keys, self.plan.size)
        ticks = place_ticks(batches)
        folded = self._fold(events, decoded, _NO_ROWS)
        late = self._find_late(events, folded, ticks, times_go_on(batches) if ticks else True)
        # late events move their keys' clocks too, which are therefore read off the first folding
        panes = self._panes(self._fold(events, decoded, late) if len(late) else folded)
        last_row = self._move_clocks(events, folded)
        touched = np.flatnonzero(last_row >= 0)
        if ticks:
            touched = np.union1d(touched, self._state.tick(ticks, last_row, panes))
        closed, stays = self._state.close(touched, panes)
        outputs = result_events(self.plan, self._finish(closed))
        saved = self._state.save(touched, stays)
        return Step(
            outputs=outputs,
            late=late_events(self.plan, batches, late, events.end[late]),
            rejected=self._rejected(batches, events),
            save=saved.save,
            drop=saved.drop,
            due=self._changed_due(batches),
            counts=_counts(events, len(late)),
            notes={"clamped": events.clamped, "results": outputs.num_rows if outputs else 0},
        )

    def _fold(self, events: Events, decoded: Decoded, late: Ints) -> pa.Table:
        """The events, without late ones, as parts of windows."""
        slot = events.slot
        if len(late):
            slot = slot.copy()
            slot[late] = -1
        columns = {
            "slot": slot,
            "end": events.end,
            "row": np.arange(len(events)),
            "time": events.time,
            "skew": events.time - events.arrival,
            "kept": events.kept,
        }
        schema = self._folding.event_schema
        arrays = [columns[name] if name in columns else decoded.columns.column(name) for name in schema.names]
        return self._folding.fold(pa.table(arrays, schema=schema))

    def _panes(self, folded: pa.Table) -> pa.Table:
        kept = folded if self.plan.where is None else folded.filter(folded.column("kept"))
        return kept.select(self._folding.pane_schema.names)

    def _find_late(self, events: Events, folded: pa.Table, ticks: Mapping[int, Ticks], times_go_on: bool) -> Ints:
        """The rows of late events, ascending."""
        if not len(folded):
            return _NO_ROWS
        plan, keys = self.plan, self._state.keys
        windows = Windows.gather(*(folded.column(name).to_numpy() for name in Windows.__slots__))
        slot = windows.slot
        glance = Glance(windows, keys.partition[slot], keys.horizon(plan.grace, slot), keys.high[slot], keys.seen[slot])
        slots = suspects(glance, ticks, plan.size, plan.idle, times_go_on and not plan.grace)
        return self._walk(events, slots, ticks) if len(slots) else _NO_ROWS

    def _walk(self, events: Events, slots: Ints, ticks: Mapping[int, Ticks]) -> Ints:
        """Walk the events of some keys, and leave what ticks between them closed in the keys."""
        plan, keys = self.plan, self._state.keys
        is_wanted = np.zeros(len(keys) + 1, np.bool_)  # one more for slot -1
        is_wanted[slots] = True
        rows = np.flatnonzero(is_wanted[events.slot])
        rows = rows[np.argsort(events.slot[rows], kind="stable")]
        bounds = np.searchsorted(events.slot[rows], np.append(slots, len(keys)))
        open_ends = self._state.open_ends(slots)
        late: list[int] = []
        for number, slot in enumerate(slots.tolist()):
            mine = rows[bounds[number] : bounds[number + 1]]
            kept = [True] * len(mine) if events.kept is None else events.kept[mine].tolist()
            columns = (events.time[mine], events.arrival[mine], events.end[mine])
            found, closed = walk(
                zip(mine.tolist(), *(column.tolist() for column in columns), kept, strict=True),
                ticks.get(int(keys.partition[slot])),
                (int(keys.high[slot]), int(keys.seen[slot]), int(keys.closed[slot])),
                open_ends.get(slot, set()),
                plan.grace,
                plan.idle,
            )
            keys.closed[slot] = closed
            late += found
        return np.array(sorted(late), np.int64)

    def _move_clocks(self, events: Events, folded: pa.Table) -> Ints:
        """Move the keys' watermarks and last arrivals. Gives the row of each key's last event, -1 where it has none."""
        keys = self._state.keys
        last_row = np.full(len(keys), -1, np.int64)
        slot = folded.column("slot").to_numpy()
        np.maximum.at(last_row, slot, folded.column("last_row").to_numpy())
        np.maximum.at(keys.high, slot, folded.column("high").to_numpy())
        touched = np.flatnonzero(last_row >= 0)
        keys.seen[touched] = events.arrival[last_row[touched]]
        return last_row

    def _finish(self, closed: pa.Table) -> pa.Table | None:
        if not len(closed):
            return None
        names = self._state.keys.names
        return self._folding.finish(closed, [names[slot] for slot in closed.column("slot").to_pylist()])

    def _rejected(self, batches: Sequence[Batch], events: Events) -> list[Rejected]:
        rejected = []
        starts = np.cumsum([0, *(len(batch) for batch in batches)])
        for row in np.flatnonzero(~events.valid).tolist():
            number = int(np.searchsorted(starts, row, "right")) - 1
            place = row - int(starts[number])
            payload = batches[number].events.column("data")[place].as_py()
            rejected.append(Rejected(number, place, reason(payload, self.plan.time)))
        return rejected

    def _changed_due(self, batches: Sequence[Batch]) -> dict[tuple[str, int], Micros | None]:
        changed = {}
        for partition in {batch.partition for batch in batches}:
            due = self._state.due(partition)
            if partition not in self._due or self._due[partition] != due:
                self._due[partition] = changed[self.plan.stream, partition] = due
        return changed


def _counts(events: Events, late: int) -> dict[str, int]:
    valid = int(np.count_nonzero(events.valid))
    kept = valid if events.kept is None else int(np.count_nonzero(events.valid & events.kept))
    return {"processed": kept - late, "filtered": valid - kept, "late": late, "rejected": len(events) - valid}


def _fingerprint(plan: TumblingPlan, partials: Partials, schema: pa.Schema) -> bytes:
    """What must be equal for a saved state to fit: what a pane's columns mean, and to which window it belongs."""
    meaning = (plan.size, plan.groups, partials.arguments, partials.lifts, partials.merges, schema.to_string())
    return hashlib.blake2b(repr(meaning).encode(), digest_size=8).digest()
