"""A query that regroups, run by itself: what its partitions tell each other goes round in memory, and not through the
log. For whatever runs beside a live query: backtests, and the windows that are open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from millstream.engine.lookup import Version
from millstream.engine.plan import WindowPlan
from millstream.engine.regrouped import RegroupedQuery
from millstream.engine.step import Step
from millstream.event import Batch, placed
from millstream.log.partition import partition_of


class LoopedQuery:
    """A processor that runs a plan which regroups, over its source alone. It has all partitions."""

    def __init__(self, plan: WindowPlan) -> None:
        self.plan = plan
        self._query = RegroupedQuery(plan)

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """See `Processor.restore`. `QueryError`: the chunks were saved by another query of this name."""
        self._query.restore(partition, chunks)

    def forget(self, partition: int) -> None:
        """See `Processor.forget`."""
        self._query.forget(partition)

    def reset(self, partition: int, key: str) -> Step:
        """See `Processor.reset`: its windows are of many keys, and nothing is kept of one."""
        return Step()

    def kept(self, partition: int) -> int:
        """See `Processor.kept`."""
        return self._query.kept(partition)

    def refer(self, versions: Mapping[str, Sequence[Version]]) -> None:
        """See `Processor.refer`."""
        self._query.refer(versions)

    def step(self, batches: Sequence[Batch]) -> Step:
        """See `Processor.step`. The results are those of the windows that closed by it, on the way round, too. State is
        not to be saved: what goes round is in no partition's."""
        step = self._query.step(batches)
        if step.outputs is None:
            return step
        told = self._query.step(self._round(step.outputs))
        return replace(step, outputs=told.outputs, notes={**step.notes, **told.notes}, save={}, drop={})

    def _round(self, messages: pa.RecordBatch) -> list[Batch]:
        """Messages as they are read."""
        keys = messages.column("key").to_pylist()
        number = np.array([partition_of(key, self.plan.sources) for key in keys])
        return [self._batch(partition, messages, number) for partition in np.unique(number).tolist()]

    def _batch(self, partition: int, messages: pa.RecordBatch, number: np.ndarray) -> Batch:
        mine = messages.filter(pa.array(number == partition))
        count = mine.num_rows
        return Batch(self.plan.parts, partition, placed(mine, range(count), [0] * count), count)
