"""The shared subscriptions that there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.sessions.kept import Kept
from millstream.gateway.sessions.queue import Queue
from millstream.gateway.sessions.share import SHARE, Share
from millstream.gateway.sessions.unsaved import Unsaved
from millstream.mqtt import Granted


class Shares:
    """By name. One is there as long as it has a member."""

    def __init__(self, queue: Queue, fan_out: FanOut) -> None:
        self._queue = queue
        self._fan_out = fan_out
        self._shares: dict[str, Share] = {}

    def __iter__(self) -> Iterator[Share]:
        return iter(self._shares.values())

    def get(self, name: str) -> Share | None:
        """The one of this name."""
        return self._shares.get(name)

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Go on where they were, after their members have joined. `state` are chunks by name."""
        for name, share in self._shares.items():
            if SHARE + name in state:
                share.restore(state[SHARE + name])

    def join(self, member: Kept, granted: Granted, unsaved: Unsaved) -> None:
        """A session becomes a member, or is one with other options."""
        share = self._shares.get(granted.filter)
        if share is None:
            share = self._shares[granted.filter] = Share(granted.filter, self._queue.end)
            self._fan_out.add_share(share)
            lane = self._queue.join(share, share.filter)
            if lane is not None:
                self._fan_out.add_lane(lane)
        share.members[member] = granted
        member.shares[granted.filter] = None
        unsaved.move(share)

    def leave(self, member: Kept, name: str, unsaved: Unsaved) -> None:
        """A session is a member no longer; what is on its way to it stays its. Absent is fine."""
        member.shares.pop(name, None)
        share = self._shares.get(name)
        if share is None or share.members.pop(member, None) is None:
            return
        unsaved.move(share)
        if not share.members:
            del self._shares[name]
            unsaved.end(share)
            self._fan_out.remove_share(share)
            lane = self._queue.leave(share, share.filter)
            if lane is not None:
                self._fan_out.remove_lane(lane)

    def leave_all(self, member: Kept, unsaved: Unsaved) -> list[Share]:
        """A session has ended. Those that have something for others now, which it did not finish."""
        affected: dict[Share, None] = {}
        for flight in (member.memory.flights or {}).values():
            share = self._shares.get(flight.share)
            if share is not None and flight.qos == 1:
                share.give_back(flight.offset)
                affected[share] = None
        for name in list(member.shares):
            self.leave(member, name, unsaved)
        return [share for share in affected if share.members]
