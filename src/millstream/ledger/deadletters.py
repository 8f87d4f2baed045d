"""All dead letters, and what an operator did about them.

Dead letters stay where they are. What was done about one is an event in `$deadletters.resolved`, committed together
with the event that is sent again: so a crash leaves it done or open, and never half. One operator works at a time: a
group without streams has one partition, and whoever owns it may commit.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

import msgspec

from millstream.clock import Micros, to_micros
from millstream.errors import DeadLetterError, LogUnavailableError
from millstream.event import Event, to_columns
from millstream.ledger.letter import Letter
from millstream.ledger.names import DEAD_LETTERS, RESOLVED
from millstream.ledger.resets import RESET
from millstream.ledger.scan import Range, batches, event_at, event_named, events, ranges, time_of
from millstream.log import Group, GroupStatus, Log, StreamSpec, Transaction
from millstream.topic import filter_matches

RESENT, DROPPED = "resent", "dropped"
"""What is done about dead letters, and how the operators' group counts it."""

_OPERATORS = "$operators"  # a group without streams
_DESK = "desk"  # the chunk of its state by which a transaction of someone else's is fenced
_WAIT_SECONDS = 5.0


class Resolution(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was done about a dead letter: `resent` to a group, with another payload if `edited`, or `dropped`."""

    letter: str
    action: str
    group: str | None = None
    edited: bool = False
    time: datetime | None = None


class Wanted(msgspec.Struct, frozen=True):
    """Which dead letters: of a group, of which a reason or error has a text, of topics, from a moment on."""

    group: str | None = None
    reason: str | None = None
    topics: str | None = None
    since: Micros | None = None

    def matches(self, letter: Letter) -> bool:
        """Whether a dead letter (from that moment on) is wanted."""
        return (
            (self.group is None or letter.group == self.group)
            and (self.reason is None or self.reason in letter.reason or self.reason in (letter.error or ""))
            and (self.topics is None or filter_matches(self.topics, letter.topic))
        )


async def resolutions(log: Log) -> dict[str, Resolution]:
    """What was done, by the dead letter's name."""
    found = {}
    async for event in events(log, RESOLVED):
        one = msgspec.json.decode(event.payload, type=Resolution)
        found[one.letter] = msgspec.structs.replace(one, time=time_of(event))
    return found


async def letters(
    log: Log, wanted: Wanted | None = None, pieces: Sequence[Range] | None = None
) -> AsyncIterator[Letter]:
    """The dead letters that are there now (or that are in these `pieces`), resolved or not, partition by partition."""
    wanted = wanted or Wanted()
    for piece in await ranges(log, DEAD_LETTERS, wanted.since) if pieces is None else pieces:
        async for batch in batches(log, piece):
            for event in batch:
                if wanted.matches(letter := Letter(event)):
                    yield letter


async def find(log: Log, name: str) -> Letter:
    """The dead letter `PARTITION:OFFSET` (`$deadletters:` may stand before it). `DeadLetterError` if there is none."""
    partition, _, offset = name.removeprefix(f"{DEAD_LETTERS}:").partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise DeadLetterError(f"{name!r} names no dead letter; they are called PARTITION:OFFSET, as in the list")
    spec = (await log.streams()).get(DEAD_LETTERS)
    event = None
    if spec is not None and int(partition) < spec.partitions:
        event = await event_at(log, DEAD_LETTERS, int(partition), int(offset))
    if event is None:
        raise DeadLetterError(f"there is no dead letter {name}; perhaps retention has dropped it")
    return Letter(event)


async def named(log: Log, name: str) -> Sequence[Letter]:
    """The dead letter `PARTITION:OFFSET`, or all those of the event `STREAM:PARTITION:OFFSET`, which several groups may
    have given up. `DeadLetterError` if there is none."""
    if name.removeprefix(f"{DEAD_LETTERS}:").count(":") < 2:
        return [await find(log, name)]
    event = await event_named(log, name)
    since = None if event is None else to_micros(time_of(event))
    found = [letter async for letter in letters(log, Wanted(since=since)) if letter.origin == name]
    if not found:
        raise DeadLetterError(f"there is no dead letter of {name}; see: millstream deadletters list")
    return found


class Operator:
    """Whoever resolves dead letters and resets keys. Made by `at_work`."""

    def __init__(
        self, desk: Group, resolved: set[str], streams: Mapping[str, StreamSpec], groups: Sequence[GroupStatus]
    ) -> None:
        self._desk = desk
        self._resolved = resolved
        self._streams = streams
        self._groups = groups

    @classmethod
    @contextlib.asynccontextmanager
    async def at_work(cls, log: Log) -> AsyncIterator[Operator]:
        """Take the desk. `LogUnavailableError`: no server runs, or somebody else is at it."""
        await log.create(StreamSpec(RESOLVED, partitions=1))
        desk = await log.join(_OPERATORS, [])
        try:
            if 0 not in (await desk.poll(1, _WAIT_SECONDS, pause=True)).gained:
                raise LogUnavailableError("another operator is at work; try again when they have finished")
            yield cls(desk, set(await resolutions(log)), await log.streams(), await log.groups())
        finally:
            await desk.leave()

    def is_open(self, letter: Letter) -> bool:
        """Whether nothing was done about it yet."""
        return letter.name not in self._resolved

    def check(self, letter: Letter, to: str | None = None) -> None:
        """`DeadLetterError` if it cannot be sent again to the group that gave it up, or the group `to`."""
        if letter.stream not in self._streams:
            raise DeadLetterError(f"dead letter {letter.name} came from stream {letter.stream!r}, which is gone")
        group = to or letter.group
        readers = {one.name for one in self._groups if (letter.stream, letter.partition) in one.positions}
        if group not in readers:
            known = ", ".join(sorted(readers)) or "none"
            raise DeadLetterError(
                f"dead letter {letter.name} cannot go to group {group!r}, which does not read stream "
                f"{letter.stream!r}; choose one that does with --to: {known}"
            )

    async def resend(self, found: Sequence[Letter], *, to: str | None = None, payload: bytes | None = None) -> None:
        """Append the events to their streams again, each for the group that gave it up (or the group `to`) and for no
        other. `DeadLetterError`, and nothing is sent, if one cannot be."""
        transaction = self._begin(found, RESENT, to, edited=payload is not None)
        by_place: dict[tuple[str, int], list[Event]] = {}
        for letter in found:
            self.check(letter, to)
            again = letter.again(to or letter.group, payload)
            by_place.setdefault((letter.stream, letter.partition), []).append(again)
        for (stream, partition), events_again in by_place.items():
            transaction.append(stream, partition, to_columns(events_again))
        await transaction.commit()
        self._resolved.update(letter.name for letter in found)

    async def drop(self, found: Sequence[Letter]) -> None:
        """Give the events up for good. They stay in the stream of dead letters."""
        await self._begin(found, DROPPED).commit()
        self._resolved.update(letter.name for letter in found)

    async def reset(self, resets: Sequence[tuple[str, int, Event]]) -> Sequence[str]:
        """Append resets to the partitions of a stream. Gives their positions."""
        transaction = self._desk.transaction()
        for stream, partition, event in resets:
            transaction.append(stream, partition, to_columns([event]))
        transaction.save(0, _DESK, b"")
        transaction.count(RESET, len(resets))
        committed = await transaction.commit()
        places = zip(resets, committed.first_offsets, strict=True)
        return [f"{stream}:{partition}:{offset}" for (stream, partition, _), offset in places]

    def _begin(self, found: Sequence[Letter], action: str, to: str | None = None, edited: bool = False) -> Transaction:
        transaction = self._desk.transaction()
        notes = []
        for letter in found:
            if not self.is_open(letter):
                raise DeadLetterError(
                    f"dead letter {letter.name} is resolved already; see: millstream deadletters show {letter.name}"
                )
            group = (to or letter.group) if action == RESENT else None
            note = Resolution(letter.name, action, group, edited)
            notes.append(Event(topic=RESOLVED, key=letter.name, type=action, payload=msgspec.json.encode(note)))
        transaction.append(RESOLVED, 0, to_columns(notes))
        transaction.save(0, _DESK, b"")
        transaction.count(action, len(found))
        return transaction
