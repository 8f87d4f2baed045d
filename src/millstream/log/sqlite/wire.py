"""What workers and the server say to each other about the log: msgpack over the bus.

Everything that waits is a *parked* request: the server answers it when there is something to tell, or when its time-out
has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import msgspec

from millstream.clock import Micros
from millstream.log.contract import Start, StreamSpec
from millstream.log.sqlite.changes import Changes
from millstream.log.sqlite.format import Body
from millstream.log.sqlite.place import Place

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode


class Commit(msgspec.Struct, array_like=True, frozen=True):
    """Commit changes; `shown` are events for the subscribers of the moment: one of the changes' appends by its place
    among these, or a body that is in none."""

    changes: Changes
    shown: list[int | Body]

    def shown_bodies(self, hears: Callable[[Collection[str]], bool]) -> Iterator[Body]:
        """What is shown, packed; without what nobody hears, as far as its topics are told."""
        for one in self.shown:
            if not isinstance(one, int):
                yield one
            elif (append := self.changes.appends[one]).topics is None or hears(append.topics):
                yield from append.bodies


class Streams(msgspec.Struct, array_like=True, frozen=True):
    """The streams there are, at a version of the catalog."""

    version: int
    specs: dict[str, StreamSpec]


class Join(msgspec.Struct, array_like=True, frozen=True):
    """Become a member of a group."""

    group: str
    streams: list[str]
    start: Start


class Joined(msgspec.Struct, array_like=True, frozen=True):
    """The new member's id, and the numbers of partitions of its streams."""

    member: int
    streams: dict[str, int]


class Beyond(msgspec.Struct, array_like=True, frozen=True):
    """Answer when there is a record at or after one of the offsets, or after `timeout` seconds."""

    offsets: list[tuple[str, int, int]]
    timeout: float | None

    @staticmethod
    def of(offsets: Mapping[Place, int], timeout: float | None) -> Beyond:
        return Beyond([(*place, offset) for place, offset in offsets.items()], timeout)

    @property
    def by_place(self) -> dict[Place, int]:
        return {(stream, partition): offset for stream, partition, offset in self.offsets}


class Watch(msgspec.Struct, array_like=True, frozen=True):
    """As `Beyond`, or when the member's ownership is no longer that of `version`. The answer is the ownership.
    `topics`: the filter for those that it wants only."""

    member: int
    version: int
    beyond: Beyond
    topics: str | None


class AskResume(msgspec.Struct, array_like=True, frozen=True):
    """Where does the group go on?"""

    group: str
    streams: list[str]
    numbers: list[int]


class Release(msgspec.Struct, array_like=True, frozen=True):
    """Give partition numbers up, each under the epoch of its grant."""

    member: int
    epochs: dict[int, int]


class Done(msgspec.Struct, array_like=True, frozen=True):
    """The outcome of a commit, and the version of the member's ownership after it."""

    time: Micros
    first_offsets: tuple[int, ...]
    version: int
