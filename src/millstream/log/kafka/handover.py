"""Partition numbers that come and go: what polls have told of them, and how long one that is revoked may be held.

`Membership` tells what is whose; whoever polls hears of it later, and works with what he was told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from millstream.clock import Clock
from millstream.log.kafka.membership import Membership
from millstream.log.waiting import Timer

RELEASE_SECONDS = 10.0
"""For a member to commit and release what is revoked; then it is somebody else's."""


class Handover:
    """`told` are the numbers that polls have told to be gained, each with the epoch of its grant. `changed` is called
    when there is something to tell."""

    def __init__(self, membership: Membership, clock: Clock, changed: Callable[[], None]) -> None:
        self.told: dict[int, int] = {}
        self._membership = membership
        self._clock = clock
        self._changed = changed
        self._lost: dict[int, int] = {}  # what polls told to be lost since, until it is released
        self._deadlines: dict[int, float] = {}  # of numbers that are revoked
        self._timer = Timer(clock, self._end)

    @property
    def new(self) -> dict[int, int]:
        """What is gained, and was not told."""
        owned = self._membership.owned
        return {number: epoch for number, epoch in owned.items() if self.told.get(number) != epoch and self.has(number)}

    def has(self, number: int, epoch: int | None = None) -> bool:
        """Whether the number is ours (under this grant), and nobody waits for it."""
        owned = self._membership.owned.get(number)
        return owned is not None and owned == (epoch or owned) and number not in self._membership.revoked

    def gain(self, number: int, epoch: int) -> None:
        """A poll tells it."""
        self.told[number] = epoch

    def lose(self) -> frozenset[int]:
        """What a poll is to tell as lost."""
        lost = {
            number: epoch
            for number, epoch in self.told.items()
            if not self.has(number, epoch) and self._lost.get(number) != epoch
        }
        self._lost.update(lost)
        return frozenset(lost)

    def release(self, numbers: Iterable[int]) -> bool:
        """Forget numbers. Whether one of them was still to be kept, so that the member is on its way out."""
        is_leaving = False
        for number in numbers:
            is_leaving |= number in self.told and number not in self._lost
            self.told.pop(number, None)
            self._lost.pop(number, None)
            self._deadlines.pop(number, None)
        return is_leaving

    def membership_changed(self) -> None:
        """Something is owned or revoked, or is no longer."""
        revoked = self._membership.revoked
        deadline = self._clock.monotonic() + RELEASE_SECONDS
        self._deadlines = {number: self._deadlines.get(number, deadline) for number in revoked}
        self._plan()
        if unknown := revoked - self.told.keys():  # taken back before we knew that they were ours
            self._membership.release(unknown)

    async def close(self) -> None:
        """Watch over no deadlines any more."""
        await self._timer.close()

    def _end(self) -> None:
        now = self._clock.monotonic()
        late = [number for number, deadline in self._deadlines.items() if deadline <= now]
        for number in late:
            del self._deadlines[number]
        self._membership.release(late)
        self._plan()
        if late:
            self._changed()

    def _plan(self) -> None:
        self._timer.set(min(self._deadlines.values(), default=None))
