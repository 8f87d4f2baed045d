"""Gathering a transaction, for any backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pyarrow as pa

from millstream.clock import Micros
from millstream.errors import LogError
from millstream.event import EVENT_SCHEMA
from millstream.log.contract import MAX_CHUNK_BYTES, Committed, Position

OWN = "$"
"""Names of counts that begin so are the log's own."""

_REQUIRED = [number for number, field in enumerate(EVENT_SCHEMA) if not field.nullable]


class Draft:
    """What a transaction is to change, until `submit` commits it; see `millstream.log.contract.Transaction`.

    `epochs` are the grants under which its member owned its partitions when it began."""

    def __init__(
        self,
        submit: Callable[[Any], Awaitable[Committed]],
        group: str = "",
        epochs: Mapping[int, int] | None = None,
    ) -> None:
        self.group = group
        self.epochs = epochs or {}
        self._submit = submit
        self.appends: list[tuple[str, int, pa.RecordBatch]] = []
        self.states: dict[tuple[int, str], bytes | None] = {}
        self.positions: dict[tuple[str, int], Position] = {}
        self.dues: dict[tuple[str, int], Micros | None] = {}
        self.counts: dict[str, int] = {}
        self.shown: list[pa.RecordBatch] = []
        self._committed = False

    def append(self, stream: str, partition: int, events: pa.RecordBatch) -> None:
        """See the contract. `ValueError` for columns other than those of `EVENT_SCHEMA`."""
        if not events.schema.equals(EVENT_SCHEMA):
            raise ValueError(f"events must have the columns of EVENT_SCHEMA, and have {events.schema}")
        for number in _REQUIRED:
            if events.column(number).null_count:
                raise ValueError(f"every event must have a {EVENT_SCHEMA.field(number).name}")
        self.appends.append((stream, partition, events))

    def save(self, partition: int, name: str, chunk: bytes) -> None:
        """See the contract. `ValueError` for a chunk of more than `MAX_CHUNK_BYTES`."""
        self._need_group()
        if len(chunk) > MAX_CHUNK_BYTES:
            raise ValueError(f"the state chunk {name!r} has {len(chunk)} bytes; split it: at most {MAX_CHUNK_BYTES}")
        self.states[partition, name] = bytes(chunk)

    def drop(self, partition: int, name: str) -> None:
        """See the contract."""
        self._need_group()
        self.states[partition, name] = None

    def position(self, stream: str, partition: int, position: Position) -> None:
        """See the contract."""
        self._need_group()
        self.positions[stream, partition] = position

    def due(self, stream: str, partition: int, at: Micros | None) -> None:
        """See the contract."""
        self._need_group()
        self.dues[stream, partition] = at

    def count(self, name: str, n: int) -> None:
        """See the contract."""
        if name.startswith(OWN):
            raise ValueError(f"{name!r} is no name for a count: those that begin with {OWN} are the log's own")
        self.counts[name] = self.counts.get(name, 0) + n

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
        numbers = {number for number, _ in self.states}
        numbers.update(number for _, number in self.positions)
        numbers.update(number for _, number in self.dues)
        return numbers

    def _need_group(self) -> None:
        if not self.group:
            raise LogError("only a group's transaction has state and positions; begin it with Group.transaction()")
