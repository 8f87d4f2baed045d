"""A query over windows whose groups do not lie within the stream's key, in two phases.

What belongs to a group comes from any partition of the source. So each partition folds its events into panes, and sends
them to the partition that the group belongs to, through a stream of the query's own (`parts.py`). There they are put
together. Both phases are steps of one processor, in one consumer group, over both streams: a step takes what has come
of either, and what it comes to is committed at once.

1. The first phase (`sources.py`) finds late events by the partition's own clock, and tells how far that has come.
2. The second one (`gathering.py`) closes windows that every partition has passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from millstream.engine.folding import Folding
from millstream.engine.gathering import Gathering
from millstream.engine.lookup import Version
from millstream.engine.parts import Parts
from millstream.engine.plan import WindowPlan
from millstream.engine.saved import Saved
from millstream.engine.sources import Sources
from millstream.engine.step import Dues, Rejected, Step
from millstream.event import Batch

_CLOCK = "clock"
"""The chunk with a partition's clock."""


class RegroupedQuery:
    """A processor that runs a plan which regroups. Large steps are decoded in `threads` (None: one for each usable
    core).

    A step changes the state at once. When its commit fails, `restore` brings back what is committed.
    """

    def __init__(self, plan: WindowPlan, *, threads: int | None = None) -> None:
        self.plan = plan
        self._folding = Folding(plan, threads)
        self._parts = Parts(plan, self._folding.duck, self._folding.merging, self._folding.fingerprint)
        self._folding.duck.lock()
        self._sources = Sources(plan, self._folding)
        self._gathering = Gathering(plan, self._folding)
        self._dues = Dues(plan.stream)

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """See `Processor.restore`. `QueryError`: the chunks were saved by another query of this name."""
        self._dues.forget(partition)
        self._sources.restore(partition, chunks.get(_CLOCK))
        others = {name: chunk for name, chunk in chunks.items() if name != _CLOCK}
        self._gathering.restore(partition, self._folding.lookbacks.restore(partition, others))

    def forget(self, partition: int) -> None:
        """See `Processor.forget`."""
        self._dues.forget(partition)
        self._sources.forget(partition)
        self._gathering.forget(partition)
        self._folding.lookbacks.forget(partition)

    def reset(self, partition: int, key: str) -> Step:
        """See `Processor.reset`: its windows are of many keys, and nothing is kept of one."""
        return Step()

    def kept(self, partition: int) -> int:
        """See `Processor.kept`."""
        return self._folding.lookbacks.kept(partition)

    def refer(self, versions: Mapping[str, Sequence[Version]]) -> None:
        """See `Processor.refer`."""
        self._folding.inputs.references.refer(versions)

    def step(self, batches: Sequence[Batch]) -> Step:
        """See `Processor.step`. Counts: `processed`, `filtered`, `late`, `rejected`, and `combined`: what came
        from other partitions; notes: `clamped`, `results`."""
        if not batches:
            return Step()
        source = [batch for batch in batches if batch.stream != self.plan.parts]
        told = [
            (batch.partition, panes, readings)
            for batch in batches
            if batch.stream == self.plan.parts
            for panes, readings in self._parts.read(batch)
        ]
        clocks = self._sources.clocks
        for partition, _, readings in told:
            for number, reading in readings.items():
                if number != partition:
                    clocks[partition].hear(reading)
        divided = self._sources.step(source)
        news = {batch.partition: clocks[batch.partition].news(self.plan) for batch in source}
        messages = self._parts.messages(divided.panes, {n: reading for n, reading in news.items() if reading})
        results, saved = self._gathering.step(told)
        touched = {batch.partition for batch in batches}
        for number in touched:
            clocks[number].forget(self.plan.grace)
        clock_chunks = Saved({number: {_CLOCK: self._sources.save(number)} for number in touched})
        saved = saved + divided.looked + clock_chunks
        return Step(
            outputs=_both(messages, results),
            late=divided.late,
            rejected=_of(divided.rejected, batches, source),
            save=saved.save,
            drop=saved.drop,
            due=self._dues.changed({number: clocks[number].due(self.plan) for number in touched}),
            counts={**divided.counts, "combined": len(told)},
            notes={"clamped": divided.clamped, "results": results.num_rows if results else 0},
            watermark=self._sources.newest,
        )


def _both(messages: pa.RecordBatch | None, results: pa.RecordBatch | None) -> pa.RecordBatch | None:
    some = [events for events in (messages, results) if events is not None]
    return pa.concat_batches(some) if some else None


def _of(rejected: Sequence[Rejected], batches: Sequence[Batch], source: Sequence[Batch]) -> list[Rejected]:
    """Places among the batches of the source as those among all."""
    numbers = [number for number, batch in enumerate(batches) if any(batch is one for one in source)]
    return [replace(one, batch=numbers[one.batch]) for one in rejected]
