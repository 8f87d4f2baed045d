"""The second phase of a query whose groups do not lie within the stream's key: the parts of their windows are put
together, and a window closes when every partition of the source has passed its end.

All groups of a partition have the same clock, so they are one slot of the state, and their values stand in the panes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec
import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.folding import Folding
from millstream.engine.keys import FOREVER, NEVER, Ints
from millstream.engine.outputs import early_events, result_events
from millstream.engine.panes import chosen
from millstream.engine.parts import Message
from millstream.engine.plan import WindowPlan
from millstream.engine.scratch import Room
from millstream.engine.state import Closed, WindowState
from millstream.engine.step import Step

_PASSED = "passed"
"""The chunk with the horizons of the source's partitions."""


class Gathering:
    """The groups of the partitions that a processor owns. Rows that are kept of windows take `room` (None: memory, as
    much as they need)."""

    def __init__(self, plan: WindowPlan, folding: Folding, room: Room | None) -> None:
        self._plan = plan
        self._finish = folding.finish
        self._spans = folding.spans
        self._schema = folding.merging.pane_schema
        merge, fingerprint = folding.merging.merge, folding.fingerprint
        self._state = WindowState(plan, folding.spans, self._schema, merge, fingerprint, folding.kept, room)
        self._passed: dict[int, Ints] = {}

    def restore(self, partition: int, saved: Mapping[str, bytes]) -> None:
        """Take a partition on with the chunks that were saved for it. `QueryError`: they are of another query."""
        passed = msgspec.msgpack.decode(saved[_PASSED], type=list[int]) if _PASSED in saved else []
        self._state.restore(partition, {name: chunk for name, chunk in saved.items() if name != _PASSED})
        self._passed[partition] = np.array(passed or [NEVER] * self._plan.sources, np.int64)

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        self._state.forget(partition)
        self._passed.pop(partition, None)

    def step(self, told: Iterable[Message]) -> Step:
        """Put together what partitions were told, in the order of the log. Gives the results of windows that closed.
        Notes: `results`."""
        keys, fresh, moved = self._state.keys, [self._schema.empty_table()], set()
        slots: dict[int, int] = {}
        for message in told:
            partition, panes = message.partition, message.panes
            slot = slots[partition] = self._slot(partition)
            fresh.append(panes.set_column(0, self._schema.field(0), pa.array(np.full(len(panes), slot))))
            for source, reading in message.readings.items():
                self._passed[partition][source] = max(self._passed[partition][source], reading.horizon)
                moved.add(partition)
        for partition in moved:
            slot, horizon = slots[partition], int(self._passed[partition].min())
            keys.high[slot] = keys.closed[slot] = max(horizon, int(keys.closed[slot]))
        touched = np.array(sorted(slots.values()), np.int64)
        closed, stays = self._state.close(touched, pa.concat_tables(fresh))
        results = result_events(self._plan, self._results(self._state.finished(closed))) if len(closed.panes) else None
        saved = self._state.save(touched, stays)
        for partition in moved:
            chunk = msgspec.msgpack.encode(self._passed[partition].tolist())
            saved.save.setdefault(partition, {})[_PASSED] = chunk
        notes = {"results": results.num_rows if results else 0}
        return Step(outputs=results, save=saved.save, drop=saved.drop, notes=notes)

    def early(
        self, partition: int, choose: Callable[[pa.Table], pa.Table], mark: Micros, passed: Micros
    ) -> pa.RecordBatch | None:
        """What the windows of a partition that end after `passed` hold so far, as the early results of a mark: of the
        panes that are chosen."""
        panes = self._state.panes
        mine = choose(chosen(panes.table, panes.slot == self._slot(partition)))
        open_ = self._spans.rest(mine, np.full(len(mine), passed))
        if not len(open_):
            return None
        closed = Closed(open_, np.full(len(open_), FOREVER), np.full(len(open_), passed))
        windows = map(choose, self._state.finished(closed, ends=False))  # with rows of others among them
        return early_events(self._plan, self._results(windows), mark)

    def _results(self, windows: Iterable[pa.Table]) -> list[pa.Table]:
        key = self._state.keys.names.__getitem__
        return [part for panes in windows for part in self._finish(panes, key)]

    def _slot(self, partition: int) -> int:
        return int(self._state.keys.slots(partition, [""])[0])
