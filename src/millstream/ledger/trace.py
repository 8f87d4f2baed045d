"""An event's way: where it stands, what became of it in each group, and what was made of it as far as that is kept.

Nothing is written down for this while events pass: it is put together from what the log holds anyway. An event is the
same in every stream that captured it, and was committed to all of them at the same time; dead letters, late events
and events that are sent again say where they came from. What a handler published does not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import Micros, to_micros
from millstream.event import RESEND_GROUP, Event
from millstream.ledger.balance import is_processor
from millstream.ledger.deadletters import RESENT, Resolution, Wanted, letters, resolutions
from millstream.ledger.letter import RESEND_OF, Letter
from millstream.ledger.names import DEAD_LETTERED, LATE, SKIPPED, late_stream
from millstream.ledger.resets import is_reset
from millstream.ledger.scan import Range, batches, event_named, events, ranges, time_of
from millstream.log import Accounts, GroupAccount, Log

COMPLETED, PENDING, NOT_READ = "completed", "pending", "not read"

_LATE_POSITION, _LATE_WINDOW = "late-position", "late-window-end"


_Aside = dict[tuple[str, str], "Outcome"]
"""What became of events that groups have set aside, by group and position."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of an event in a group: a name of the ledger's, or one of those above. `kept` is where it was set
    aside, `why` says more for a person."""

    group: str
    state: str
    why: str | None = None
    kept: str | None = None


class Copy(msgspec.Struct, frozen=True):
    """The event as it stands in one stream, and what became of it there."""

    event: Event
    outcomes: Sequence[Outcome]


class Trace(msgspec.Struct, frozen=True):
    """The way of one event. `made_from` is the position of the event that it is a dead letter or a late copy of, or
    that it repeats; `sent_again` are the positions where it was repeated."""

    event: Event
    copies: Sequence[Copy]
    made_from: str | None
    sent_again: Sequence[str]


async def find(
    log: Log, what: str, since: Micros | None, progress: Callable[[int, int], None] = lambda read, of: None
) -> list[Event]:
    """The events of an id or at a position; the copies that several streams have of one event count once.

    An id is looked for in every stream from `since` on: `progress` is told how many offsets of how many are read."""
    event = await event_named(log, what)
    if event is not None:
        return [event]
    streams = await log.streams()
    pieces = [piece for name in sorted(streams) if not name.startswith("$") for piece in await ranges(log, name, since)]
    found: dict[object, Event] = {}
    async for event in _with_id(log, pieces, what, progress):
        found.setdefault(_identity(event), event)
    return sorted(found.values(), key=time_of)


async def trace(log: Log, event: Event) -> Trace:
    """Follow an event that was read from a stream."""
    follower = _Follower(log, await log.accounts(), await resolutions(log))
    return await follower.follow(event)


class _Follower:
    def __init__(self, log: Log, accounts: Accounts, resolved: Mapping[str, Resolution]) -> None:
        self._log = log
        self._groups = [group for group in accounts.groups.values() if is_processor(group)]
        self._resolved = resolved

    async def follow(self, event: Event) -> Trace:
        copies = await _copies(self._log, event)
        positions = {copy.position for copy in copies}
        since = to_micros(time_of(event))
        dead = [letter async for letter in letters(self._log, Wanted(since=since)) if letter.origin in positions]
        aside = {(letter.group, letter.origin): self._dead_lettered(letter) for letter in dead}
        aside |= await self._late(positions, since)
        found = [Copy(copy, self._outcomes(copy, aside)) for copy in copies]
        return Trace(event, found, _made_from(event), [again for letter in dead async for again in self._again(letter)])

    def _outcomes(self, copy: Event, aside: _Aside) -> list[Outcome]:
        return [_outcome(group, copy, aside) for group in self._groups if _place(copy) in group.starts]

    async def _late(self, positions: Container[str], since: Micros) -> _Aside:
        """Where these were late."""
        found = {}
        for group in self._groups:
            async for late in events(self._log, late_stream(group.name), since):
                origin = late.headers.get(_LATE_POSITION, "")
                if origin in positions:
                    why = f"its window ended at {late.headers.get(_LATE_WINDOW)}"
                    found[group.name, origin] = Outcome(group.name, LATE, why, late.position)
        return found

    def _dead_lettered(self, letter: Letter) -> Outcome:
        done = self._resolved.get(letter.name)
        then = "open" if done is None else done.action if done.group is None else f"{done.action} to {done.group}"
        return Outcome(letter.group, DEAD_LETTERED, f"{letter.error or letter.reason} ({then})", letter.event.position)

    async def _again(self, letter: Letter) -> AsyncIterator[str]:
        """Where its event was repeated: committed with the note about it, to the same partition."""
        done = self._resolved.get(letter.name)
        if done is not None and done.action == RESENT and done.time is not None:
            async for again in _committed_at(self._log, letter.stream, letter.partition, done.time):
                if again.headers.get(RESEND_OF) == letter.origin:
                    yield again.position


def _outcome(group: GroupAccount, copy: Event, aside: _Aside) -> Outcome:
    place = _place(copy)
    position = group.status.positions[place]
    if copy.offset < group.starts[place]:
        return Outcome(group.name, NOT_READ, f"the group began later, at offset {group.starts[place]}")
    if copy.offset >= position.low and copy.offset not in position.done:
        return Outcome(group.name, PENDING, f"{group.status.lag[place]} events wait for it in this partition")
    to = copy.headers.get(RESEND_GROUP, group.name)
    here = f"{copy.stream}:{copy.partition}:"
    if is_reset(copy.headers, here) and to == group.name:
        return Outcome(group.name, COMPLETED, f"the key {copy.key!r} began anew")
    if to != group.name and copy.headers.get(RESEND_OF, "").startswith(here):
        what = (
            f"it had a key of {to} begin anew" if is_reset(copy.headers, here) else f"it was sent again for {to} alone"
        )
        return Outcome(group.name, SKIPPED, what)
    return aside.get((group.name, copy.position)) or Outcome(group.name, COMPLETED)


async def _copies(log: Log, event: Event) -> list[Event]:
    """The event in every stream that has it, its own first: what was committed with it and is equal to it."""
    found = [event]
    for name, spec in sorted((await log.streams()).items()):
        for partition in range(spec.partitions):
            if name == event.stream or name.startswith("$"):
                continue
            together = _committed_at(log, name, partition, time_of(event))
            found += [other async for other in together if _identity(other) == _identity(event)]
    return found


async def _committed_at(log: Log, stream: str, partition: int, time: datetime) -> AsyncIterator[Event]:
    """What one commit put into a partition."""
    first = await log.offset_at(stream, partition, to_micros(time))
    end = await log.offset_at(stream, partition, to_micros(time) + 1)
    async for batch in batches(log, Range(stream, partition, first, end)):
        for event in batch:
            yield event


async def _with_id(
    log: Log, pieces: Sequence[Range], wanted: str, progress: Callable[[int, int], None]
) -> AsyncIterator[Event]:
    read, of = 0, sum(map(len, pieces))

    def passed(offsets: int) -> None:
        nonlocal read
        read += offsets
        progress(read, of)

    for piece in pieces:
        async for batch in batches(log, piece, passed):
            hits = pc.equal(batch.events.column("id"), pa.scalar(wanted))
            if pc.any(hits).as_py():
                for event in replace(batch, events=batch.events.filter(hits)):
                    yield event


def _place(event: Event) -> tuple[str, int]:
    assert event.stream is not None, "whatever is read from a stream has its name"
    return event.stream, event.partition


def _identity(event: Event) -> object:
    return event.topic, event.id, event.time, event.payload, tuple(event.headers.items())


def _made_from(event: Event) -> str | None:
    letter = Letter(event)
    if letter.stream:
        return letter.origin
    again = None if is_reset(event.headers, f"{event.stream}:{event.partition}:") else event.headers.get(RESEND_OF)
    return event.headers.get(_LATE_POSITION) or again
