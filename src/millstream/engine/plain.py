"""A query without windows: each event by itself, chosen and changed. There is no state but what `LAG` and the like look
back to, and no event is late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import Micros
from millstream.engine.careful import HOPE, Careful
from millstream.engine.duck import Duck, Source
from millstream.engine.inputs import Inputs, slots_of
from millstream.engine.keys import Ints, Slots
from millstream.engine.lookback import Lookbacks
from millstream.engine.lookup import Version
from millstream.engine.outputs import result_events
from millstream.engine.parsing import Parsing
from millstream.engine.pieces import Pieces
from millstream.engine.plan import WindowPlan
from millstream.engine.rejection import rejected_events
from millstream.engine.scan import PARSED, plain_text
from millstream.engine.step import Step
from millstream.errors import QueryError
from millstream.event import Batch


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a piece of a step comes to: results (`key`, `id`, `data`), the rows of events that are not valid, how many
    events have results and how many of these were clamped, and the largest event time."""

    placed: list[pa.Table]
    refused: Ints
    processed: int
    clamped: int
    newest: Micros | None


class PlainQuery:
    """A processor that runs a plan without windows. Large steps are decoded in `threads` (None: one for each usable
    core). `parsing` is what it shares with others."""

    def __init__(self, plan: WindowPlan, *, threads: int | None = None, parsing: Parsing | None = None) -> None:
        self.plan = plan
        self._parsing = parsing
        self._inputs = Inputs(plan)
        duck = Duck()
        self._lookbacks = Lookbacks(duck, plan, self._inputs)
        self._events = Pieces(self._statement(duck), lambda: self._statement(Duck()), threads)

    def _statement(self, duck: Duck) -> Careful:
        source, lookups = Source(self._lookbacks.schema), self._inputs.references.source
        parsed = None if self._parsing is None else Source(self._parsing.schema(source.schema))
        statement = Careful(duck, partial(_text, self.plan), source, lookups, parsed)
        duck.lock()
        return statement

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """See `Processor.restore`. `QueryError`: the chunks were saved by another query of this name."""
        if self._lookbacks.restore(partition, chunks):
            raise QueryError(
                f"the saved state of query {self.plan.name!r} (partition {partition}) was made with windows; give the "
                "changed query a new name, and it starts afresh"
            )

    def forget(self, partition: int) -> None:
        """See `Processor.forget`."""
        self._lookbacks.forget(partition)

    def reset(self, partition: int, key: str) -> Step:
        """See `Processor.reset`."""
        saved = self._lookbacks.reset(partition, key)
        return Step(save=saved.save, drop=saved.drop)

    def kept(self, partition: int) -> int:
        """See `Processor.kept`."""
        return self._lookbacks.kept(partition)

    def refer(self, versions: Mapping[str, Sequence[Version]]) -> None:
        """See `Processor.refer`."""
        self._inputs.references.refer(versions)

    def step(self, batches: Sequence[Batch]) -> Step:
        """See `Processor.step`. Counts: `processed`, `filtered`, `late` (always 0), `rejected`; notes: `clamped`,
        `results`."""
        if not batches:
            return Step()
        keys = Slots()
        slots = slots_of(batches, keys) if self.plan.lookbacks else None
        inputs = self._inputs.gather(batches, slots, self._events)
        if not len(inputs):
            return Step(counts={"processed": 0, "filtered": 0, "late": 0, "rejected": 0})
        inputs, saved = self._lookbacks.add(inputs, batches, keys)
        if self._parsing is not None:
            inputs = self._parsing.add(inputs, batches)
        answers = self._events.run(lambda statement, piece: self._answer(statement.run(piece), batches), inputs)
        outputs = result_events(self.plan, [placed for answer in answers for placed in answer.placed])
        processed = sum(answer.processed for answer in answers)
        refused = np.concatenate([answer.refused for answer in answers])
        counts = {
            "processed": processed,
            "filtered": len(inputs) - processed - len(refused),
            "late": 0,
            "rejected": len(refused),
        }
        notes = {
            "clamped": sum(answer.clamped for answer in answers),
            "results": outputs.num_rows if outputs is not None else 0,
        }
        return Step(
            outputs=outputs,
            rejected=rejected_events(batches, refused, self.plan.time),
            save=saved.save,
            drop=saved.drop,
            counts=counts,
            notes=notes,
            watermark=max((answer.newest for answer in answers if answer.newest is not None), default=None),
        )

    def _answer(self, found: pa.Table, batches: Sequence[Batch]) -> _Answer:
        valid = found.column("valid").to_numpy()
        refused: Ints = np.unique(found.column("row").to_numpy()[~valid])
        results = found.filter(pa.array(valid)) if len(refused) else found
        rows = results.column("row").to_numpy()
        firsts = np.ones(len(rows), np.bool_)  # with APPLY an event may have several
        firsts[1:] = rows[1:] != rows[:-1]
        return _Answer(
            self._placed(batches, results, rows),
            refused,
            int(firsts.sum()),
            int((results.column("clamped").to_numpy() & firsts).sum()),
            pc.max(results.column("time")).as_py(),
        )

    def _placed(self, batches: Sequence[Batch], results: pa.Table, rows: Ints) -> list[pa.Table]:
        """Results, which are in the order of their rows, with the key of their event, and an id from its place in the
        log."""
        placed = []
        start = 0
        for batch in batches:
            low, high = np.searchsorted(rows, (start, start + len(batch))).tolist()
            its = rows[low:high] - start
            start += len(batch)
            if low == high:
                continue
            events, first = batch.events.select(["key", "offset"]), int(its[0])
            if np.array_equal(its, np.arange(first, first + len(its))):
                events = events.slice(first, len(its))
            else:
                events = events.take(pa.array(its))
            found = results.slice(low, high - low)
            place = f"{self.plan.name}:{batch.stream}:{batch.partition}:"
            ids = pa.chunked_array([pc.binary_join_element_wise(place, events.column("offset").cast(pa.string()), "")])
            if self.plan.applies:
                ids = pc.binary_join_element_wise(ids, found.column("place"), ":")
            placed.append(pa.table({"key": events.column("key"), "id": ids, "data": found.column("data")}))
        return placed


def _text(plan: WindowPlan, data: str) -> str:
    return plain_text(plan, data, narrow=data in (HOPE, PARSED))
