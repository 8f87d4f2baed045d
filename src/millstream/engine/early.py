"""Early results: what open windows hold so far, at an interval of the log's time.

A result is final, and comes when its window closes. A query may be asked for *early* results too: then time as the log
tells it (a record's is that of its commit) is cut at multiples of the interval, and at each such *mark* every key of
which an event has come since the mark before gives what its open windows hold.

Like a midnight, a mark is passed by the first record behind it, and no step has records of both sides. So which early
results there are, and what they hold, follows from the order of the log alone. A tick is asked for at a mark that has
something to tell; it only shows that time has passed where no event does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.intervals import Piece, cut, passes
from millstream.engine.keys import FOREVER, Ints
from millstream.engine.outputs import early_events
from millstream.engine.panes import chosen
from millstream.engine.plan import WindowPlan
from millstream.engine.state import Closed, WindowState
from millstream.engine.step import Step
from millstream.event import Batch

Finish = Callable[[pa.Table], Sequence[pa.Table]]

CHUNK = "early"
"""The name of the chunk with the last mark that was passed, which is there beside those of the windows."""


class Early:
    """The marks of the partitions that a processor owns. `finish` makes results of panes of windows."""

    def __init__(self, plan: WindowPlan, state: WindowState, finish: Finish) -> None:
        self._plan = plan
        self._state = state
        self._finish = finish
        self._intervals: dict[int, int] = {}  # of the last record of each partition, by their number since 1970

    def restore(self, partition: int, chunk: bytes | None) -> None:
        """Take a partition on, whose keys are there by now, with what was saved for it."""
        keys = self._state.keys
        newest = int(keys.seen[keys.of(partition)].max(initial=0))
        last = max(newest, int(chunk or b"0"))
        if last > 0:
            self._intervals[partition] = last // self._plan.early

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        self._intervals.pop(partition, None)

    def cut(self, batches: Sequence[Batch]) -> list[tuple[int, list[Piece]]]:
        """The batches, interval by interval, as `intervals.cut` gives them; none if no mark is passed."""
        length = self._plan.early
        return cut(batches, self._intervals, length) if passes(batches, self._intervals, length) else []

    def pass_to(self, interval: int, partitions: Iterable[int]) -> Step:
        """The next records of some partitions are of this interval: the early results of marks before it."""
        found, saved = list[pa.RecordBatch](), dict[int, Mapping[str, bytes]]()
        for partition in partitions:
            before = self._intervals[partition]
            if before < interval:
                found += self._told(self._concerned(partition), (before + 1) * self._plan.early)
                self._intervals[partition] = interval
                saved[partition] = {CHUNK: str(interval * self._plan.early).encode()}
        outputs = pa.concat_batches(found) if found else None
        return Step(outputs=outputs, save=saved, notes={"early": outputs.num_rows if outputs else 0})

    def due(self, partitions: Collection[int]) -> dict[int, Micros | None]:
        """For each of some partitions the next mark, if it has something to tell."""
        return {
            partition: (self._intervals[partition] + 1) * self._plan.early
            if partition in self._intervals and len(self._concerned(partition))
            else None
            for partition in partitions
        }

    def _concerned(self, partition: int) -> Ints:
        """The keys with an open window of which an event came in the present interval."""
        keys = self._state.keys
        slots = keys.of(partition)
        came = keys.seen[slots] // self._plan.early == self._intervals[partition]
        concerned: Ints = slots[came & (keys.open_from[slots] < FOREVER)]
        return concerned

    def _told(self, slots: Ints, mark: Micros) -> list[pa.RecordBatch]:
        if not len(slots):
            return []
        panes = self._state.panes
        mine = chosen(panes.table, np.isin(panes.slot, slots))
        closed = Closed(mine, np.full(len(mine), FOREVER), self._state.keys.done[mine.column("slot").to_numpy()])
        parts = [part for one in self._state.finished(closed, ends=False) for part in self._finish(one)]
        events = early_events(self._plan, parts, mark)
        return [events] if events is not None else []
