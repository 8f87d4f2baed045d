"""Gathers what a handler has completed while the last commit runs, and commits it as one.

A transaction holds the positions of the partitions where something was completed, what the handler published for
those events, what it keeps of their keys, their dead letters, and the counts. The counts balance: every event that the
group's positions have passed is `processed`, `dead-lettered`, `skipped` (its topic is not the handler's) or `expired`
(retention took it unread).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from millstream.event import Event, to_columns
from millstream.ledger.names import WOKEN
from millstream.log import Position
from millstream.worker.alarms import Alarms
from millstream.worker.context import Context, Outputs
from millstream.worker.membership import Membership
from millstream.worker.progress import Progress
from millstream.worker.segment import Item, Segment
from millstream.worker.states import States

_WINDOW_BYTES = 32 << 20  # events under way, in memory
_WINDOW_EVENTS = 65_536  # between the low-water offsets and what was read last: a position lists those completed
_OUTPUT_BYTES = 8 << 20  # outputs that wait for a commit
_SKIP_SECONDS = 1.0  # until a position is committed that only passes events of other topics: they need no hurry


@dataclass(slots=True)
class _Pending:
    """What the next commit will hold."""

    partitions: set[int] = field(default_factory=set)
    states: dict[tuple[int, str], bytes | None] = field(default_factory=dict)
    outputs: list[Event] = field(default_factory=list)
    output_bytes: int = 0
    dead_letters: list[Event] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Committer:
    """The progress of a handler in its partitions, and what of it is not committed yet.

    `committed` is called when everything that was completed is committed, even where that was nothing."""

    def __init__(
        self,
        context: Context,
        stream: str,
        membership: Membership,
        alarms: Alarms,
        states: States | None,
        committed: Callable[[], None],
    ) -> None:
        self._context = context
        self._stream = stream
        self._membership = membership
        self._alarms = alarms
        self._states = states
        self._committed = committed
        self._progress: dict[int, Progress] = {}
        self._pending = _Pending()
        self._wanted = asyncio.Event()
        self._skip_alarm = False
        self._one_at_a_time = asyncio.Lock()

    @property
    def is_full(self) -> bool:
        """So much is under way that nothing more should be read."""
        under_way = sum(progress.under_way for progress in self._progress.values())
        size = sum(progress.size for progress in self._progress.values())
        return size >= _WINDOW_BYTES or under_way >= _WINDOW_EVENTS

    @property
    def is_committing(self) -> bool:
        """Whether a commit is under way."""
        return self._one_at_a_time.locked()

    @property
    def has_room_for_outputs(self) -> bool:
        """Whether more may be called before the next commit."""
        return self._pending.output_bytes < _OUTPUT_BYTES

    def gain(self, partition: int, position: Position) -> None:
        """The partition is ours, from this position on."""
        self._progress[partition] = Progress(position)
        if self._states is not None and self._states.wants_ticks(partition):
            self._pending.partitions.add(partition)
            self._wanted.set()

    def expire(self, partition: int, events: int) -> None:
        """Retention took events before what will be read next: they count when the position passes them."""
        self._progress[partition].expire(events)

    def read(self, segment: Segment) -> None:
        """A batch was read."""
        self._progress[segment.partition].add(segment)
        if not len(segment) or segment.gap:
            self._pass_by(segment.partition)

    def complete(self, items: Iterable[Item], name: str) -> None:
        """Events are completed, perhaps none; `name` is what they count as."""
        count = woken = 0
        partitions = self._pending.partitions
        for item in items:
            segment, index = item
            segment.complete(index)
            partitions.add(segment.partition)
            if self._states is not None:
                self._states.completed(item, self._pending.states)
                woken += segment.is_wake
            count += 1
        self.count(name, count - woken)
        if woken:
            self.count(WOKEN, woken)

    def publish(self, events: list[Event]) -> None:
        """Publish events with the next commit."""
        self._pending.outputs += events
        self._pending.output_bytes += sum(len(event.payload) for event in events) + 200 * len(events)

    def give_up(self, item: Item) -> None:
        """A key could not be woken."""
        assert self._states is not None
        self._states.give_up(item)

    def bury(self, event: Event) -> None:
        """Keep a dead letter with the next commit."""
        self._pending.dead_letters.append(event)

    def count(self, name: str, n: int) -> None:
        self._pending.counts[name] += n
        self._wanted.set()

    def close(self, partitions: Iterable[int]) -> None:
        """Somebody else waits for the partitions. Those that are completed until `drop` still count."""
        for partition in partitions:
            self._progress[partition].close()
            if self._states is not None:
                self._states.close(partition)

    def drop(self, partitions: Iterable[int]) -> None:
        """The partitions are somebody else's."""
        for partition in partitions:
            self._progress.pop(partition).drop()
            self._pending.partitions.discard(partition)
            if self._states is not None:
                self._states.drop(partition)
        states = self._pending.states
        self._pending.states = {place: saved for place, saved in states.items() if place[0] in self._progress}

    def forget(self) -> None:
        """Nothing that is not committed will be."""
        self.drop(list(self._progress))
        self._pending = _Pending()
        self._wanted.clear()
        self._skip_alarm = False

    async def run(self) -> None:
        """Commit whenever something was completed, for ever."""
        while True:
            await self._wanted.wait()
            await self.flush()

    async def flush(self) -> None:
        """Return when everything that was completed until now is committed."""
        async with self._one_at_a_time:
            self._wanted.clear()
            pending, self._pending = self._pending, _Pending()
            await self._commit(pending)
        self._membership.works()
        self._committed()

    async def _commit(self, pending: _Pending) -> None:
        events = pending.counts.total()
        if not pending.partitions and not events:
            return
        transaction = self._membership.group.transaction()
        for partition in pending.partitions:
            progress = self._progress[partition]
            transaction.position(self._stream, partition, progress.position())
            pending.counts["skipped"] += progress.take_skipped()
            pending.counts["expired"] += progress.take_expired()
        for (partition, chunk), saved in pending.states.items():
            if saved is None:
                transaction.drop(partition, chunk)
            else:
                transaction.save(partition, chunk, saved)
        if self._states is not None:
            for partition, at in self._states.dues(pending.partitions).items():
                transaction.due(self._stream, partition, at)
        outputs = Outputs([to_columns(pending.outputs)] if pending.outputs else [], pending.dead_letters)
        self._context.append(transaction, outputs)
        for name, n in pending.counts.items():
            if n:
                transaction.count(name, n)
        await self._context.commit(transaction, self._membership.name, events)

    def _pass_by(self, partition: int) -> None:
        """Nothing of a batch is the handler's, or events before it are gone. The position is committed with the next
        event that is the handler's, or soon."""
        self._pending.partitions.add(partition)
        if not self._skip_alarm:
            self._skip_alarm = True
            self._alarms.after(_SKIP_SECONDS, self._skip_now)

    def _skip_now(self) -> None:
        self._skip_alarm = False
        self._wanted.set()
