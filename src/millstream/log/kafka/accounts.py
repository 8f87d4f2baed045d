"""Groups and streams as an operator sees them. Every function blocks, and is called in the thread of `Looking`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from confluent_kafka import Message

from millstream.log.contract import Accounts, GroupAccount, GroupStatus, StreamAccount
from millstream.log.kafka.admin import Admin, Offset, TopicPlace
from millstream.log.kafka.catalog import Stream
from millstream.log.kafka.names import Names
from millstream.log.kafka.positions import Held, Numbered, needs_chunks, read_number
from millstream.log.kafka.scan import Read, Scan

Place = tuple[str, int]
"""A stream and a partition number."""

Serials = Mapping[tuple[str, int], int]
"""The number of the last transaction that was committed, by group and partition number."""

_SHORT = 64  # offsets whose events are counted
_REMEMBERED = 10_000
_SCAN_BYTES = 8 << 20
_PATIENCE_SECONDS = 5.0  # for a moment at which no group commits, and until brokers show what they acknowledged
_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class View:
    """What it takes to look: the streams there are, ways to read a partition up to an end and the state chunks of a
    group's number, and what earlier looks have counted: `scans` by stream id and number, `gaps` the events of short
    ranges of offsets (most of them end in the same ticks and markers of transactions for long)."""

    admin: Admin
    streams: Mapping[str, Stream]
    names: Names
    until: Callable[[str, int, int, int, int], tuple[list[Message], int]]
    chunks: Callable[[str, int], Mapping[str, bytes]]
    scans: dict[Place, Scan]
    gaps: dict[tuple[str, int, int, int], int]

    def read(self, place: Place) -> Read:
        """How a partition is read."""
        topic, number = self.names.topic(place[0]), place[1]
        return lambda start, end: self.until(topic, number, start, end, _SCAN_BYTES)

    def events(self, place: Place, first: int, end: int) -> int:
        """How many events there are from `first` to before `end`: exactly where that is not many offsets."""
        if not 0 < end - first <= _SHORT:
            return max(0, end - first)
        key = (self.streams[place[0]].id, place[1], first, end)
        if key not in self.gaps:
            if len(self.gaps) >= _REMEMBERED:
                self.gaps.clear()
            scan = Scan(first)
            scan.extend(self.read(place), end)
            self.gaps[key] = scan.events
        return self.gaps[key]

    def scan(self, place: Place, first: int) -> Scan:
        """What is counted of a partition; where nothing is, it begins at the first offset that is left."""
        return self.scans.setdefault((self.streams[place[0]].id, place[1]), Scan(first))

    def firsts(self) -> dict[Place, int]:
        """The first offset of every partition of the streams."""
        places = self._places()
        return {places[place]: first for place, first in self.admin.firsts(places).items()}

    def ends(self, *, committed: bool) -> dict[Place, int]:
        """The next offset of every partition; see `Admin.ends`."""
        places = self._places()
        return {places[place]: end for place, end in self.admin.ends(places, committed=committed).items()}

    def _places(self) -> dict[TopicPlace, Place]:
        return {
            (self.names.topic(name), number): (name, number)
            for name, stream in self.streams.items()
            for number in range(stream.spec.partitions)
        }


@dataclass(frozen=True, slots=True)
class _Known:
    """A group with what it has in each number."""

    name: str
    numbers: Mapping[int, Numbered]

    @property
    def held(self) -> dict[Place, Held]:
        return {(stream, number): one for number, its in self.numbers.items() for stream, one in its.held.items()}

    @property
    def counts(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for its in self.numbers.values():
            counts.update(its.counts)
        return dict(sorted(counts.items()))


def read_groups(view: View, committed: Serials) -> list[GroupStatus]:
    """Every group that has a position or a member, by name, as of its last commit. A lag of more than some offsets
    counts ticks and the markers of transactions too.

    Brokers acknowledge a transaction when its outcome is on their disks, and write it to the group's offsets after that
    (KIP-98, "Transaction Coordinator"): those that this process knows to be `committed` are waited for."""
    known = list(_known(view, stable=False, committed=committed))
    members = _members(view, known)
    firsts, ends = view.firsts(), view.ends(committed=True)
    return [_status(view, group, members[group.name], firsts, ends) for group in known]


def read_accounts(view: View) -> Accounts:
    """See the contract: by reading what is there, what was read earlier only once.

    The moment is one at which no group commits: between two looks at the positions, which agree, everything is read
    that came before the second one. Under a load that leaves no such moment, each group is told as of its last commit,
    and the streams as of a moment after that. What retention has taken before it was read counts as one event an
    offset, of whom nobody knows; what was in streams that are dropped is not told."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    known = list(_known(view, stable=True))
    while True:
        firsts = view.firsts()
        _count(view, known, firsts)
        again = list(_known(view, stable=True))
        if again == known or time.monotonic() >= deadline:
            break
        known = again
    scans = {place: view.scan(place, first) for place, first in firsts.items()}
    members = _members(view, known)
    ends = {place: scan.next for place, scan in scans.items()}
    groups = {
        group.name: _account(view, group, _status(view, group, members[group.name], firsts, ends), firsts, scans)
        for group in known
    }
    return Accounts({name: _stream(view, name, firsts, scans) for name in view.streams}, groups)


def _count(view: View, known: list[_Known], firsts: Mapping[Place, int]) -> None:
    """Read every partition up to its end, behind all transactions that are under way now: so what groups have appended
    with the positions that are known is among it."""
    asked: dict[Place, set[int]] = {}
    for group in known:
        for place, held in group.held.items():
            asked.setdefault(place, set()).update((held.start, held.position.low, firsts.get(place, 0)))
    for place, end in view.ends(committed=False).items():
        view.scan(place, firsts.get(place, 0)).extend(view.read(place), end, asked.get(place, ()))


def _stream(view: View, name: str, firsts: Mapping[Place, int], scans: Mapping[Place, Scan]) -> StreamAccount:
    places = [(name, number) for number in range(view.streams[name].spec.partitions) if (name, number) in scans]
    sources: Counter[str] = Counter()
    for place in places:
        sources.update(scans[place].sources)
    unknown = sum(scans[place].first for place in places)
    events = unknown + sum(scans[place].events for place in places)
    dropped = sum(
        scans[place].first + scans[place].before(view.read(place), firsts[place]) for place in places if firsts[place]
    )
    return StreamAccount(name, events, dropped, dict(sources), unknown)


def _account(
    view: View, group: _Known, status: GroupStatus, firsts: Mapping[Place, int], scans: Mapping[Place, Scan]
) -> GroupAccount:
    read: Counter[str] = Counter()
    expired = 0
    for place, held in group.held.items():
        if place not in scans:
            continue
        scan, first, low = scans[place], firsts[place], held.position.low
        before = partial(scan.before, view.read(place))
        read[place[0]] += _since(scan, before(low), low) - _since(scan, before(held.start), held.start)
        read[place[0]] += len(held.position.done)
        gone = sum(1 for offset in held.position.done if offset < first)
        expired += max(0, _since(scan, before(first), first) - _since(scan, before(low), low) - gone)
    return GroupAccount(status, dict(read), expired, {place: held.start for place, held in group.held.items()})


def _since(scan: Scan, before: int, offset: int) -> int:
    """Events before an offset; what was gone before anybody counted is as many as its offsets."""
    return min(scan.first, offset) + before


def _known(view: View, *, stable: bool, committed: Serials = MappingProxyType({})) -> Iterator[_Known]:
    topics = view.admin.topics()
    ids = {group: view.names.group_of(group) for group in view.admin.groups()}
    names = {group: name for group, name in ids.items() if name and view.names.state(name) in topics}
    for group, name in sorted(names.items()):
        deadline = time.monotonic() + _PATIENCE_SECONDS
        offsets = view.admin.offsets(group, stable=stable)
        while _is_behind(offsets, view.names.state(name), name, committed) and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
            offsets = view.admin.offsets(group, stable=stable)
        yield _Known(name, _numbers(offsets, name, view))


def _is_behind(offsets: Mapping[TopicPlace, Offset], state: str, name: str, committed: Serials) -> bool:
    """Whether the offsets of a group are from before what is committed."""
    return any(
        (state, number) not in offsets or offsets[state, number].offset < serial
        for (group, number), serial in committed.items()
        if group == name
    )


def _members(view: View, known: list[_Known]) -> dict[str, int]:
    """How many live members groups have, by name."""
    counts = view.admin.members([view.names.group(group.name) for group in known])
    return {group.name: counts.get(view.names.group(group.name), 0) for group in known}


def _numbers(offsets: Mapping[TopicPlace, Offset], group: str, view: View) -> Mapping[int, Numbered]:
    state = view.names.state(group)
    topics = [view.names.topic(name) for name in view.streams]
    found = {}
    for number in sorted({number for _, number in offsets}):
        chunks = view.chunks(group, number) if needs_chunks(offsets, topics, state, number) else {}
        found[number] = read_number(offsets, view.streams, view.names, state, number, chunks)
    return found


def _status(
    view: View, group: _Known, members: int, firsts: Mapping[Place, int], ends: Mapping[Place, int]
) -> GroupStatus:
    positions = {place: held.position for place, held in sorted(group.held.items())}
    lag = {}
    for place, position in positions.items():
        first = firsts.get(place, 0)
        done = sum(1 for offset in position.done if offset >= first)
        lag[place] = max(0, view.events(place, max(position.low, first), ends.get(place, 0)) - done)
    return GroupStatus(group.name, members, positions, lag, group.counts)
