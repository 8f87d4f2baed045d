"""Early results of groups that come from all partitions of a stream.

As those of a key (`early.py`), they are told at *marks*, the multiples of an interval of the log's time, and hold all
that came before the mark, in whichever partition; and they are of the groups of which something came in the interval
before it. So whatever partitions tell each other (`parts.py`) says of which interval it is, and is put together
interval by interval: what is of a later one waits until all partitions have passed the mark before it. Where no event
comes that takes a tick. So a partition that tells something also says up to which mark the others are to go, and they
ask for one.

A window is open at a mark if there is a partition that had not passed its end, by what had come before the mark and by
the silence since. One that has been silent for long does not count: it follows the others, whenever a tick lets it. So
which early results there are, and what they hold, follows from the order of the source alone: not from how far which
partition is read, or when what they tell arrives. None of the panes that this takes is gone by then, because what
closes windows waits as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine import chunks
from millstream.engine.duck import Duck, Source
from millstream.engine.gathering import Gathering
from millstream.engine.intervals import joined
from millstream.engine.keys import NEVER
from millstream.engine.partition_clock import Passing
from millstream.engine.parts import Message, Parts
from millstream.engine.plan import WindowPlan
from millstream.engine.step import Step

PREFIX = "marks-"
"""Of the names of chunks: how far the partitions are, and behind it the messages that are kept, as they came."""

_ROW = pa.field("row", pa.int64())


@dataclass(slots=True)
class _Kept:
    """What is kept for a partition. What is of the interval that began at `now`, and of those before it, is put
    together; `reached` are the intervals that the partitions of the source are in. `came` are the messages of `now` and
    later, and `saved` the names of the chunks of those that are saved, by their places."""

    now: Micros
    reached: list[Micros]
    came: list[Message] = field(default_factory=list)
    saved: dict[int, list[str]] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """A message has come."""
        self.came.append(message)
        for passing in message.passings:
            self.reached[passing.source] = max(self.reached[passing.source], passing.since)

    @property
    def goes_on(self) -> bool:
        """Whether all partitions have passed the interval."""
        return min(self.reached) > self.now

    @property
    def following(self) -> Micros:
        """The next interval of which there is something."""
        return min([min(self.reached), *(message.since for message in self.came if message.since > self.now)])

    def go_on(self) -> list[Message]:
        """Come to the next interval, and forget what was before. Gives what is to be put together."""
        following = self.following
        self.came = [message for message in self.came if message.since > self.now]
        self.now = following
        return [message for message in self.came if message.since == self.now]

    def passed(self, mark: Micros, plan: WindowPlan) -> Micros:
        """Windows that end by then are closed at the mark behind the interval, or about to be."""
        first: dict[int, Passing] = {}
        for message in self.came:
            for passing in message.passings:
                if passing.since > self.now:
                    first.setdefault(passing.source, passing)
        alone = [its.passed(mark, plan) for its in first.values() if its.counts(mark, plan)]
        return min(alone) if alone else max((its.passed(mark, plan) for its in first.values()), default=NEVER)


class Marked:
    """Puts together what partitions are told, mark by mark, and tells what windows hold at each. Without early results
    it puts everything together as it comes."""

    def __init__(self, plan: WindowPlan, duck: Duck, parts: Parts, gathering: Gathering) -> None:
        self._plan = plan
        self._parts = parts
        self._gathering = gathering
        self._kept: dict[int, _Kept] = {}
        self._groups = [name for name in parts.pane_schema.names if name.startswith("g")]
        fields = [parts.pane_schema.field(name) for name in self._groups]
        self._known, self._came = Source(pa.schema([*fields, _ROW])), Source(pa.schema(fields))
        same = " AND ".join(f"source.{name} IS NOT DISTINCT FROM beside.{name}" for name in self._groups)
        text = f"SELECT row FROM source SEMI JOIN beside ON {same or 'true'}"  # noqa: S608
        self._among = duck.statement(text, self._known, self._came) if self._groups else None

    def restore(self, partition: int, saved: Mapping[str, bytes]) -> None:
        """Take a partition on with the chunks that were saved for it. `QueryError`: they are of another query."""
        others = {name: chunk for name, chunk in saved.items() if not name.startswith(PREFIX)}
        self._gathering.restore(partition, others)
        mine = {name.removeprefix(PREFIX): chunk for name, chunk in saved.items() if name.startswith(PREFIX)}
        now, reached = NEVER, [NEVER] * self._plan.sources
        if "" in mine:
            now, reached = msgspec.msgpack.decode(mine.pop(""), type=tuple[Micros, list[Micros]])
        came = [self._parts.message(partition, place, blob) for place, blob in chunks.blobs(mine)]
        names = {its.place: [PREFIX + name for name in chunks.cut(its.place, its.blob)] for its in came}
        self._kept[partition] = _Kept(now, reached, came, names)

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        self._gathering.forget(partition)
        self._kept.pop(partition, None)

    def step(self, told: Sequence[Message]) -> Step:
        """Put together what partitions were told, in the order of the log. Gives the results of windows that closed,
        and the early ones of marks that all have passed. Notes: `results`, `early`."""
        if not self._plan.early:
            return self._gathering.step(told)
        kept = {message.partition: self._kept[message.partition] for message in told}
        before = {number: (its.now, list(its.reached)) for number, its in kept.items()}
        steps = [self._gathering.step(self._ready(told, kept))]
        while going := [number for number, its in kept.items() if its.goes_on]:
            marks = {number: (kept[number].now // self._plan.early + 1) * self._plan.early for number in going}
            steps += [self._tell(number, kept[number], mark) for number, mark in marks.items()]
            ready = [message for number in going for message in kept[number].go_on()]
            steps.append(self._gathering.step(ready))
        saving = [self._save(number, its, before[number]) for number, its in kept.items()]
        return joined([(step, ()) for step in (*steps, *saving)])

    def _ready(self, told: Sequence[Message], kept: Mapping[int, _Kept]) -> list[Message]:
        """What of messages that came is to be put together now."""
        ready = []
        for message in told:
            its = kept[message.partition]
            its.take(message)
            if message.since <= its.now:
                ready.append(message)
        return ready

    def _tell(self, partition: int, kept: _Kept, mark: Micros) -> Step:
        """The early results of the mark behind the present interval."""
        panes = [message.panes for message in kept.came if message.since <= kept.now and len(message.panes)]
        if not panes:
            return Step()
        came = pa.concat_tables(panes).select(self._groups)
        passed = kept.passed(mark, self._plan)
        outputs = self._gathering.early(partition, lambda known: self._of_groups(known, came), mark, passed)
        return Step(outputs=outputs, notes={"early": outputs.num_rows if outputs else 0})

    def _of_groups(self, panes: pa.Table, came: pa.Table) -> pa.Table:
        """Those of panes whose groups have come."""
        if self._among is None or not len(panes):
            return panes
        self._known.table = panes.select(self._groups).append_column(_ROW, pa.array(np.arange(len(panes))))
        self._came.table = came
        return panes.take(pa.array(np.sort(self._among.run().column("row").to_numpy())))

    def _save(self, partition: int, kept: _Kept, before: tuple[Micros, list[Micros]]) -> Step:
        """What changed of what is kept."""
        save: dict[str, bytes] = {}
        if (kept.now, kept.reached) != before:
            save[PREFIX] = msgspec.msgpack.encode((kept.now, kept.reached))
        stays = {message.place for message in kept.came}
        drop = [name for place in kept.saved.keys() - stays for name in kept.saved.pop(place)]
        for message in kept.came:
            if message.place not in kept.saved:
                pieces = {PREFIX + name: chunk for name, chunk in chunks.cut(message.place, message.blob).items()}
                kept.saved[message.place] = list(pieces)
                save |= pieces
        return Step(save={partition: save} if save else {}, drop={partition: drop} if drop else {})
