"""A query over windows: a pure step from batches to results, over state that is kept by partition.

Windows are `(start, end]`, aligned to the epoch (`spans.py`), and their result carries the end. Every stream key has a
watermark of its own (`keys.py` says what closes its windows), so what comes out for a key depends on the order of the
log and on nothing else: not on how the log is cut into steps, not on other keys, not on when the step runs.

A step goes through all its batches at once:

0. find what events look back to (`lookback.py`), if the query has `LAG` or the like;
1. decode what the query needs, and fold the events into windows (`decode.py`); what does not decode is rejected;
2. find late events, where there may be any (`lateness.py`), and fold the events of their keys again without them
   (where windows overlap, an event may be too late for some only: it is folded into the others);
3. move the keys' clocks, and apply the ticks that stand behind their last events;
4. merge the panes of closed windows with those of earlier steps into results (`merge.py`);
5. keep the other panes, and save what changed (`chunks.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine import midnight
from millstream.engine.early import CHUNK, Early
from millstream.engine.folding import Folding, Late
from millstream.engine.intervals import Piece, joined
from millstream.engine.keys import Ints
from millstream.engine.lateness import Glance, Ticks, Windows, suspects, walk
from millstream.engine.lookup import Version
from millstream.engine.order import place_ticks, times_go_on
from millstream.engine.outputs import late_events, result_events
from millstream.engine.panes import chosen
from millstream.engine.parsing import Parsing
from millstream.engine.plan import WindowPlan
from millstream.engine.rejection import rejected_events
from millstream.engine.scratch import Room
from millstream.engine.state import Closed, WindowState
from millstream.engine.step import Dues, Step
from millstream.engine.window import Window
from millstream.event import Batch


class WindowedQuery:
    """A processor that runs a plan. Large steps are decoded in `threads` (None: one for each usable core). `parsing` is
    what it shares with others. Rows that are kept of windows take `room` (None: in memory, as much as they need).

    A step changes the state at once. When its commit fails, `restore` brings back what is committed.
    """

    def __init__(
        self,
        plan: WindowPlan,
        *,
        threads: int | None = None,
        parsing: Parsing | None = None,
        room: Room | None = None,
    ) -> None:
        self.plan = plan
        self._folding = Folding(plan, threads, parsing)
        self._folding.duck.lock()
        self._inputs, self._lookbacks, self._spans = self._folding.inputs, self._folding.lookbacks, self._folding.spans
        self._merging = self._folding.merging
        self._state = WindowState(
            plan,
            self._spans,
            self._merging.pane_schema,
            self._merging.merge,
            self._folding.fingerprint,
            self._folding.kept,
            room,
        )
        self._early = Early(plan, self._state, self._finish) if plan.early else None
        self._dues = Dues(plan.stream)

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """See `Processor.restore`. `QueryError`: the chunks were saved by another query of this name."""
        self._dues.forget(partition)
        others = {name: chunk for name, chunk in chunks.items() if name != CHUNK}
        self._state.restore(partition, self._lookbacks.restore(partition, others))
        if self._early is not None:
            self._early.restore(partition, chunks.get(CHUNK))

    def forget(self, partition: int) -> None:
        """See `Processor.forget`."""
        self._dues.forget(partition)
        self._state.forget(partition)
        self._lookbacks.forget(partition)
        if self._early is not None:
            self._early.forget(partition)

    def reset(self, partition: int, key: str) -> Step:
        """See `Processor.reset`."""
        saved = self._state.reset(partition, key.__eq__) + self._lookbacks.reset(partition, key)
        return Step(save=saved.save, drop=saved.drop, due=self._dues.changed(self._due({partition})))

    def kept(self, partition: int) -> int:
        """See `Processor.kept`."""
        return self._lookbacks.kept(partition)

    def refer(self, versions: Mapping[str, Sequence[Version]]) -> None:
        """See `Processor.refer`."""
        self._inputs.references.refer(versions)

    def step(self, batches: Sequence[Batch]) -> Step:
        """See `Processor.step`. Counts: `processed`, `filtered`, `late`, `rejected`; notes: `clamped`, `results`,
        `early`."""
        if not batches:
            return Step()
        if self._early is None or not (intervals := self._early.cut(batches)):
            return self._by_day(batches)
        steps: list[tuple[Step, Sequence[Piece]]] = []
        for interval, pieces in intervals:
            steps.append((self._early.pass_to(interval, [piece.batch.partition for piece in pieces]), ()))
            steps.append((self._by_day([piece.batch for piece in pieces]), pieces))
        return joined(steps)

    def _by_day(self, batches: Sequence[Batch]) -> Step:
        return midnight.by_day(batches, self._state.days, self._state.forget_silent, self._step)

    def _step(self, batches: Sequence[Batch]) -> Step:
        inputs, looked = self._lookbacks.add(self._folding.gather(batches, self._state.keys), batches, self._state.keys)
        folded = self._folding.fold(inputs)
        ticks = place_ticks(batches)
        late = self._find_late(inputs, folded.windows, ticks, times_go_on(batches) if ticks else True)
        panes = self._folding.panes(inputs, folded.windows, late)
        last_row = self._move_clocks(inputs, folded.windows)  # late events move them too
        is_touched = last_row >= 0
        if ticks:
            is_touched |= self._state.tick(ticks, last_row, panes)
        touched = np.flatnonzero(is_touched)
        closed, stays = self._state.close(touched, panes)
        outputs = self._results(closed)
        saved = self._state.save(touched, stays) + looked
        return Step(
            outputs=outputs,
            late=late_events(self.plan, batches, late.rows, late.ends),
            rejected=rejected_events(batches, folded.rejected, self.plan.time),
            save=saved.save,
            drop=saved.drop,
            due=self._dues.changed(self._due({batch.partition for batch in batches})),
            counts=counts_of(folded.windows, len(folded.rejected), len(late)),
            notes={
                "clamped": int(folded.windows.column("clamped").to_numpy().sum()),
                "results": outputs.num_rows if outputs else 0,
            },
            watermark=self._state.keys.newest,
        )

    def _due(self, partitions: Collection[int]) -> dict[int, Micros | None]:
        dues = self._state.due(partitions)
        if self._early is None:
            return dues
        marks = self._early.due(partitions)
        return {number: min(filter(None, (dues[number], marks[number])), default=None) for number in partitions}

    def _find_late(self, inputs: pa.Table, windows: pa.Table, ticks: Mapping[int, Ticks], times_go_on: bool) -> Late:
        if not len(windows):
            return Late.of()
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
        return self._walk(inputs, np.unique(lanes // kinds), ticks) if len(lanes) else Late.of()

    def _walk(self, inputs: pa.Table, slots: Ints, ticks: Mapping[int, Ticks]) -> Late:
        """Walk the events of some keys, and leave what ticks between them closed in the keys."""
        plan, keys = self.plan, self._state.keys
        mine = chosen(inputs, np.isin(inputs.column("#slot").to_numpy(), slots))
        events = self._folding.events(mine).sort_by([("slot", "ascending"), ("row", "ascending")])
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
        return Late.of(late, short, concerned)

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
        return result_events(self.plan, [part for panes in windows for part in self._finish(panes)])

    def _finish(self, panes: pa.Table) -> list[pa.Table]:
        return self._folding.finish(panes, self._state.keys.names.__getitem__)


def counts_of(windows: pa.Table, rejected: int, late: int) -> dict[str, int]:
    """What became of a step's events, which were folded into these windows."""
    events, kept = windows.column("events").to_numpy(), windows.column("kept").to_numpy()
    processed = int(events[kept].sum())
    filtered = int(events.sum()) - processed
    return {"processed": processed - late, "filtered": filtered, "late": late, "rejected": rejected}
