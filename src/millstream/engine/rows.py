"""A plan's events as rows: each with its time, and the values of the plan's columns."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from millstream.engine.careful import Careful
from millstream.engine.duck import Duck, Source
from millstream.engine.inputs import Inputs
from millstream.engine.keys import Slots
from millstream.engine.lookback import Lookbacks
from millstream.engine.plan import WindowPlan
from millstream.engine.saved import Saved
from millstream.engine.scan import rows_text
from millstream.event import Batch


class RowDecoder:
    """Decodes the events of one plan without windows. `values` are the fields of the plan's columns: `v0`, `v1`, …. The
    chunks of what its events look back to have `mark` in their names."""

    def __init__(self, duck: Duck, plan: WindowPlan, mark: str) -> None:
        self.inputs = Inputs(plan)
        self.lookbacks = Lookbacks(duck, plan, self.inputs, mark)
        source, lookups = Source(self.lookbacks.schema), self.inputs.references.source
        self._statement = Careful(duck, lambda data: rows_text(plan, data), source, lookups)
        self._none = self._statement.run(self.lookbacks.schema.empty_table())
        self.values = [self._none.schema.field(f"v{number}") for number in range(len(plan.columns))]

    def rows(self, batches: Sequence[Batch], keys: Slots) -> tuple[pa.Table, Saved]:
        """The events of the batches, in their order: `row`, `slot`, `arrival`, `time`, whether it is `valid` (else it
        has no payload or no time), whether its time was `clamped`, what `WHERE` says in `kept`, and the values. With
        APPLY, each of its rows, and which is the `first` of its event. And what to save of the events that are looked
        back to."""
        inputs = self.inputs.gather(batches, keys) if batches else self.inputs.schema.empty_table()
        if not len(inputs):
            return self._none, Saved()
        inputs, looked = self.lookbacks.add(inputs, batches, keys)
        return self._statement.run(inputs), looked
