"""A query over windows: a pure step from batches to results, over state that is kept by partition.

Windows are `(start, end]`, aligned to the epoch (`spans.py`), and their result carries the end. Every stream key has a
watermark of its own (`keys.py` says what closes its windows), so what comes out for a key depends on the order of the
log and on nothing else: not on how the log is cut into steps, not on other keys, not on when the step runs.

A step goes through all its batches at once:

1. decode what the query needs, and fold the events into windows (`decode.py`); what does not decode is rejected;
2. find late events, where there may be any (`lateness.py`), and fold the events of their keys again without them
   (where windows overlap, an event may be too late for some only: it is folded into the others);
3. move the keys' clocks, and apply the ticks that stand behind their last events;
4. merge the panes of closed windows with those of earlier steps into results (`merge.py`);
5. keep the other panes, and save what changed (`chunks.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.decode import Decoder, Decoders
from millstream.engine.duck import Duck
from millstream.engine.fixed import FixedSpans
from millstream.engine.inputs import Inputs
from millstream.engine.keys import Ints
from millstream.engine.lateness import Glance, Ticks, Windows, suspects, walk
from millstream.engine.merge import Merging
from millstream.engine.order import place_ticks, times_go_on
from millstream.engine.outputs import late_events, result_events
from millstream.engine.panes import chosen
from millstream.engine.partials import Partials
from millstream.engine.plan import WindowPlan
from millstream.engine.rejection import rejected_events
from millstream.engine.sessions import SessionSpans
from millstream.engine.sliding import SlidingSpans
from millstream.engine.spans import Spans
from millstream.engine.state import Closed, WindowState
from millstream.engine.step import Step
from millstream.engine.window import Kind, Session, Sliding, Window
from millstream.event import Batch


@dataclass(frozen=True, slots=True)
class _Late:
    """The late events of a step: their rows, ascending, and the ends of the windows that they missed. Beside them those
    that missed some of their windows only, with the horizon that they came upon. And the keys of both."""

    rows: Ints
    ends: Ints
    short_rows: Ints
    horizons: Ints
    slots: Ints

    @staticmethod
    def of(
        late: Sequence[tuple[int, Micros]] = (), short: Sequence[tuple[int, Micros]] = (), slots: Sequence[int] = ()
    ) -> _Late:
        rows, ends = np.array(sorted(late), np.int64).reshape(-1, 2).T
        short_rows, horizons = np.array(short, np.int64).reshape(-1, 2).T
        return _Late(rows, ends, short_rows, horizons, np.array(slots, np.int64))

    def __len__(self) -> int:
        return len(self.rows)


class WindowedQuery:
    """A processor that runs a plan. Large steps are decoded in `threads` (None: one for each usable core).

    A step changes the state at once. When its commit fails, `restore` brings back what is committed.
    """

    def __init__(self, plan: WindowPlan, *, threads: int | None = None) -> None:
        self.plan = plan
        partials = Partials(plan)
        self._inputs = Inputs(plan)
        duck = Duck()
        self._decoder = Decoder(duck, plan, partials, self._inputs.schema)
        self._spans = _spans(plan.windows)
        self._merging = Merging(duck, plan, self._spans, partials, self._decoder.pane_columns)
        duck.lock()
        self._decoders = Decoders(self._decoder, self._another_decoder, threads or _usable_cores())
        schema = self._merging.pane_schema
        fingerprint = _fingerprint(plan, partials, schema)
        self._state = WindowState(plan, self._spans, schema, self._merging.merge, fingerprint)
        self._due: dict[int, Micros | None] = {}

    def _another_decoder(self) -> Decoder:
        duck = Duck()
        decoder = Decoder(duck, self.plan, Partials(self.plan), self._inputs.schema)
        duck.lock()
        return decoder

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
        inputs = self._inputs.gather(batches, self._state.keys)
        folded = self._decoders.fold(inputs)
        ticks = place_ticks(batches)
        late = self._find_late(inputs, folded.windows, ticks, times_go_on(batches) if ticks else True)
        panes = self._panes(inputs, folded.windows, late)
        last_row = self._move_clocks(inputs, folded.windows)  # late events move them too
        touched = np.flatnonzero(last_row >= 0)
        if ticks:
            touched = np.union1d(touched, self._state.tick(ticks, last_row, panes))
        closed, stays = self._state.close(touched, panes)
        outputs = self._results(closed)
        saved = self._state.save(touched, stays)
        return Step(
            outputs=outputs,
            late=late_events(self.plan, batches, late.rows, late.ends),
            rejected=rejected_events(batches, folded.rejected, self.plan.time),
            save=saved.save,
            drop=saved.drop,
            due=self._changed_due(batches),
            counts=_counts(folded.windows, len(folded.rejected), len(late)),
            notes={
                "clamped": int(folded.windows.column("clamped").to_numpy().sum()),
                "results": outputs.num_rows if outputs else 0,
            },
            watermark=self._state.keys.newest,
        )

    def _panes(self, inputs: pa.Table, windows: pa.Table, late: _Late) -> pa.Table:
        """What the events that are kept and not late bring to their windows."""
        if len(late.slots):
            slot = inputs.column("#slot").to_numpy()
            again = np.isin(slot, late.slots)
            again[late.rows] = False
            if len(late.short_rows):
                inputs = self._inputs.before(inputs, late.short_rows, late.horizons)
            others = chosen(windows, ~np.isin(windows.column("slot").to_numpy(), late.slots))
            windows = pa.concat_tables([others, self._decoders.fold(chosen(inputs, again)).windows])
        kept = chosen(windows, windows.column("kept").to_numpy())
        if len(late.short_rows):  # of some kind of window they may have missed all
            kept = chosen(kept, kept.column("end").to_numpy() <= kept.column("last").to_numpy())
        return kept.select(self._merging.pane_schema.names)

    def _find_late(self, inputs: pa.Table, windows: pa.Table, ticks: Mapping[int, Ticks], times_go_on: bool) -> _Late:
        if not len(windows):
            return _Late.of()
        plan, keys, kinds = self.plan, self._state.keys, self._spans.kinds
        lane = windows.column("slot").to_numpy() * kinds
        if kinds > 1:
            lane = lane + windows.column("w").to_numpy()
        names = ("end", "first_row", "last_row", "skew")
        gathered = Windows.gather(lane, *(windows.column(name).to_numpy() for name in names))
        slot = gathered.lane // kinds
        glance = Glance(
            gathered, keys.partition[slot], keys.horizon(plan.grace, slot), keys.high[slot], keys.seen[slot]
        )
        first = plan.windows[0]
        size = first.size if plan.tumbles and isinstance(first, Window) else None
        lanes = suspects(glance, ticks, size, plan.idle, times_go_on and not plan.grace)
        return self._walk(inputs, np.unique(lanes // kinds), ticks) if len(lanes) else _Late.of()

    def _walk(self, inputs: pa.Table, slots: Ints, ticks: Mapping[int, Ticks]) -> _Late:
        """Walk the events of some keys, and leave what ticks between them closed in the keys."""
        plan, keys = self.plan, self._state.keys
        mine = chosen(inputs, np.isin(inputs.column("#slot").to_numpy(), slots))
        events = self._decoder.events(mine).sort_by([("slot", "ascending"), ("row", "ascending")])
        bounds = np.searchsorted(events.column("slot").to_numpy(), np.append(slots, len(keys)))
        order = ["row", "time", "arrival", "kept", *(name for name in events.column_names if name[0] in "el")]
        rows = list(zip(*(events.column(name).to_pylist() for name in order), strict=True))
        open_spans = self._state.open_spans(slots)
        late: list[tuple[int, Micros]] = []
        short: list[tuple[int, Micros]] = []
        concerned = []
        for number, slot in enumerate(slots.tolist()):
            walked = walk(
                rows[bounds[number] : bounds[number + 1]],
                ticks.get(int(keys.partition[slot])),
                (int(keys.high[slot]), int(keys.seen[slot]), int(keys.closed[slot])),
                open_spans.get(slot, set()),
                self._spans,
                plan.grace,
                plan.idle,
            )
            keys.closed[slot] = walked.closed
            late += walked.late
            short += walked.short
            if walked.late or walked.short:
                concerned.append(slot)
        return _Late.of(late, short, concerned)

    def _move_clocks(self, inputs: pa.Table, windows: pa.Table) -> Ints:
        """Move the keys' watermarks and last arrivals. Gives the row of each key's last event, -1 where it has none."""
        keys = self._state.keys
        last_row = np.full(len(keys), -1, np.int64)
        slot = windows.column("slot").to_numpy()
        np.maximum.at(last_row, slot, windows.column("last_row").to_numpy())
        np.maximum.at(keys.high, slot, windows.column("high").to_numpy())
        touched = np.flatnonzero(last_row >= 0)
        keys.seen[touched] = inputs.column("#arrival").to_numpy()[last_row[touched]]
        return last_row

    def _results(self, closed: Closed) -> pa.RecordBatch | None:
        if not len(closed.panes):
            return None
        windows = self._state.finished(closed)
        return result_events(self.plan, [self._merging.finish(panes, self._state.keys) for panes in windows])

    def _changed_due(self, batches: Sequence[Batch]) -> dict[tuple[str, int], Micros | None]:
        changed = {}
        for partition, due in self._state.due({batch.partition for batch in batches}).items():
            if partition not in self._due or self._due[partition] != due:
                self._due[partition] = changed[self.plan.stream, partition] = due
        return changed


def _spans(windows: Sequence[Kind]) -> Spans:
    match windows[0]:
        case Sliding() as sliding:
            return SlidingSpans(sliding)
        case Session() as session:
            return SessionSpans(session)
    return FixedSpans([window for window in windows if isinstance(window, Window)])


def _counts(windows: pa.Table, rejected: int, late: int) -> dict[str, int]:
    events, kept = windows.column("events").to_numpy(), windows.column("kept").to_numpy()
    processed = int(events[kept].sum())
    filtered = int(events.sum()) - processed
    return {"processed": processed - late, "filtered": filtered, "late": late, "rejected": rejected}


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fingerprint(plan: WindowPlan, partials: Partials, schema: pa.Schema) -> bytes:
    """What must be equal for a saved state to fit: what a pane's columns mean, and to which window it belongs."""
    meaning = (
        plan.windows,
        plan.groups,
        partials.arguments,
        partials.folds,
        [partial.merge for partial in partials.merges],
        schema.to_string(),
    )
    return hashlib.blake2b(repr(meaning).encode(), digest_size=8).digest()
