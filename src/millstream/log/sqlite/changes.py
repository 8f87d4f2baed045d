"""What a transaction changes, as the writer takes it: from this process or, as msgpack, from another one."""

from __future__ import annotations

import msgspec

from millstream.clock import Micros
from millstream.log.sqlite.format import Body


class Append(msgspec.Struct, array_like=True, frozen=True):
    """Events for a partition, packed as the bodies of one or more chunks, and the topics they are on, if they are few
    (None: they were not looked at)."""

    stream: str
    partition: int
    bodies: list[Body]
    topics: set[str] | None = None


class Changes(msgspec.Struct, array_like=True, frozen=True):
    """All that one transaction changes. `group` is empty for none. `epochs` are those in which the member owned its
    partition numbers when it began the transaction."""

    group: str = ""
    member: int = 0
    epochs: dict[int, int] = {}
    appends: list[Append] = []
    states: list[tuple[int, str, bytes | None]] = []
    positions: list[tuple[str, int, int, tuple[int, ...]]] = []
    dues: list[tuple[str, int, Micros | None]] = []
    counts: dict[str, int] = {}

    @property
    def owned(self) -> set[int]:
        """The partition numbers that the member must own."""
        numbers = {number for number, _, _ in self.states}
        numbers.update(number for _, number, _, _ in self.positions)
        numbers.update(number for _, number, _ in self.dues)
        return numbers
