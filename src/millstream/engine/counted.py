"""A query over windows of so many events: the last hundred readings of a device, at every tenth.

Events count by group, in the order in which they stand in the log, from 1 on; those that `WHERE` leaves out do not
count. A window is closed by its last event, at once: time has no part in it, so nothing is waited for, no event is
late, and no tick is needed. One that has not all of its events stays open, however long its group is silent; unless the
plan says how long to `keep` groups: then those that have been silent for so long go at midnight (`midnight.py`).

For the state a window is one of numbers, `(end - size, end]`, that stands still (`fixed.py`). Its slots are groups: a
group is a key with the values of the further columns, and its clock is the number of its last event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from millstream.engine import midnight
from millstream.engine.aggregate import OFFSET
from millstream.engine.careful import Careful
from millstream.engine.duck import Duck, Source, select
from millstream.engine.fixed import FixedSpans
from millstream.engine.inputs import Inputs, slots_of
from millstream.engine.keys import NEVER, Ints, Slots, group_name, key_of
from millstream.engine.lookback import Lookbacks
from millstream.engine.lookup import Version
from millstream.engine.merge import Merging
from millstream.engine.outputs import result_events
from millstream.engine.panes import chosen
from millstream.engine.partials import Partials
from millstream.engine.pieces import Pieces
from millstream.engine.plan import WindowPlan
from millstream.engine.rejection import rejected_events
from millstream.engine.scan import numbered_text
from millstream.engine.state import Closed, WindowState
from millstream.engine.step import Step
from millstream.engine.window import Count
from millstream.event import Batch

_SLOT = pa.field("slot", pa.int64())


class CountedQuery:
    """A processor that runs a plan whose window is `counts`. Large steps are decoded in `threads` (None: one for each
    usable core).

    A step changes the state at once. When its commit fails, `restore` brings back what is committed.
    """

    def __init__(self, plan: WindowPlan, counts: Count, *, threads: int | None = None) -> None:
        self.plan = plan
        self._window, self._keep = counts.numbers, counts.keep
        self._inputs = Inputs(plan)
        self._partials = Partials(plan)
        self._newest = NEVER
        duck, spans = Duck(), FixedSpans([self._window])
        self._lookbacks = Lookbacks(duck, plan, self._inputs)
        first = self._statement(duck)
        self._events = Pieces(first, self._another_statement, threads)
        answer = first.run(self._lookbacks.schema.empty_table()).schema
        named = [field for field in answer if field.name[0] in "gx" and field.name[1:].isdecimal()]
        self._schema = pa.schema([_SLOT, *spans.fields, *named, answer.field(OFFSET), answer.field("time")])
        self._numbered = Source(self._schema)
        groups = [field.name for field in named if field.name[0] == "g"]
        self._fold = duck.statement(_fold_text(spans, groups, self._partials), self._numbered)
        columns = [field for field in self._fold.run().schema if field.name[0] in "gp" and field.name[1:].isdecimal()]
        self._merging = Merging(duck, plan, spans, self._partials, columns)
        duck.lock()
        schema = self._merging.pane_schema
        windows = [replace(counts, keep=0)]  # which may change
        meaning = (windows, plan.groups, self._partials.arguments, self._partials.folds, schema.to_string())
        fingerprint = hashlib.blake2b(repr(meaning).encode(), digest_size=8).digest()
        self._state = WindowState(plan, spans, schema, self._merging.merge, fingerprint)

    def _statement(self, duck: Duck) -> Careful:
        source, lookups = Source(self._lookbacks.schema), self._inputs.references.source
        return Careful(duck, lambda data: numbered_text(self.plan, self._partials, data), source, lookups)

    def _another_statement(self) -> Careful:
        duck = Duck()
        statement = self._statement(duck)
        duck.lock()
        return statement

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """See `Processor.restore`. `QueryError`: the chunks were saved by another query of this name."""
        self._state.restore(partition, self._lookbacks.restore(partition, chunks))

    def forget(self, partition: int) -> None:
        """See `Processor.forget`."""
        self._state.forget(partition)
        self._lookbacks.forget(partition)

    def reset(self, partition: int, key: str) -> Step:
        """See `Processor.reset`."""
        saved = self._state.reset(partition, lambda group: key_of(group) == key) + self._lookbacks.reset(partition, key)
        return Step(save=saved.save, drop=saved.drop)

    def kept(self, partition: int) -> int:
        """See `Processor.kept`."""
        return self._lookbacks.kept(partition)

    def refer(self, versions: Mapping[str, Sequence[Version]]) -> None:
        """See `Processor.refer`."""
        self._inputs.references.refer(versions)

    def waiting(self, partition: int) -> pa.RecordBatch | None:
        """The windows of a partition that have not all of their events, as if they had: the first one of each group."""
        panes = self._state.panes.table
        mine = chosen(panes, self._state.keys.partition[self._state.panes.slot] == partition)
        return self._results([mine.drop_columns([name for name in ("last",) if name in mine.column_names])])

    def step(self, batches: Sequence[Batch]) -> Step:
        """See `Processor.step`. Counts: `processed`, `filtered`, `late` (always 0), `rejected`; notes: `clamped`,
        `results`."""
        if not self._keep:
            return self._step(batches)
        return midnight.by_day(batches, self._state.days, self._state.forget_silent, self._step)

    def _step(self, batches: Sequence[Batch]) -> Step:
        names = Slots()
        inputs = (
            self._inputs.gather(batches, slots_of(batches, names)) if batches else self._lookbacks.schema.empty_table()
        )
        if not len(inputs):
            return Step(counts={"processed": 0, "filtered": 0, "late": 0, "rejected": 0})
        inputs, looked = self._lookbacks.add(inputs, batches, names)
        events = pa.concat_tables(self._events.run(Careful.run, inputs))
        valid, kept, first = (events.column(name).to_numpy() for name in ("valid", "kept", "first"))
        refused: Ints = np.unique(events.column("row").to_numpy()[~valid])
        processed = int((valid & kept & first).sum())
        self._newest = max(self._newest, int(events.column("time").to_numpy()[valid].max(initial=NEVER)))
        arrival = inputs.column("#arrival").to_numpy()[events.column("row").to_numpy()[valid & kept]]
        panes, touched = self._number(chosen(events, valid & kept), arrival, names)
        closed, stays = self._state.close(touched, panes)
        outputs = self._results(self._windows(closed)) if len(closed.panes) else None
        saved = self._state.save(touched, stays) + looked
        return Step(
            outputs=outputs,
            rejected=rejected_events(batches, refused, self.plan.time),
            save=saved.save,
            drop=saved.drop,
            counts={
                "processed": processed,
                "filtered": int((valid & first).sum()) - processed,
                "late": 0,
                "rejected": len(refused),
            },
            notes={
                "clamped": int((events.column("clamped").to_numpy() & valid & first).sum()),
                "results": outputs.num_rows if outputs else 0,
            },
            watermark=self._newest if self._newest > NEVER else None,
        )

    def _windows(self, closed: Closed) -> Iterable[pa.Table]:
        """The panes of windows that are closed, or all that is in them already, where many overlap."""
        if self._window.tumbles or self._window.size % self._window.hop:  # then a window begins inside of a pane's hop
            return self._state.finished(closed)
        return [self._merging.framed(closed.panes, closed.horizon)]

    def _number(self, events: pa.Table, arrival: Ints, names: Slots) -> tuple[pa.Table, Ints]:
        """The panes of events, which get their numbers, and the groups that they are of."""
        keys = self._state.keys
        slot = self._slots(events, names)
        np.maximum.at(keys.seen, slot, arrival)
        order = np.argsort(slot, kind="stable")
        touched, begins, counts = np.unique(slot[order], return_index=True, return_counts=True)
        number = np.empty(len(slot), np.int64)
        number[order] = np.arange(1, len(slot) + 1) - np.repeat(begins, counts)
        before = np.maximum(keys.closed[touched], 0)
        number[order] += np.repeat(before, counts)
        keys.high[touched] = keys.closed[touched] = before + counts
        places = {"slot": slot, "end": np.maximum(self._end(number), self._window.size)}
        if not self._window.tumbles:
            places |= {"last": self._end(number + self._window.size) - self._window.hop, "w": np.zeros_like(slot)}
        columns = [pa.array(places[name]) if name in places else events.column(name) for name in self._schema.names]
        self._numbered.table = pa.table(columns, schema=self._schema)
        return self._fold.run().select(self._merging.pane_schema.names), touched

    def _end(self, number: Ints) -> Ints:
        """The first end of a window at or after a number."""
        hop, offset = self._window.hop, self._window.offset
        end: Ints = -(-(number - offset) // hop) * hop + offset
        return end

    def _slots(self, events: pa.Table, names: Slots) -> Ints:
        """The groups of events as slots of the state."""
        slot = events.column("slot").to_numpy()
        texts, text = [""], np.zeros_like(slot)
        if self.plan.groups and len(events):
            by = events.column("by").combine_chunks().dictionary_encode()
            texts, text = by.dictionary.to_pylist(), by.indices.to_numpy()
        pairs, place = np.unique(slot * len(texts) + text, return_inverse=True)
        partition = names.partition[pairs // len(texts)]
        found = np.empty(len(pairs), np.int64)
        for number in np.unique(partition).tolist():
            mine = partition == number
            its = (divmod(pair, len(texts)) for pair in pairs[mine].tolist())
            found[mine] = self._state.keys.slots(number, [group_name(names.names[key], texts[by]) for key, by in its])
        return found[place]

    def _results(self, windows: Iterable[pa.Table]) -> pa.RecordBatch | None:
        found = [self._merging.finish(panes, lambda slot: key_of(self._state.keys.names[slot])) for panes in windows]
        if len(found) > 1:  # they were cut by the numbers of events, and not in the order in which they closed
            found = [pa.concat_tables(found).sort_by("last")]
        return result_events(self.plan, found)


def _fold_text(spans: FixedSpans, groups: Sequence[str], partials: Partials) -> str:
    by = ["slot", *(f'"{field.name}"' for field in spans.fields), *groups]
    return select([*by, *(f"{fold} AS p{number}" for number, fold in enumerate(partials.folds))], "source", group=by)
