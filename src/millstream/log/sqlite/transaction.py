"""A transaction, to be packed as the file holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from millstream.event import EVENT_SCHEMA
from millstream.log.contract import Committed
from millstream.log.draft import Draft
from millstream.log.sqlite.changes import Append, Changes
from millstream.log.sqlite.format import Body, pack

APPENDED, PASSED = "$appended:", "$passed:"
"""Before a stream's name: events that the group's transactions have appended to it, and events that it had read of
streams of that name that are dropped."""

_TOPIC = EVENT_SCHEMA.get_field_index("topic")
_FEW = (
    64  # events, whose topics are told beside them; of more only if they have one: to tell all costs more than it saves
)


class SqliteDraft(Draft):
    """A transaction of a group's member, or of nobody's.

    Packing the events is most of the work of a commit: `changes` is called by whoever has a thread for it."""

    def __init__(
        self,
        submit: Callable[[Self], Awaitable[Committed]],
        group: str = "",
        member: int = 0,
        epochs: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(submit, group, epochs)
        self.member = member

    @property
    def size(self) -> int:
        """About how many bytes of events there are to pack. Those of several partitions are mostly slices of one batch,
        which each count as the whole."""
        return max((events.get_total_buffer_size() for _, _, events in self.appends), default=0)

    def changes(self) -> Changes:
        """What is to be changed, with the events packed."""
        counts = Counter(self.counts)
        packed: dict[int, tuple[list[Body], set[str] | None]] = {}  # the same events go to several streams
        for stream, _, events in self.appends:
            counts[APPENDED + stream] += events.num_rows
            if id(events) not in packed:
                packed[id(events)] = pack(events), _topics(events)
        return Changes(
            self.group,
            self.member,
            dict(self.epochs),
            [Append(stream, partition, *packed[id(events)]) for stream, partition, events in self.appends],
            [(number, name, data) for (number, name), data in self.states.items()],
            [(*place, position.low, position.done) for place, position in self.positions.items()],
            [(*place, at) for place, at in self.dues.items()],
            dict(counts),
        )


def _topics(events: pa.RecordBatch) -> set[str] | None:
    topics = events.column(_TOPIC)
    if len(topics) <= _FEW:
        return set(topics.to_pylist())
    first = topics[0]
    return {first.as_py()} if topics[-1] == first and pc.all(pc.equal(topics, first)).as_py() else None
