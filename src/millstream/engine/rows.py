"""A plan's events as rows: each with its time, and the values of the plan's columns."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from millstream.engine.careful import Careful
from millstream.engine.duck import Duck, Source
from millstream.engine.inputs import Inputs, slots_of
from millstream.engine.keys import Ints, Slots
from millstream.engine.lookback import Lookbacks
from millstream.engine.pieces import Pieces
from millstream.engine.plan import WindowPlan
from millstream.engine.saved import Saved
from millstream.engine.scan import rows_text
from millstream.event import Batch


class RowDecoder:
    """Decodes the events of one plan without windows. `values` are the fields of the plan's columns: `v0`, `v1`, …. The
    chunks of what its events look back to have `mark` in their names. Large steps are decoded in `threads` (None: one
    for each usable core)."""

    def __init__(self, duck: Duck, plan: WindowPlan, mark: str, threads: int | None = None) -> None:
        self._plan = plan
        self.inputs = Inputs(plan)
        self.lookbacks = Lookbacks(duck, plan, self.inputs, mark)
        statement = self._statement(duck)
        self._pieces = Pieces(statement, self._another, threads)
        self._none = statement.run(self.lookbacks.schema.empty_table())
        self.values = [self._none.schema.field(f"v{number}") for number in range(len(plan.columns))]

    def _statement(self, duck: Duck) -> Careful:
        source, lookups = Source(self.lookbacks.schema), self.inputs.references.source
        return Careful(duck, lambda data: rows_text(self._plan, data), source, lookups)

    def _another(self) -> Careful:
        duck = Duck()
        statement = self._statement(duck)
        duck.lock()
        return statement

    def slots(self, batches: Sequence[Batch], keys: Slots) -> list[Ints]:
        """See `slots_of`."""
        return slots_of(batches, keys, self._pieces)

    def rows(self, batches: Sequence[Batch], keys: Slots, slots: Sequence[Ints]) -> tuple[pa.Table, Saved]:
        """The events of the batches, whose keys have these slots, in their order: `row`, `slot`, `arrival`, `time`,
        whether it is `valid` (else it has no payload or no time), whether its time was `clamped`, what `WHERE` says in
        `kept`, and the values. With APPLY, each of its rows, and which is the `first` of its event. And what to save of
        the events that are looked back to."""
        if not any(map(len, batches)):
            return self._none, Saved()
        inputs, looked = self.lookbacks.add(self.inputs.gather(batches, slots, self._pieces), batches, keys)
        return pa.concat_tables(self._pieces.run(Careful.run, inputs)), looked
