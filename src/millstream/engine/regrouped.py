"""A query over windows whose groups do not lie within the stream's key, in two phases.

What belongs to a group comes from any partition of the source. So each partition folds its events into panes, and sends
them to the partition that the group belongs to, through a stream of the query's own (`parts.py`). There they are put
together. Both phases are steps of one processor, in one consumer group, over both streams: a step takes what has come
of either, and what it comes to is committed at once.

1. The first phase (`sources.py`) finds late events by the partition's own clock, and tells how far that has come.
2. The second one (`gathering.py`) closes windows that every partition has passed, and may tell before what they hold
   (`marked.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from millstream.clock import Micros
from millstream.engine.folding import Folding
from millstream.engine.gathering import Gathering
from millstream.engine.intervals import Piece, cut, joined
from millstream.engine.keys import NEVER
from millstream.engine.lookup import Version
from millstream.engine.marked import Marked
from millstream.engine.parsing import Parsing
from millstream.engine.parts import Message, Parts
from millstream.engine.plan import WindowPlan
from millstream.engine.scratch import Room
from millstream.engine.sources import Sources
from millstream.engine.step import Dues, Step
from millstream.event import Batch

_CLOCK = "clock"
"""The chunk with a partition's clock."""


class RegroupedQuery:
    """A processor that runs a plan which regroups. Large steps are decoded in `threads` (None: one for each usable
    core). `parsing` is what it shares with others. Rows that are kept of windows take `room` (None: in memory, as much
    as they need).

    A step changes the state at once. When its commit fails, `restore` brings back what is committed.
    """

    def __init__(
        self,
        plan: WindowPlan,
        *,
        threads: int | None = None,
        parsing: Parsing | None = None,
        room: Room | None = None,
    ) -> None:
        self.plan = plan
        self._folding = Folding(plan, threads, parsing)
        self._parts = Parts(plan, self._folding.duck, self._folding.merging, self._folding.fingerprint)
        self._marked = Marked(plan, self._folding.duck, self._parts, Gathering(plan, self._folding, room))
        self._folding.duck.lock()
        self._sources = Sources(plan, self._folding)
        self._dues = Dues(plan.stream)

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """See `Processor.restore`. `QueryError`: the chunks were saved by another query of this name."""
        self._dues.forget(partition)
        self._sources.restore(partition, chunks.get(_CLOCK))
        others = {name: chunk for name, chunk in chunks.items() if name != _CLOCK}
        self._marked.restore(partition, self._folding.lookbacks.restore(partition, others))

    def forget(self, partition: int) -> None:
        """See `Processor.forget`."""
        self._dues.forget(partition)
        self._sources.forget(partition)
        self._marked.forget(partition)
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
        from other partitions; notes: `clamped`, `results`, `early`."""
        if not batches:
            return Step()
        source = [Piece(n, 0, batch) for n, batch in enumerate(batches) if batch.stream != self.plan.parts]
        told = [one for batch in batches if batch.stream == self.plan.parts for one in self._parts.read(batch)]
        self._hear(told)
        events = [piece.batch for piece in source]
        divided = self._divide_by_marks(events) if self.plan.early else self._divide(events)
        gathered = self._marked.step(told)
        clocks = self._sources.clocks
        touched = {batch.partition for batch in batches}
        for number in touched:
            clocks[number].forget(self.plan.grace)
        moved = Step(save={number: {_CLOCK: self._sources.save(number)} for number in touched})
        step = joined([(divided, source), (gathered, ()), (moved, ())])
        return replace(
            step,
            due=self._dues.changed({number: clocks[number].due(self.plan) for number in touched}),
            counts={**step.counts, "combined": len(told)},
            watermark=self._sources.newest,
        )

    def _hear(self, told: Sequence[Message]) -> None:
        """What other partitions have told concerns the clocks of those that were told, too."""
        for message in told:
            clock = self._sources.clocks[message.partition]
            for number, reading in message.readings.items():
                if number != message.partition:
                    clock.hear(reading)
            clock.until = max([clock.until, *(passing.until for passing in message.passings)])

    def _divide_by_marks(self, source: Sequence[Batch]) -> Step:
        """What the events of the source bring, interval by interval."""
        early = self.plan.early
        now = {number: clock.since // early for number, clock in self._sources.clocks.items() if clock.since > NEVER}
        found = [
            (self._divide([piece.batch for piece in pieces], interval * early), pieces)
            for interval, pieces in cut(source, now, early)
        ]
        return joined(found or [(self._divide([]), ())])

    def _divide(self, source: Sequence[Batch], since: Micros | None = None) -> Step:
        """What events of the source bring: messages for whoever puts it together. With early results they are all of
        the interval that began at `since`."""
        clocks = {batch.partition: self._sources.clocks[batch.partition] for batch in source}
        before = {number: clock.passing(number, since or 0, self.plan) for number, clock in clocks.items()}
        divided = self._sources.step(source)
        news = {number: reading for number, clock in clocks.items() if (reading := clock.news(self.plan)) is not None}
        passings = []
        if since is not None:
            brought = set(np.unique(divided.panes.column("slot").to_numpy()).tolist())
            wanted = {number: since + self.plan.early if number in brought else since for number in {*brought, *news}}
            passings = [
                passing
                for number in clocks
                if (passing := clocks[number].enter(before[number], wanted.get(number, NEVER)))
            ]
        return Step(
            outputs=self._parts.messages(divided.panes, news, since, passings),
            late=divided.late,
            rejected=divided.rejected,
            save=divided.looked.save,
            drop=divided.looked.drop,
            counts=divided.counts,
            notes={"clamped": divided.clamped},
        )
