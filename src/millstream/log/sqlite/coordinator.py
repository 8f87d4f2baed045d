"""Who owns which partition numbers of a group. No I/O and no clock: instants of the monotonic clock are given.

Ownership is handed over cooperatively. When members come and go, each keeps as many of its numbers as its fair share
allows (*sticky*). A number that another member is to have is *revoked*: its owner still owns it, and may commit what is
under way, until it releases it; only then does the next one get it. An owner that does not release in time is *fenced*:
its commits fail from then on.

Every grant of a number has an *epoch* of its own, which a commit must name: so a commit that was begun under an
earlier grant fails even if its member has the number again. Epochs and members' ids live only as long as the
server. Ids are random: what a member of an earlier server still wants to commit belongs to nobody.

All members must read the same streams. When an application changes, members of its old and its new version may be there
together for a moment; the newest member's streams count, and those that read others hand over everything.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from millstream.errors import FencedError, LogUnavailableError

RELEASE_SECONDS = 10.0  # for a member to commit and release what is revoked


class Ownership(msgspec.Struct, array_like=True, frozen=True):
    """A member's numbers, each with the epoch of its grant, and those among them that are revoked. `version` changes
    with every change."""

    version: int = 0
    owned: dict[int, int] = {}
    revoked: tuple[int, ...] = ()


@dataclass(slots=True)
class _Member:
    id: int
    group: str
    streams: Mapping[str, int]
    owned: dict[int, int] = field(default_factory=dict)
    revoked: dict[int, float] = field(default_factory=dict)
    version: int = 1
    leaving: bool = False

    @property
    def kept(self) -> list[int]:
        return sorted(number for number in self.owned if number not in self.revoked)


class Coordinator:
    """The live members of all groups. `changed` is called with a member's id when its ownership has changed, and when
    its membership is over."""

    def __init__(self, changed: Callable[[int], None]) -> None:
        self._changed = changed
        self._members: dict[int, _Member] = {}
        self._groups: dict[str, list[_Member]] = {}
        self._epoch = 0

    def join(self, group: str, streams: Mapping[str, int], now: float) -> int:
        """A new member that reads `streams` (with their numbers of partitions); its id."""
        member = _Member(secrets.randbits(62), group, dict(streams))
        self._members[member.id] = member
        self._groups.setdefault(group, []).append(member)
        self._balance(group, now)
        return member.id

    def leave(self, member_id: int, now: float) -> None:
        """End a membership; its numbers go to the others at once."""
        member = self._members.pop(member_id, None)
        if member is None:
            return
        others = self._groups[member.group]
        others.remove(member)
        if not others:
            del self._groups[member.group]
        self._changed(member_id)
        self._balance(member.group, now)

    def release(self, member_id: int, epochs: Mapping[int, int], now: float) -> None:
        """Take numbers back from a member, each if its grant is still that of the epoch. One that gives up what it was
        not asked for is on its way out, and gets no more."""
        member = self._members.get(member_id)
        if member is None:
            return
        for number, epoch in epochs.items():
            if member.owned.get(number) == epoch:
                member.leaving |= number not in member.revoked
                self._take(member, number)
        self._balance(member.group, now)

    def ownership(self, member_id: int) -> Ownership:
        """What a member owns. `LogUnavailableError` if its membership is over."""
        member = self._members.get(member_id)
        if member is None:
            raise LogUnavailableError("the membership is over, by leaving or by silence; join the group again")
        return Ownership(member.version, dict(member.owned), tuple(member.revoked))

    def version(self, member_id: int) -> int:
        """The version of a member's ownership; 0 when the membership is over."""
        member = self._members.get(member_id)
        return 0 if member is None else member.version

    def check(self, group: str, member_id: int, epochs: Mapping[int, int], numbers: Iterable[int]) -> None:
        """`FencedError` unless the member still holds each number under the grant that it thinks it has."""
        member = self._members.get(member_id)
        if member is None or member.group != group:
            raise FencedError(f"group {group!r}: the membership is over; join again, and go on from what is committed")
        for number in numbers:
            if (epoch := member.owned.get(number)) is None or epochs.get(number) != epoch:
                raise FencedError(
                    f"group {group!r}: partition {number} has gone to another member; forget it, and poll again"
                )

    def expire(self, now: float) -> None:
        """Fence the owners of what should have been released by now."""
        for group in list(self._groups):
            late = [
                (member, number)
                for member in self._groups[group]
                for number, deadline in member.revoked.items()
                if deadline <= now
            ]
            for member, number in late:
                self._take(member, number)
            if late:
                self._balance(group, now)

    @property
    def next_deadline(self) -> float | None:
        """When `expire` has something to do, unless it is released before."""
        deadlines = (deadline for member in self._members.values() for deadline in member.revoked.values())
        return min(deadlines, default=None)

    def count(self, group: str) -> int:
        """How many live members a group has."""
        return len(self._groups.get(group, ()))

    @property
    def groups(self) -> list[str]:
        """The groups that have members."""
        return sorted(self._groups)

    def _balance(self, group: str, now: float) -> None:
        members = self._groups.get(group, [])
        staying = [each for each in members if not each.leaving and each.streams == members[-1].streams]
        if not staying:
            return
        count = max(members[-1].streams.values(), default=1)
        for member in members:
            if member not in staying:
                self._revoke(member, member.kept, now)
        shares = _shares(staying, count)
        for member, share in shares:
            self._revoke(member, member.kept[share:], now)
        free = sorted(set(range(count)).difference(*(member.owned for member in members)), reverse=True)
        for member, share in shares:
            while free and len(member.kept) < share:
                self._grant(member, free.pop())

    def _grant(self, member: _Member, number: int) -> None:
        self._epoch += 1
        member.owned[number] = self._epoch
        self._touch(member)

    def _revoke(self, member: _Member, numbers: list[int], now: float) -> None:
        member.revoked.update(dict.fromkeys(numbers, now + RELEASE_SECONDS))
        if numbers:
            self._touch(member)

    def _take(self, member: _Member, number: int) -> None:
        del member.owned[number]
        member.revoked.pop(number, None)
        self._touch(member)

    def _touch(self, member: _Member) -> None:
        member.version += 1
        self._changed(member.id)


def _shares(members: list[_Member], count: int) -> list[tuple[_Member, int]]:
    """How many of `count` numbers each member is to have: those that have most keep the odd ones."""
    whole, odd = divmod(count, len(members))
    by_size = sorted(members, key=lambda member: -len(member.kept))
    return [(member, whole + (place < odd)) for place, member in enumerate(by_size)]
