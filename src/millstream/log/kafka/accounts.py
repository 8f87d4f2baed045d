"""Groups and streams as an operator sees them. Every function blocks, and is called in the administrator's thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import Message

from millstream.log.contract import Accounts, GroupAccount, GroupStatus, StreamAccount
from millstream.log.kafka.admin import Admin, Offset, TopicPlace
from millstream.log.kafka.catalog import Stream
from millstream.log.kafka.names import Names
from millstream.log.kafka.positions import Held, Numbered, needs_chunks, read_number
from millstream.log.kafka.record import is_tick, source_of

_SHORT = 64  # offsets whose events are counted
_REMEMBERED = 10_000
_SCAN_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class View:
    """What it takes to look: the streams there are, and ways to read a partition (messages from an offset on, and where
    to read on) and the state chunks of a group's number. `gaps` remembers how many events short ranges of offsets
    hold: most of them end in the same ticks and markers of transactions for long."""

    streams: Mapping[str, Stream]
    names: Names
    read: Callable[[str, int, int, int], tuple[list[Message], int]]
    chunks: Callable[[str, int], Mapping[str, bytes]]
    gaps: dict[tuple[str, int, int, int], int]

    def events(self, stream: str, number: int, first: int, end: int) -> int:
        """How many events there are from `first` to before `end`: exactly where that is not many offsets."""
        if not 0 < end - first <= _SHORT:
            return max(0, end - first)
        key = (self.names.topic(stream), number, first, end)
        if key not in self.gaps:
            if len(self.gaps) >= _REMEMBERED:
                self.gaps.clear()
            self.gaps[key] = len(_Scan(self, (stream, number), first, end).events)
        return self.gaps[key]

    def places(self) -> dict[TopicPlace, tuple[str, int]]:
        """Every partition of every stream, by topic."""
        return {
            (self.names.topic(name), number): (name, number)
            for name, stream in self.streams.items()
            for number in range(stream.spec.partitions)
        }


def read_groups(admin: Admin, view: View) -> list[GroupStatus]:
    """Every group that has a position or a member, by name. A lag of more than some offsets counts ticks and the
    markers of transactions too."""
    ends, firsts = _ends(admin, view)
    return [_status(view, *each, firsts, ends) for each in _known(admin, view)]


def read_accounts(admin: Admin, view: View) -> Accounts:
    """See the contract: by reading everything that is there, once. What retention has taken counts as one event an
    offset; what was in streams that are dropped is not told."""
    ends, firsts = _ends(admin, view)
    scans = {place: _Scan(view, place, firsts.get(place, 0), end) for place, end in ends.items()}
    streams: dict[str, StreamAccount] = {}
    for name, stream in view.streams.items():
        its = [scans[name, number] for number in range(stream.spec.partitions) if (name, number) in scans]
        sources: Counter[str] = Counter()
        for scan in its:
            sources.update(scan.sources)
        dropped = sum(scan.first for scan in its)
        streams[name] = StreamAccount(name, sum(len(scan.events) for scan in its) + dropped, dropped, dict(sources))
    groups = {}
    for name, members, numbers in _known(admin, view):
        status = _status(view, name, members, numbers, firsts, ends)
        held = {(stream, number): one for number, its in numbers.items() for stream, one in its.held.items()}
        read: Counter[str] = Counter()
        expired = 0
        for place, one in held.items():
            if place in scans:
                read[place[0]] += scans[place].passed(one)
                expired += scans[place].untold(one)
        groups[name] = GroupAccount(status, dict(read), expired, {place: one.start for place, one in held.items()})
    return Accounts(streams, groups)


class _Scan:
    """The offsets of the events in a partition, and who has appended them."""

    def __init__(self, view: View, place: tuple[str, int], first: int, end: int) -> None:
        self.first = first
        self.events: list[int] = []
        self.sources: Counter[str] = Counter()
        topic = view.names.topic(place[0])
        offset = first
        while offset < end:
            messages, offset = view.read(topic, place[1], offset, _SCAN_BYTES)
            for message in messages:
                if not is_tick(message) and (message.offset() or 0) < end:
                    self.events.append(message.offset() or 0)
                    self.sources[source_of(message)] += 1

    def passed(self, held: Held) -> int:
        """How many events a group has read."""
        low = held.position.low
        there = sum(1 for offset in self.events if held.start <= offset < low) + len(held.position.done)
        return there + max(0, min(self.first, low) - held.start)

    def untold(self, held: Held) -> int:
        """How many are gone before it had read them."""
        gone = sum(1 for offset in held.position.done if offset < self.first)
        return max(0, self.first - held.position.low - gone)


def _known(admin: Admin, view: View) -> list[tuple[str, int, Mapping[int, Numbered]]]:
    """Groups with their members and what they have in each number."""
    topics = admin.topics()
    ids = {group: view.names.group_of(group) for group in admin.groups()}
    names = {group: name for group, name in ids.items() if name and view.names.state(name) in topics}
    members = admin.members(list(names))
    return [
        (name, members.get(group, 0), _numbers(admin.offsets(group), name, view))
        for group, name in sorted(names.items())
    ]


def _numbers(offsets: Mapping[TopicPlace, Offset], group: str, view: View) -> Mapping[int, Numbered]:
    state = view.names.state(group)
    topics = [view.names.topic(name) for name in view.streams]
    found = {}
    for number in sorted({number for _, number in offsets}):
        chunks = view.chunks(group, number) if needs_chunks(offsets, topics, state, number) else {}
        found[number] = read_number(offsets, view.streams, view.names, state, number, chunks)
    return found


def _status(
    view: View,
    name: str,
    members: int,
    numbers: Mapping[int, Numbered],
    firsts: Mapping[tuple[str, int], int],
    ends: Mapping[tuple[str, int], int],
) -> GroupStatus:
    positions = {(stream, number): one.position for number, its in numbers.items() for stream, one in its.held.items()}
    lag = {}
    for place, position in sorted(positions.items()):
        first = firsts.get(place, 0)
        done = sum(1 for offset in position.done if offset >= first)
        lag[place] = max(0, view.events(*place, max(position.low, first), ends.get(place, 0)) - done)
    counts: Counter[str] = Counter()
    for its in numbers.values():
        counts.update(its.counts)
    return GroupStatus(name, members, dict(sorted(positions.items())), lag, dict(sorted(counts.items())))


def _ends(admin: Admin, view: View) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
    """The next and the first offset of every partition of the streams."""
    places = view.places()
    ends = {places[place]: end for place, end in admin.ends(places, committed=True).items()}
    return ends, {places[place]: first for place, first in admin.firsts(places).items()}
