"""A query without windows: each event by itself, chosen and changed. There is no state but what `LAG` and the like look
back to, and no event is late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millstream.engine.careful import Careful
from millstream.engine.duck import Duck, Source
from millstream.engine.inputs import Inputs
from millstream.engine.keys import Ints, Slots
from millstream.engine.lookback import Lookbacks
from millstream.engine.lookup import Version
from millstream.engine.outputs import result_events
from millstream.engine.pieces import Pieces
from millstream.engine.plan import WindowPlan
from millstream.engine.rejection import rejected_events
from millstream.engine.scan import plain_text
from millstream.engine.step import Step
from millstream.errors import QueryError
from millstream.event import Batch


class PlainQuery:
    """A processor that runs a plan without windows. Large steps are decoded in `threads` (None: one for each usable
    core)."""

    def __init__(self, plan: WindowPlan, *, threads: int | None = None) -> None:
        self.plan = plan
        self._inputs = Inputs(plan)
        duck = Duck()
        self._lookbacks = Lookbacks(duck, plan, self._inputs)
        self._events = Pieces(self._statement(duck), lambda: self._statement(Duck()), threads)

    def _statement(self, duck: Duck) -> Careful:
        source, lookups = Source(self._lookbacks.schema), self._inputs.references.source
        statement = Careful(duck, lambda data: plain_text(self.plan, data), source, lookups)
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
        inputs = self._inputs.gather(batches, keys)
        if not len(inputs):
            return Step(counts={"processed": 0, "filtered": 0, "late": 0, "rejected": 0})
        inputs, saved = self._lookbacks.add(inputs, batches, keys)
        found = pa.concat_tables(self._events.run(Careful.run, inputs))
        valid = found.column("valid").to_numpy()
        rows = found.column("row").to_numpy()
        refused: Ints = np.unique(rows[~valid])
        results = found.filter(pa.array(valid))
        _, firsts = np.unique(rows[valid], return_index=True)  # with APPLY an event may have several
        processed = len(firsts)
        outputs = result_events(self.plan, [self._placed(batches, results)])
        counts = {
            "processed": processed,
            "filtered": len(inputs) - processed - len(refused),
            "late": 0,
            "rejected": len(refused),
        }
        notes = {"clamped": int(results.column("clamped").to_numpy()[firsts].sum()), "results": len(results)}
        return Step(
            outputs=outputs,
            rejected=rejected_events(batches, refused, self.plan.time),
            save=saved.save,
            drop=saved.drop,
            counts=counts,
            notes=notes,
            watermark=pc.max(results.column("time")).as_py(),
        )

    def _placed(self, batches: Sequence[Batch], results: pa.Table) -> pa.Table:
        """Results with the key of their event, and an id from its place in the log."""
        rows = pa.array(results.column("row").to_numpy())
        keys = pa.chunked_array([batch.events.column("key") for batch in batches], pa.string()).take(rows)
        places = [f"{self.plan.name}:{batch.stream}:{batch.partition}:" for batch in batches]
        ids = [
            pc.binary_join_element_wise(place, batch.events.column("offset").cast(pa.string()), "")
            for place, batch in zip(places, batches, strict=True)
        ]
        of_row = pa.chunked_array(ids, pa.string()).take(rows)
        if self.plan.applies:
            of_row = pc.binary_join_element_wise(of_row, results.column("place"), ":")
        return pa.table({"key": keys, "id": of_row, "data": results.column("data")})
