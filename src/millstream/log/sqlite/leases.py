"""Members of other processes live as long as their process shows signs of life.

A process that ends closes its connection, and its members are gone at once. One that is frozen keeps its connection: it
is noticed by its silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from millstream.bus import Peer
from millstream.clock import Clock
from millstream.log.waiting import Timer

LEASE_SECONDS = 10.0  # without a sign of life, and a process's members are expelled
RENEW_SECONDS = 3.0  # between signs of life of a process that has nothing else to say: three fit into a lease


@dataclass(slots=True)
class _Lease:
    heard: float
    members: set[int] = field(default_factory=set)


class Leases:
    """Which members are whose, and when each process was heard last. `expel` ends memberships."""

    def __init__(self, clock: Clock, expel: Callable[[set[int]], None]) -> None:
        self._clock = clock
        self._expel = expel
        self._leases: dict[Peer, _Lease] = {}
        self._timer = Timer(clock, self._end_silent)

    async def close(self) -> None:
        """Stop watching."""
        await self._timer.close()

    def hear(self, peer: Peer) -> None:
        """Note a sign of life."""
        if (lease := self._leases.get(peer)) is not None:
            lease.heard = self._clock.monotonic()

    def add(self, peer: Peer, member: int) -> None:
        """A process has a new member."""
        known = peer in self._leases
        lease = self._leases.setdefault(peer, _Lease(self._clock.monotonic()))
        lease.members.add(member)
        if not known:
            peer.on_close(lambda: self._end(peer))
        self._plan()

    def remove(self, peer: Peer, member: int) -> None:
        """A member has left."""
        if (lease := self._leases.get(peer)) is not None:
            lease.members.discard(member)

    def _end(self, peer: Peer) -> None:
        if (lease := self._leases.pop(peer, None)) is not None:
            self._expel(lease.members)

    def _end_silent(self) -> None:
        latest = self._clock.monotonic() - LEASE_SECONDS
        for lease in self._leases.values():
            if lease.members and lease.heard <= latest:
                self._expel(lease.members)
                lease.members.clear()  # should the process wake up, it joins again
        self._plan()

    def _plan(self) -> None:
        heard = min((lease.heard for lease in self._leases.values() if lease.members), default=None)
        self._timer.set(None if heard is None else heard + LEASE_SECONDS)
