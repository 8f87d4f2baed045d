"""Gathering a transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import pyarrow as pa

from millstream.clock import Micros
from millstream.errors import LogError
from millstream.event import EVENT_SCHEMA
from millstream.log.contract import MAX_CHUNK_BYTES, Committed, Position
from millstream.log.sqlite.changes import Append, Changes
from millstream.log.sqlite.format import pack

OWN = "$"
"""Names of counts that begin so are the log's own."""

APPENDED, PASSED = "$appended:", "$passed:"
"""Before a stream's name: events that the group's transactions have appended to it, and events that it had read of
streams of that name that are dropped."""

_REQUIRED = [number for number, field in enumerate(EVENT_SCHEMA) if not field.nullable]


class Draft:
    """A transaction until it is committed; see `millstream.log.contract.Transaction`.

    Packing the events is most of the work of a commit: `changes` is called by whoever has a thread for it."""

    def __init__(
        self,
        submit: Callable[[Draft], Awaitable[Committed]],
        group: str = "",
        member: int = 0,
        epochs: Mapping[int, int] | None = None,
    ) -> None:
        self.group = group
        self.member = member
        self.epochs = epochs or {}
        self._submit = submit
        self._appends: list[tuple[str, int, pa.RecordBatch]] = []
        self._states: dict[tuple[int, str], bytes | None] = {}
        self._positions: dict[tuple[str, int], Position] = {}
        self._dues: dict[tuple[str, int], Micros | None] = {}
        self._counts: dict[str, int] = {}
        self.shown: list[pa.RecordBatch] = []
        self._committed = False

    def append(self, stream: str, partition: int, events: pa.RecordBatch) -> None:
        """See the contract. `ValueError` for columns other than those of `EVENT_SCHEMA`."""
        if not events.schema.equals(EVENT_SCHEMA):
            raise ValueError(f"events must have the columns of EVENT_SCHEMA, and have {events.schema}")
        for number in _REQUIRED:
            if events.column(number).null_count:
                raise ValueError(f"every event must have a {EVENT_SCHEMA.field(number).name}")
        self._appends.append((stream, partition, events))

    def save(self, partition: int, name: str, chunk: bytes) -> None:
        """See the contract. `ValueError` for a chunk of more than `MAX_CHUNK_BYTES`."""
        self._need_group()
        if len(chunk) > MAX_CHUNK_BYTES:
            raise ValueError(f"the state chunk {name!r} has {len(chunk)} bytes; split it: at most {MAX_CHUNK_BYTES}")
        self._states[partition, name] = bytes(chunk)

    def drop(self, partition: int, name: str) -> None:
        """See the contract."""
        self._need_group()
        self._states[partition, name] = None

    def position(self, stream: str, partition: int, position: Position) -> None:
        """See the contract."""
        self._need_group()
        self._positions[stream, partition] = position

    def due(self, stream: str, partition: int, at: Micros | None) -> None:
        """See the contract."""
        self._need_group()
        self._dues[stream, partition] = at

    def count(self, name: str, n: int) -> None:
        """See the contract."""
        if name.startswith(OWN):
            raise ValueError(f"{name!r} is no name for a count: those that begin with {OWN} are the log's own")
        self._counts[name] = self._counts.get(name, 0) + n

    def show(self, events: pa.RecordBatch) -> None:
        """See the contract."""
        self.shown.append(events)

    async def commit(self) -> Committed:
        """See the contract. A transaction is committed once: afterwards it is a `LogError`."""
        if self._committed:
            raise LogError("the transaction is committed; begin another one")
        committed = await self._submit(self)
        self._committed = True
        return committed

    @property
    def owned(self) -> set[int]:
        """The partition numbers that the member must own."""
        numbers = {number for number, _ in self._states}
        numbers.update(number for _, number in self._positions)
        numbers.update(number for _, number in self._dues)
        return numbers

    @property
    def size(self) -> int:
        """About how many bytes of events there are to pack. Those of several partitions are mostly slices of one batch,
        which each count as the whole."""
        return max((events.get_total_buffer_size() for _, _, events in self._appends), default=0)

    def changes(self) -> Changes:
        """What is to be changed, with the events packed."""
        counts = Counter(self._counts)
        for stream, _, events in self._appends:
            counts[APPENDED + stream] += events.num_rows
        return Changes(
            self.group,
            self.member,
            dict(self.epochs),
            [Append(stream, partition, pack(events)) for stream, partition, events in self._appends],
            [(number, name, data) for (number, name), data in self._states.items()],
            [(*place, position.low, position.done) for place, position in self._positions.items()],
            [(*place, at) for place, at in self._dues.items()],
            dict(counts),
        )

    def _need_group(self) -> None:
        if not self.group:
            raise LogError("only a group's transaction has state and positions; begin it with Group.transaction()")
