"""The statements that scan events: payloads decoded, the plan's event-level fragments evaluated, and all of it folded
into windows at once. No column of decoded events leaves DuckDB, unless some of them may be late.

A payload that is no JSON makes a vectorised decode fail for all. What does not begin and end like an object is masked
before (`inputs.py`), by a glance at two bytes. The rest is decoded in the hope that it is JSON, and if that fails
again, and for some steps afterwards, with whatever is not `json_valid` masked (measured: hope saves a quarter of the
decode; `TRY` would cost three times as much as soon as one payload in a vector of 2048 is bad). Both ways decode the
same payloads to the same values. DuckDB's parser also refuses whatever is not UTF-8, wherever it stands, so raw bytes
are handed to it as they are. It tolerates a trailing comma, and the numbers `NaN` and `Infinity`, which are then
absent: JSON has no such values.

The rows of a large step are shared out among decoders (`pieces.py`). Which windows come out does not depend on it:
parts of one window are merged later anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from millstream.engine.careful import Careful
from millstream.engine.duck import Duck, Source
from millstream.engine.keys import Ints
from millstream.engine.panes import chosen
from millstream.engine.partials import Partials
from millstream.engine.plan import WindowPlan
from millstream.engine.scan import events_text, fold_text


@dataclass(frozen=True, slots=True)
class Folded:
    """What a step's events come to.

    `windows` has a row for each key and window, or pane where windows overlap (and value of the further groups, and of
    `WHERE`): `slot`, what says to which windows it belongs (`spans.py`), the groups `g…`, `kept`, the partial values
    `p…`, where its events stand (`first_row`, `last_row`), the most by which an event time is ahead of its arrival
    (`skew`), the largest event time (`high`), how many `events` there are and how many of them were `clamped`.
    `rejected` are the rows of events without a payload or a time, ascending."""

    windows: pa.Table
    rejected: Ints

    @staticmethod
    def join(parts: Sequence[Folded]) -> Folded:
        """What parts of the events come to, in the order of their rows."""
        if len(parts) == 1:
            return parts[0]
        return Folded(
            pa.concat_tables([part.windows for part in parts]), np.concatenate([part.rejected for part in parts])
        )


class Decoder:
    """Runs the statements of one plan over inputs of `schema` (`inputs.py`), with the versions of references in
    `lookups` (`lookup.py`); the inputs may have their payloads `parsed` (`parsing.py`). `pane_columns` are the groups
    and partial values, as panes have them."""

    def __init__(
        self,
        duck: Duck,
        plan: WindowPlan,
        partials: Partials,
        schema: pa.Schema,
        lookups: Source | None = None,
        parsed: Source | None = None,
    ) -> None:
        source = Source(schema)
        self._fold = Careful(duck, lambda data: fold_text(plan, partials, data), source, lookups, parsed)
        self._events = Careful(duck, lambda data: events_text(plan, data), source, lookups, parsed)
        self._none = self._fold.run(schema.empty_table())
        names = [name for name in self._none.column_names if name[0] in "gp" and name[1:].isdecimal()]
        self.pane_columns = [self._none.schema.field(name) for name in names]

    def fold(self, inputs: pa.Table) -> Folded:
        """The events as parts of windows."""
        found = self._fold.run(inputs) if len(inputs) else self._none
        is_window = found.column("slot").to_numpy() >= 0
        rejected = found.column("end").to_numpy()[~is_window]
        return Folded(chosen(found, is_window), np.unique(rejected))

    def events(self, inputs: pa.Table) -> pa.Table:
        """The events that are not rejected, in their order: `row`, `slot`, `arrival`, `time`,
        `kept`, and the ends of its windows."""
        return self._events.run(inputs)
