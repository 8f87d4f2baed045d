"""From events to panes: the part of a step that every query over windows begins with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.decode import Decoder, Folded
from millstream.engine.duck import Duck, Source
from millstream.engine.fixed import FixedSpans
from millstream.engine.inputs import Inputs, slots_of
from millstream.engine.keys import Ints, Slots
from millstream.engine.lookback import Lookbacks
from millstream.engine.merge import Merging
from millstream.engine.panes import chosen
from millstream.engine.parsing import Parsing
from millstream.engine.partials import Partials
from millstream.engine.pieces import Pieces
from millstream.engine.plan import WindowPlan
from millstream.engine.sessions import SessionSpans
from millstream.engine.sliding import SlidingSpans
from millstream.engine.spans import Spans
from millstream.engine.window import Session, Sliding, Window
from millstream.event import Batch

_FINISH_ROWS = 2_048  # panes that are worth a statement of their own


@dataclass(frozen=True, slots=True)
class Late:
    """The late events of a step: their rows, ascending, and the ends of the windows that they missed. Beside them those
    that missed some of their windows only, with the horizon that they came upon. And the slots of both."""

    rows: Ints
    ends: Ints
    short_rows: Ints
    horizons: Ints
    slots: Ints

    @staticmethod
    def of(
        late: Sequence[tuple[int, Micros]] = (), short: Sequence[tuple[int, Micros]] = (), slots: Sequence[int] = ()
    ) -> Late:
        """From pairs of a row and an instant."""
        rows, ends = np.array(sorted(late), np.int64).reshape(-1, 2).T
        short_rows, horizons = np.array(short, np.int64).reshape(-1, 2).T
        return Late(rows, ends, short_rows, horizons, np.array(slots, np.int64))

    def __len__(self) -> int:
        return len(self.rows)


class _Worker(NamedTuple):
    """What one thread has for itself."""

    decoder: Decoder
    merging: Merging


class Folding:
    """What decodes the events of a plan's steps, and folds them into panes. Large steps are decoded in `threads` (None:
    one for each usable core). `parsing` is what it shares with others.

    Whoever has it locks `duck` when all its statements are prepared. `kept` is the column of panes with rows that are
    kept apart from them, if there is one."""

    def __init__(self, plan: WindowPlan, threads: int | None, parsing: Parsing | None = None) -> None:
        self._plan = plan
        self._parsing = parsing
        partials = Partials(plan)
        self.inputs = Inputs(plan)
        self.duck = Duck()
        self.lookbacks = Lookbacks(self.duck, plan, self.inputs)
        decoder = self._decoder(self.duck, partials)
        self.spans = _spans(plan)
        self.merging = Merging(self.duck, plan, self.spans, partials, decoder.pane_columns)
        self.kept = None if plan.moves else partials.kept
        self._is_cut = not isinstance(plan.windows[0], Sliding)  # else a result needs panes with other ends
        self.pieces = Pieces(_Worker(decoder, self.merging), self._another, threads)
        self.fingerprint = _fingerprint(plan, partials, self.merging.pane_schema, self.kept)

    def _another(self) -> _Worker:
        duck, plan = Duck(), self._plan
        partials = Partials(plan)
        decoder = self._decoder(duck, partials)
        merging = Merging(duck, plan, self.spans, partials, decoder.pane_columns)
        duck.lock()
        return _Worker(decoder, merging)

    def _decoder(self, duck: Duck, partials: Partials) -> Decoder:
        schema, lookups = self.lookbacks.schema, self.inputs.references.source
        parsed = None if self._parsing is None else Source(self._parsing.schema(schema))
        return Decoder(duck, self._plan, partials, schema, lookups, parsed)

    def gather(self, batches: Sequence[Batch], keys: Slots) -> pa.Table:
        """The events as inputs of the statements (`inputs.py`). Keys that are new get a slot."""
        inputs = self.inputs.gather(batches, slots_of(batches, keys, self.pieces), self.pieces)
        return inputs if self._parsing is None else self._parsing.add(inputs, batches)

    def fold(self, inputs: pa.Table) -> Folded:
        """The events as parts of windows."""
        return Folded.join(self.pieces.run(lambda worker, piece: worker.decoder.fold(piece), inputs))

    def events(self, inputs: pa.Table) -> pa.Table:
        """See `Decoder.events`."""
        return pa.concat_tables(self.pieces.run(lambda worker, piece: worker.decoder.events(piece), inputs))

    def finish(self, panes: pa.Table, key: Callable[[int], str]) -> list[pa.Table]:
        """See `Merging.finish`: the results in pieces. Many panes are cut by the ends of their windows, so what comes
        out stands in the same order."""
        count = self.pieces.count(len(panes), _FINISH_ROWS) if self._is_cut else 1
        return self.pieces.each(lambda worker, piece: worker.merging.finish(piece, key), _by_end(panes, count))

    def panes(self, inputs: pa.Table, windows: pa.Table, late: Late) -> pa.Table:
        """What the events that are kept and not late bring to their windows; `windows` are those of all of them."""
        if len(late.slots):
            slot = inputs.column("#slot").to_numpy()
            again = np.isin(slot, late.slots)
            again[late.rows] = False
            if len(late.short_rows):
                inputs = self.inputs.before(inputs, late.short_rows, late.horizons)
            others = chosen(windows, ~np.isin(windows.column("slot").to_numpy(), late.slots))
            windows = pa.concat_tables([others, self.fold(chosen(inputs, again)).windows])
        kept = chosen(windows, windows.column("kept").to_numpy())
        if len(late.short_rows):  # of some kind of window they may have missed all
            kept = chosen(kept, kept.column("end").to_numpy() <= kept.column("last").to_numpy())
        return kept.select(self.merging.pane_schema.names)


def _by_end(panes: pa.Table, count: int) -> list[pa.Table]:
    """Panes cut into about so many pieces of about the same size, by the ends of their windows, ascending."""
    if count < 2:
        return [panes]
    end = panes.column("end").to_numpy()
    cuts = [len(end) * number // count for number in range(1, count)]
    bounds = np.unique(np.partition(end, cuts)[cuts])
    place = np.searchsorted(bounds, end)
    return [piece for number in range(len(bounds) + 1) if len(piece := chosen(panes, place == number))]


def _spans(plan: WindowPlan) -> Spans:
    match plan.windows[0]:
        case Sliding() as sliding:
            return SlidingSpans(sliding)
        case Session() as session:
            return SessionSpans(session, [f"g{number}" for number in range(len(plan.groups))] if plan.regroups else [])
    return FixedSpans([window for window in plan.windows if isinstance(window, Window)])


def _fingerprint(plan: WindowPlan, partials: Partials, schema: pa.Schema, kept: str | None) -> bytes:
    """What must be equal for a saved state to fit: what a pane's columns mean, and to which window it belongs."""
    meaning = (
        *(["regroups"] if plan.regroups else []),
        *([("early", plan.early)] if plan.regroups and plan.early else []),  # cuts what partitions tell each other
        *([("apart", kept)] if kept else []),
        plan.windows,
        plan.groups,
        partials.arguments,
        partials.folds,
        [partial.merge for partial in partials.merges],
        schema.to_string(),
    )
    return hashlib.blake2b(repr(meaning).encode(), digest_size=8).digest()
