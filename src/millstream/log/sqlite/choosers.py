"""Members of groups that want some topics only, and how far in each partition something has come for them.

Most of what such a member would be woken for is not for it: twenty handlers of one stream would each read every event,
while one of them has something to do. So a commit of a few events tells their topics, and wakes those who want one. The
others pass the events by later, many at a time. What a large commit holds is not looked at: it may be for everybody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from millstream.log.sqlite.place import Place
from millstream.topic import Trie

PASS_SECONDS = 0.1  # until events are passed by that nobody waits for: more would make a long read of many small chunks


@dataclass(slots=True)
class _Chooser:
    """`offsets` are where it waits, `ends` where the last records end that may be for it."""

    topics: str
    offsets: Mapping[Place, int]
    ends: dict[Place, int]


class Choosers:
    """The members that have waited, by their ids."""

    def __init__(self) -> None:
        self._members: dict[int, _Chooser] = {}
        self._by_topics: Trie[int] = Trie()

    def __len__(self) -> int:
        return len(self._members)

    def wait(self, member: int, topics: str, offsets: Mapping[Place, int], ends: Mapping[Place, int]) -> bool:
        """A member waits at these offsets for records on topics that a filter matches; `ends` are those of all
        partitions. Whether there may be some already. What was not looked at may hold some."""
        known = self._members.get(member)
        if known is None:
            known = self._members[member] = _Chooser(topics, {}, {})
            self._by_topics.add(topics, member)
        known.offsets = offsets
        known.ends = {place: known.ends.get(place, ends.get(place, 0)) for place in offsets}
        return any(known.ends[place] > offset for place, offset in offsets.items())

    def leave(self, member: int) -> None:
        """A member does not wait any more; one that never has is fine."""
        known = self._members.pop(member, None)
        if known is not None:
            self._by_topics.remove(known.topics, member)

    def came(self, place: Place, end: int, topics: Collection[str] | None) -> set[int]:
        """Records up to `end` have come, on these topics (None: on any). Gives the members that some may be for."""
        found: Iterable[int] = self._members
        if topics is not None:
            found = {member for topic in topics for member in self._by_topics.match(topic)}
        concerned = {member for member in found if place in self._members[member].ends}
        for member in concerned:
            self._members[member].ends[place] = end
        return concerned

    def behind(self, ends: Mapping[Place, int]) -> list[int]:
        """The members that have anything to read or to pass by, where partitions end so."""
        return [
            member
            for member, known in self._members.items()
            if any(ends.get(place, offset) > offset for place, offset in known.offsets.items())
        ]
