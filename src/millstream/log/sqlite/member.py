"""A member of a consumer group; the same code in the server and in a worker process.

What differs is the *link* to the log: direct calls there, requests over the bus here. The member keeps a cursor for
each partition it owns, and learns about its ownership by comparing what the coordinator tells with what it knew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from millstream.clock import Clock
from millstream.errors import LogError
from millstream.log.contract import Committed, Poll, Position
from millstream.log.sqlite.coordinator import Ownership
from millstream.log.sqlite.place import Cursor, Place, Resume
from millstream.log.sqlite.scan import Piece
from millstream.log.sqlite.transaction import SqliteDraft
from millstream.topic import Filter

Resumes = dict[int, dict[str, Resume]]
"""By partition number and stream."""


class Link(Protocol):
    """What a member asks of the log."""

    clock: Clock

    async def ownership(self, member: int, known: Ownership) -> Ownership:
        """What the member owns now, or did a moment ago. `LogUnavailableError` if its membership is over."""
        ...

    async def watch(
        self,
        member: int,
        known: Ownership,
        offsets: Mapping[Place, int],
        timeout: float | None,
        topics: Filter | None = None,
    ) -> Ownership:
        """Return what the member owns when that is no longer what is `known`, when there is a record at or after one of
        the `offsets`, or after `timeout` seconds. With `topics` only records on these are waited for; when there are
        others, it returns soon."""
        ...

    async def resume(self, group: str, streams: Sequence[str], numbers: Iterable[int]) -> Resumes:
        """Where to go on, after all that was committed before."""
        ...

    async def poll(
        self, cursors: Sequence[Cursor], limit_bytes: int, topics: Filter | None, near: bool = False
    ) -> list[Piece]:
        """What stands at the cursors, at most about so much. `near`: little is expected, so less may be given."""
        ...

    async def state(self, group: str, number: int) -> dict[str, bytes]: ...

    async def commit(self, draft: SqliteDraft) -> Committed: ...

    async def release(self, member: int, epochs: Mapping[int, int]) -> None: ...

    async def leave(self, member: int) -> None: ...


class Member:
    """See `millstream.log.contract.Group`."""

    def __init__(
        self, name: str, member: int, streams: Mapping[str, int], link: Link, topics: Filter | None = None
    ) -> None:
        self.name = name
        self._id = member
        self._streams = streams
        self._link = link
        self._topics = topics
        self._known = Ownership()
        self._owned: dict[int, int] = {}  # what polls told to be gained: by number the epoch of the grant
        self._lost: dict[int, int] = {}  # what they told to be lost since, until it is released
        self._released: set[int] = set()  # epochs that the coordinator may not know yet to be over
        self._cursors: dict[Place, Cursor] = {}
        self._turns = 0
        self._passed_by = False  # all that was read last, up to the end, was on other topics
        self._near = False  # what was read last was all that there was
        self._left = False

    async def poll(self, limit_bytes: int, timeout: float | None = None, pause: bool = False) -> Poll:
        """See the contract."""
        clock = self._link.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        self._check()
        if self._passed_by and timeout is None and not pause:  # what has come since is likely to be so as well
            known = await self._watch(None)
        else:
            known = await self._link.ownership(self._id, self._known)
        while True:
            resumes = await self._gain(known)
            asked = {} if pause else self._in_turn()
            cursors = list(asked.values())
            pieces = await self._link.poll(cursors, limit_bytes, self._topics, self._near) if asked else []
            self._near = bool(asked) and all(piece.at_end for piece in pieces)
            self._passed_by = bool(pieces) and all(piece.is_passed_by for piece in pieces)
            found = self._take(known, resumes, asked, pieces)
            if found != Poll():
                return found
            if any(piece.moved for piece in pieces):
                continue  # past offsets that were done already
            left = None if deadline is None else deadline - clock.monotonic()
            if left is not None and left <= 0:
                return found
            known = await self._watch(left, pause)

    async def state(self, partition: int) -> Mapping[str, bytes]:
        """See the contract."""
        self._check()
        return await self._link.state(self.name, partition)

    def transaction(self) -> SqliteDraft:
        """See the contract. It is bound to what the member owns now: what it gains later takes another one."""
        return SqliteDraft(self._link.commit, self.name, self._id, dict(self._owned))

    async def release(self, partitions: frozenset[int]) -> None:
        """See the contract."""
        epochs: dict[int, int] = {}
        for number in partitions:
            epoch = self._lost.pop(number, None) or self._owned.get(number)
            if epoch is not None:
                epochs[number] = epoch
                if self._owned.get(number) == epoch:
                    self._forget(number)
        self._released.update(epochs.values())
        if epochs and not self._left:
            await self._link.release(self._id, epochs)

    async def leave(self) -> None:
        """See the contract."""
        if not self._left:
            self._left = True
            await self._link.leave(self._id)

    async def _watch(self, timeout: float | None, pause: bool = False) -> Ownership:
        """Wait for records at the cursors (none, in a pause), or for another ownership."""
        offsets = {} if pause else {place: cursor.offset for place, cursor in self._cursors.items()}
        return await self._link.watch(self._id, self._known, offsets, timeout, self._topics)

    def _check(self) -> None:
        if self._left:
            raise LogError(f"this member of group {self.name!r} has left; join again")

    async def _gain(self, known: Ownership) -> Resumes:
        """Where to go on in the numbers that are newly ours."""
        new = {
            number: epoch
            for number, epoch in known.owned.items()
            if self._owned.get(number) != epoch and epoch not in self._released
        }
        early = {number: epoch for number, epoch in new.items() if number in known.revoked}
        if early:  # taken back before we knew that they were ours
            self._released.update(early.values())
            await self._link.release(self._id, early)
        gained = [number for number in new if number not in early]
        return await self._link.resume(self.name, list(self._streams), gained) if gained else {}

    def _in_turn(self) -> dict[Place, Cursor]:
        """The cursors, beginning with another one each time: the first ones get most where bytes are short."""
        places = list(self._cursors)
        self._turns += 1
        start = self._turns % len(places) if places else 0
        return {place: self._cursors[place] for place in places[start:] + places[:start]}

    def _take(self, known: Ownership, resumes: Resumes, asked: Mapping[Place, Cursor], pieces: Sequence[Piece]) -> Poll:
        """What was found, told and made ours in one go, without a pause in which a caller could be cancelled."""
        self._known = known
        self._released &= set(known.owned.values())
        lost = self._lose(known)
        expired: dict[Place, int] = {}
        for number, by_stream in resumes.items():
            self._owned[number] = known.owned[number]
            for stream, resume in by_stream.items():
                self._cursors[stream, number] = resume.cursor(stream, number)
                expired[stream, number] = resume.expired
        batches = []
        for piece in pieces:
            place = (piece.cursor.stream, piece.cursor.partition)
            if self._cursors.get(place) is not asked[place]:
                continue  # lost or released meanwhile
            self._cursors[place] = piece.cursor
            expired[place] = expired.get(place, 0) + piece.expired
            if (batch := piece.batch()) is not None:
                batches.append(batch)
        return Poll(
            lost,
            {
                number: {stream: Position(resume.low, resume.done) for stream, resume in by_stream.items()}
                for number, by_stream in resumes.items()
            },
            {place: events for place, events in expired.items() if events},
            tuple(batches),
        )

    def _lose(self, known: Ownership) -> frozenset[int]:
        lost = {
            number: epoch
            for number, epoch in self._owned.items()
            if (known.owned.get(number) != epoch or number in known.revoked) and self._lost.get(number) != epoch
        }
        self._lost.update(lost)
        for number in lost:
            self._drop_cursors(number)
        return frozenset(lost)

    def _forget(self, number: int) -> None:
        del self._owned[number]
        self._drop_cursors(number)

    def _drop_cursors(self, number: int) -> None:
        for place in [place for place in self._cursors if place[1] == number]:
            del self._cursors[place]
