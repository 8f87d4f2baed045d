"""What a client reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from millstream.errors import PayloadError
from millstream.event import Event
from millstream.event_json import NO_JSON, read_event_json
from millstream.log.contract import Position

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive events of a partition. `next_offset` is where to read on."""

    stream: str
    partition: int
    events: Sequence[Event]
    next_offset: int

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)


@dataclass(frozen=True, slots=True)
class Poll:
    """What has happened to a member of a group; see `millstream.log.contract.Poll`. `gained` and `expired` are by
    stream and partition, `pages` are its batches."""

    lost: frozenset[int]
    gained: Mapping[tuple[str, int], Position]
    expired: Mapping[tuple[str, int], int]
    pages: Sequence[Page]


class ShownPage(msgspec.Struct):
    """A page as the server writes it."""

    stream: str
    partition: int
    events: list[msgspec.Raw]
    next_offset: int

    def page(self) -> Page:
        """With its events."""
        events = [read_event_json(bytes(event)) for event in self.events]
        return Page(self.stream, self.partition, events, self.next_offset)


def decode(body: bytes, kind: type[T]) -> T:
    """An answer of the server. `PayloadError` if it is not what a server of Millstream says."""
    try:
        return msgspec.json.decode(body, type=kind)
    except NO_JSON as error:
        raise PayloadError(f"the answer is not Millstream's; is it the right address? {error}") from None
