"""A query without windows: each event by itself, chosen and changed. There is no state, and no event is late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millstream.engine.duck import Duck, Source
from millstream.engine.inputs import Inputs
from millstream.engine.keys import Ints, Keys
from millstream.engine.outputs import result_events
from millstream.engine.plan import WindowPlan
from millstream.engine.rejection import rejected_events
from millstream.engine.scan import plain_text
from millstream.engine.step import Step
from millstream.errors import QueryError
from millstream.event import Batch

_CAREFUL_STEPS = 64  # see `decode.py`


class PlainQuery:
    """A processor that runs a plan without windows."""

    def __init__(self, plan: WindowPlan) -> None:
        self.plan = plan
        self._inputs = Inputs(plan)
        duck = Duck()
        self._source = Source(self._inputs.schema)
        self._hopeful = duck.statement(plain_text(plan, '"#data"'), self._source)
        careful = plain_text(plan, 'CASE WHEN json_valid("#data") THEN "#data" END')
        self._careful = duck.statement(careful, self._source)
        self._careful_steps = 0
        duck.lock()

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """See `Processor.restore`. `QueryError`: the chunks were saved by another query of this name."""
        if chunks:
            raise QueryError(
                f"the saved state of query {self.plan.name!r} (partition {partition}) was made with windows; give the "
                "changed query a new name, and it starts afresh"
            )

    def forget(self, partition: int) -> None:
        """See `Processor.forget`."""

    def step(self, batches: Sequence[Batch]) -> Step:
        """See `Processor.step`. Counts: `processed`, `filtered`, `late` (always 0), `rejected`; notes: `clamped`,
        `results`."""
        if not batches:
            return Step()
        inputs = self._inputs.gather(batches, Keys())
        found = self._run(inputs) if len(inputs) else None
        if found is None:
            return Step(counts={"processed": 0, "filtered": 0, "late": 0, "rejected": 0})
        valid = found.column("valid").to_numpy()
        rows = found.column("row").to_numpy()
        refused: Ints = np.sort(rows[~valid])
        results = found.filter(pa.array(valid))
        outputs = result_events(self.plan, [self._placed(batches, results)])
        counts = {
            "processed": len(results),
            "filtered": len(inputs) - len(found),
            "late": 0,
            "rejected": len(refused),
        }
        notes = {"clamped": int(pc.sum(results.column("clamped")).as_py() or 0), "results": len(results)}
        return Step(
            outputs=outputs,
            rejected=rejected_events(batches, refused, self.plan.time),
            counts=counts,
            notes=notes,
            watermark=pc.max(results.column("time")).as_py(),
        )

    def _run(self, inputs: pa.Table) -> pa.Table:
        self._source.table = inputs
        if self._careful_steps:
            self._careful_steps -= 1
        else:
            try:
                return self._hopeful.run()
            except (duckdb.Error, UnicodeDecodeError):
                self._careful_steps = _CAREFUL_STEPS
        return self._careful.run()

    def _placed(self, batches: Sequence[Batch], results: pa.Table) -> pa.Table:
        """Results with the key of their event, and an id from its place in the log."""
        rows = pa.array(results.column("row").to_numpy())
        keys = pa.chunked_array([batch.events.column("key") for batch in batches], pa.string()).take(rows)
        places = [f"{self.plan.name}:{batch.stream}:{batch.partition}:" for batch in batches]
        ids = [
            pc.binary_join_element_wise(place, batch.events.column("offset").cast(pa.string()), "")
            for place, batch in zip(places, batches, strict=True)
        ]
        return pa.table(
            {"key": keys, "id": pa.chunked_array(ids, pa.string()).take(rows), "data": results.column("data")}
        )
