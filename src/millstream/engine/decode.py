"""The statements that scan events: payloads decoded, the plan's event-level fragments evaluated, and all of it folded
into windows at once. No column of decoded events leaves DuckDB, unless some of them may be late.

A payload that is no JSON makes a vectorised decode fail for all. What does not begin and end like an object is masked
before (`inputs.py`), by a glance at two bytes. The rest is decoded in the hope that it is JSON, and if that fails
again, and for some steps afterwards, with whatever is not `json_valid` masked (measured: hope saves a quarter of the
decode; `TRY` would cost three times as much as soon as one payload in a vector of 2048 is bad). Both ways decode the
same payloads to the same values. DuckDB's parser also refuses whatever is not UTF-8, wherever it stands, so raw bytes
are handed to it as they are. It tolerates a trailing comma, and the numbers `NaN` and `Infinity`, which are then
absent: JSON has no such values.

The rows of a large step are shared out among decoders with a connection and a thread of their own. Which windows come
out does not depend on it: parts of one window are merged later anyway. (DuckDB's own threads were measured to gain a
third of that: it does not share out a prepared statement's scan evenly, and all of them wait for the last one.)
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from millstream.engine.duck import Duck, Source, Statement
from millstream.engine.keys import Ints
from millstream.engine.panes import chosen
from millstream.engine.partials import Partials
from millstream.engine.plan import WindowPlan
from millstream.engine.scan import events_text, fold_text

_CAREFUL_STEPS = 64  # after hope was in vain; bounds what bad payloads can cost to a fraction of the decode

_PIECE_ROWS = 8_192  # fewer are not worth another statement: binding one takes as long as decoding as many


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
        return Folded(
            pa.concat_tables([part.windows for part in parts]), np.concatenate([part.rejected for part in parts])
        )


class Decoder:
    """Runs the statements of one plan over inputs of `schema` (`inputs.py`). `pane_columns` are the
    groups and partial values, as panes have them."""

    def __init__(self, duck: Duck, plan: WindowPlan, partials: Partials, schema: pa.Schema) -> None:
        self._source = Source(schema)
        self._fold = self._both(duck, lambda data: fold_text(plan, partials, data))
        self._events = self._both(duck, lambda data: events_text(plan, data))
        self._careful_steps = 0
        self._none = self._fold[1].run()
        names = [name for name in self._none.column_names if name[0] in "gp" and name[1:].isdecimal()]
        self.pane_columns = [self._none.schema.field(name) for name in names]

    def _both(self, duck: Duck, text: Callable[[str], str]) -> tuple[Statement, Statement]:
        """A statement that hopes, and the one that takes care."""
        careful = 'CASE WHEN json_valid("#data") THEN "#data" END'
        return duck.statement(text('"#data"'), self._source), duck.statement(text(careful), self._source)

    def fold(self, inputs: pa.Table) -> Folded:
        """The events as parts of windows."""
        found = self._run(self._fold, inputs) if len(inputs) else self._none
        is_window = found.column("slot").to_numpy() >= 0
        rejected = found.column("end").to_numpy()[~is_window]
        return Folded(chosen(found, is_window), np.sort(rejected))

    def events(self, inputs: pa.Table) -> pa.Table:
        """The events that are not rejected, in their order: `row`, `slot`, `arrival`, `time`,
        `kept`, and the ends of its windows."""
        return self._run(self._events, inputs)

    def _run(self, statements: tuple[Statement, Statement], inputs: pa.Table) -> pa.Table:
        hopeful, careful = statements
        self._source.table = inputs
        if self._careful_steps:
            self._careful_steps -= 1
        else:
            try:
                return hopeful.run()
            except (duckdb.Error, UnicodeDecodeError):  # the error quotes the payload, which may not be UTF-8
                self._careful_steps = _CAREFUL_STEPS
        return careful.run()


class Decoders:
    """A decoder for each of a number of threads. `make` makes one more."""

    def __init__(self, first: Decoder, make: Callable[[], Decoder], threads: int) -> None:
        self._first = first
        self._make = make
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "millstream-fold")  # starts its threads when they are needed
        self._free: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        self._made = False

    def fold(self, inputs: pa.Table) -> Folded:
        """See `Decoder.fold`."""
        count = min(self._threads, len(inputs) // _PIECE_ROWS)
        if count < 2:
            return self._first.fold(inputs)
        if not self._made:
            for decoder in (self._first, *(self._make() for _ in range(self._threads - 1))):
                self._free.put(decoder)
            self._made = True
        rows = -(-len(inputs) // count)
        pieces = [inputs.slice(start, rows) for start in range(0, len(inputs), rows)]
        return Folded.join(list(self._pool.map(self._fold_piece, pieces)))

    def _fold_piece(self, piece: pa.Table) -> Folded:
        decoder = self._free.get()
        try:
            return decoder.fold(piece)
        finally:
            self._free.put(decoder)
