"""Members of consumer groups that are HTTP clients.

Nobody notices when such a client has gone, so its membership is a *lease*, which every request of it renews; when the
lease has run out, its partitions go to the others. An answer may be lost on its way, so the last one that told
something is kept, and told again to a client that asks `after` the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from millstream.clock import Clock
from millstream.gateway.http.outstanding import Outstanding, Place
from millstream.gateway.http.readers import Readers
from millstream.gateway.listeners.auth import Identity
from millstream.log import Committed, Group, Log, Poll, Position
from millstream.log.contract import Start

_MOST_OUTSTANDING = 100_000  # events that are told and not completed; more are not brought


@dataclass(frozen=True, slots=True)
class Told:
    """What a poll has told, and its number: they count up from 1 with each that tells something."""

    number: int
    poll: Poll


class Member:
    """A client's membership in a group."""

    def __init__(self, group: Group, owner: Identity, lease: float, clock: Clock) -> None:
        self.id = secrets.token_urlsafe(12)
        self.group = group
        self.owner = owner
        self.lease = lease
        self._clock = clock
        self._heard = clock.monotonic()
        self._requests = 0
        self._polling = asyncio.Lock()
        self._committing = asyncio.Lock()
        self._last = Told(0, Poll())
        self._outstanding = Outstanding()

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """While a request of the client is under way. The lease begins anew at its end."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._heard = self._clock.monotonic()

    @property
    def left(self) -> float:
        """Seconds until the lease has run out, unless the client is heard before."""
        return self.lease if self._requests else self._heard + self.lease - self._clock.monotonic()

    async def poll(self, after: int, limit_bytes: int, wait: float, pause: bool) -> Told:
        """What has happened since the poll of the number `after` (0: since the client joined); see `Group.poll`."""
        async with self._polling:
            if after != self._last.number:
                return self._again(after)
            poll = await self.group.poll(limit_bytes, wait, pause or len(self._outstanding) >= _MOST_OUTSTANDING)
            if poll == Poll():
                return Told(self._last.number, poll)
            self._outstanding.tell(poll)
            self._last = Told(self._last.number + 1, poll)
            return self._last

    async def commit(self, positions: Mapping[Place, Position], counts: Mapping[str, int]) -> Committed:
        """Move the group's positions, and count what that completes; see `Transaction`."""
        async with self._committing:
            transaction = self.group.transaction()
            for place, position in positions.items():
                transaction.position(*place, position)
            for name, count in (*self._outstanding.count(positions).items(), *counts.items()):
                transaction.count(name, count)
            committed = await transaction.commit()
            self._outstanding.complete(positions)
            return committed

    async def release(self, partitions: frozenset[int]) -> None:
        """Give partitions up."""
        await self.group.release(partitions)
        self._outstanding.drop(partitions)

    def _again(self, after: int) -> Told:
        if after != self._last.number - 1:
            raise HTTPException(
                409, f"the last poll of this member has number {self._last.number}: poll after that, or join again"
            )
        return self._last


class Members:
    """The members there are. Each counts as a reader."""

    def __init__(self, log: Log, readers: Readers, clock: Clock) -> None:
        self._log = log
        self._readers = readers
        self._clock = clock
        self._members: dict[str, Member] = {}
        self._leases: dict[str, asyncio.Task[None]] = {}

    async def join(self, group: str, owner: Identity, streams: Sequence[str], start: Start, lease: float) -> Member:
        """A new member, until it leaves or is silent for `lease` seconds."""
        self._readers.enter()
        try:
            joined = await self._log.join(group, streams, start=start)
        except BaseException:
            self._readers.leave()
            raise
        member = Member(joined, owner, lease, self._clock)
        self._members[member.id] = member
        self._leases[member.id] = asyncio.get_running_loop().create_task(self._expire(member))
        return member

    def find(self, group: str, member_id: str, owner: Identity) -> Member:
        """A member by its id. Refuses with 404 one that is not there, or is another user's."""
        member = self._members.get(member_id)
        if member is None or member.group.name != group or member.owner != owner:
            raise HTTPException(
                404,
                f"group {group!r} has no member {member_id!r}: it has left, was silent for longer than its lease, or "
                "the server has restarted; join again, and go on from the positions that the first poll tells",
            )
        return member

    async def leave(self, member: Member) -> None:
        """End a membership; its partitions go to the others at once."""
        if self._members.pop(member.id, None) is not None:
            self._readers.leave()
            lease = self._leases.pop(member.id)
            if lease is not asyncio.current_task():
                lease.cancel()
            await member.group.leave()

    async def close(self) -> None:
        """The server stops: end all memberships."""
        for member in list(self._members.values()):
            await self.leave(member)

    async def _expire(self, member: Member) -> None:
        while (left := member.left) > 0:
            await self._clock.sleep(left)
        await self.leave(member)
