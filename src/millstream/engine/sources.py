"""The first phase of a query whose groups do not lie within the stream's key: what the events of a partition bring to
windows, and how far its clock has come.

Whether events can be late is seen at a glance: no window of a step has an event behind one that closes it (so nothing
has to be looked at as long as events are out of order by less than the grace), nor was the partition silent for long.
Otherwise the times of the partition's events are decoded once more, and each is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.chunks import another
from millstream.engine.folding import Folding, Late
from millstream.engine.keys import FOREVER, NEVER, Ints, Keys
from millstream.engine.lateness import Ticks
from millstream.engine.order import place_ticks
from millstream.engine.outputs import late_events
from millstream.engine.panes import chosen
from millstream.engine.partition_clock import PartitionClock
from millstream.engine.plan import WindowPlan
from millstream.engine.rejection import rejected_events
from millstream.engine.saved import Saved
from millstream.engine.step import Rejected
from millstream.engine.window import Window
from millstream.engine.windowed import counts_of
from millstream.event import Batch

_NO_COUNTS = {"processed": 0, "filtered": 0, "late": 0, "rejected": 0}
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Divided:
    """What a step's events come to: panes for whoever puts them together, and what became of the events."""

    panes: pa.Table
    late: pa.RecordBatch | None
    rejected: list[Rejected]
    counts: dict[str, int]
    clamped: int
    looked: Saved


class Sources:
    """The partitions of the source that a processor owns, and their clocks."""

    def __init__(self, plan: WindowPlan, folding: Folding) -> None:
        self._plan = plan
        self._folding = folding
        self.clocks: dict[int, PartitionClock] = {}

    def restore(self, partition: int, saved: bytes | None) -> None:
        """Take a partition on with what `save` gave. `QueryError`: it is of another query."""
        mark = self._folding.fingerprint
        if saved and not saved.startswith(mark):
            raise another(self._plan.name)
        clock = saved.removeprefix(mark) if saved else b""
        self.clocks[partition] = msgspec.msgpack.decode(clock, type=PartitionClock) if clock else PartitionClock()

    def save(self, partition: int) -> bytes:
        """What is to be saved of a partition."""
        return self._folding.fingerprint + msgspec.msgpack.encode(self.clocks[partition])

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        self.clocks.pop(partition, None)

    @property
    def newest(self) -> Micros | None:
        """The largest event time of any partition; None where there is none yet."""
        newest = max((clock.high for clock in self.clocks.values()), default=NEVER)
        return newest if newest > NEVER else None

    def step(self, batches: Sequence[Batch]) -> Divided:
        """What the events of the source bring."""
        if not batches:
            return Divided(self._folding.merging.pane_schema.empty_table(), None, [], dict(_NO_COUNTS), 0, Saved())
        keys = Keys()
        gathered = self._folding.gather(batches, keys)
        inputs, looked = self._folding.lookbacks.add(gathered, batches, keys)
        partition = np.repeat([batch.partition for batch in batches], [len(batch) for batch in batches])
        place = inputs.schema.get_field_index("#slot")
        inputs = inputs.set_column(place, inputs.schema.field(place), pa.array(partition.astype(np.int64)))
        folded = self._folding.fold(inputs)
        late = self._find_late(batches, inputs, folded.windows)
        return Divided(
            self._folding.panes(inputs, folded.windows, late),
            late_events(self._plan, batches, late.rows, late.ends),
            rejected_events(batches, folded.rejected, self._plan.time),
            counts_of(folded.windows, len(folded.rejected), len(late)),
            int(folded.windows.column("clamped").to_numpy().sum()),
            looked,
        )

    def _find_late(self, batches: Sequence[Batch], inputs: pa.Table, windows: pa.Table) -> Late:
        """Move the clocks, and find the events that are late."""
        ticks = place_ticks(batches)
        slot = windows.column("slot").to_numpy()
        found: list[tuple[int, Ints, Ints, Ints, Ints]] = []
        start = 0
        for batch in batches:
            mine, its_ticks = chosen(windows, slot == batch.partition), ticks.get(batch.partition)
            clock, rows = self.clocks[batch.partition], inputs.slice(start, len(batch))
            start += len(batch)
            if not len(mine):
                clock.pass_(_NOTHING, _NOTHING, _NOTHING, its_ticks, self._plan)
            elif self._goes_on(clock, rows, mine, its_ticks):
                behind = _from(its_ticks, start)
                clock.high = max(clock.high, int(mine.column("high").to_numpy().max()))
                clock.seen = clock.now = int(rows.column("#arrival")[-1].as_py())
                clock.pass_(_NOTHING, _NOTHING, _NOTHING, behind, self._plan)
            else:
                found.append((batch.partition, *self._late_of(clock, rows, its_ticks)))
        late = [pair for _, rows, ends, _, _ in found for pair in zip(rows.tolist(), ends.tolist(), strict=True)]
        short = [pair for *_, rows, bounds in found for pair in zip(rows.tolist(), bounds.tolist(), strict=True)]
        return Late.of(late, short, [number for number, rows, _, others, _ in found if len(rows) or len(others)])

    def _goes_on(self, clock: PartitionClock, rows: pa.Table, windows: pa.Table, ticks: Ticks | None) -> bool:
        """Whether it is certain that no event is late, and that no silence closed anything."""
        plan = self._plan
        arrival = rows.column("#arrival").to_numpy()
        if clock.seen > NEVER:
            arrival = np.append(clock.seen, arrival)
        elif ticks is not None:
            return False
        pauses = np.diff(arrival)
        if len(pauses) and (pauses.min() < 0 or pauses.max() >= plan.idle - plan.grace):
            return False
        if int(windows.column("events").to_numpy().sum()) < len(rows):  # some are rejected, and no sign of life
            return False
        first, last, high, end = (windows.column(name).to_numpy() for name in ("first_row", "last_row", "high", "end"))
        row = first
        kind = plan.windows[0]
        if isinstance(kind, Window) and len(plan.windows) == 1:
            # of its first events it is only known that they do not close the window before, unless they are those
            passed = windows.column("passed").fill_null(FOREVER).to_numpy()
            row, high = np.append(first, passed), np.append(np.minimum(high, end - kind.hop + plan.grace), high)
        order = np.argsort(row)
        highest = np.append(clock.high, np.maximum.accumulate(np.maximum(high[order], clock.high)))
        before = highest[np.searchsorted(row[order], last, "left")]
        return bool((end > np.maximum(before - plan.grace - 1, clock.closed)).all())

    def _late_of(self, clock: PartitionClock, rows: pa.Table, ticks: Ticks | None) -> tuple[Ints, Ints, Ints, Ints]:
        """The rows of late events and the ends that they missed; those of events that are late for some windows only,
        and the horizon that they came upon."""
        events = self._folding.events(rows)
        row, time, arrival = (events.column(name).to_numpy() for name in ("row", "time", "arrival"))
        horizon = clock.pass_(time, arrival, row, ticks, self._plan)
        kept = events.column("kept").to_numpy()
        ends = [events.column(name).to_numpy() for name in events.column_names if name[0] in "el"]
        firsts = [events.column(name).to_numpy() for name in events.column_names if name[0] == "e"]
        last = np.maximum.reduce(ends)
        late = kept & (last <= horizon)
        short = kept & ~late & (np.minimum.reduce(firsts) <= horizon)
        return row[late], last[late], row[short], horizon[short]


def _from(ticks: Ticks | None, row: int) -> Ticks | None:
    """Those behind all events of a batch, which ends before a row."""
    if ticks is None or not (which := ticks.rows >= row).any():
        return None
    return Ticks(ticks.rows[which], ticks.times[which])
