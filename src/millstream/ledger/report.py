"""What an operator asks in the morning: did everything end where it should, and what was set aside?

Counts are of all time, because only their sums are kept. What was set aside has times, and can be asked for since a
moment: dead letters, late events, and traces of what the gateway refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import pyarrow.compute as pc

from millstream.clock import Micros, to_micros
from millstream.event import Batch
from millstream.ledger.balance import equations, is_processor, outcomes, rejected_by_reason
from millstream.ledger.deadletters import Wanted, letters, resolutions
from millstream.ledger.letter import Letter
from millstream.ledger.names import (
    COMMITTED,
    DUPLICATES,
    GATEWAY,
    OUTCOMES,
    RECEIVED,
    REJECTIONS,
    TRANSIENT,
    late_stream,
)
from millstream.ledger.rejection import Rejection
from millstream.ledger.scan import batches, events, ranges, time_of
from millstream.log import Accounts, GroupAccount, Log, StreamAccount

_KINDS = 200  # of dead letters, one by one
_OTHERS = "(others)"


class GatewayCounts(msgspec.Struct, frozen=True):
    """What came in, and where it ended; `rejected` by reason."""

    received: int
    committed: int
    duplicates: int
    transient: int
    rejected: Mapping[str, int]


class StreamCounts(msgspec.Struct, frozen=True):
    """`events` were ever in the stream: `held` are there, `dropped` by retention. `sources`: in whose transactions."""

    stream: str
    events: int
    held: int
    dropped: int
    sources: Mapping[str, int]


class GroupCounts(msgspec.Struct, frozen=True):
    """`read` events of `streams` ended in `outcomes`; `lag` are still to be read. `notes` is what else was counted."""

    group: str
    streams: Sequence[str]
    read: int
    outcomes: Mapping[str, int]
    lag: int
    notes: Mapping[str, int]


class Balance(msgspec.Struct, frozen=True):
    """An equation, and whether it holds."""

    text: str
    holds: bool


class Aside(msgspec.Struct):
    """Dead letters of one kind (see `Letter.kind`) of a group: how many, how many of them wait for an operator, since
    when, until when, and the last one's name and why it is there."""

    group: str
    kind: str
    events: int
    open: int
    first: datetime
    last: datetime
    letter: str
    why: str

    def add(self, letter: Letter, is_open: bool) -> None:
        at = time_of(letter.event)
        self.events += 1
        self.open += is_open
        self.first = min(self.first, at)
        if at >= self.last:
            self.last, self.letter, self.why = at, letter.name, letter.error or letter.reason


class Late(msgspec.Struct, frozen=True):
    """Late events of a query: how many, in which stream, since when and until when."""

    group: str
    stream: str
    events: int
    first: datetime
    last: datetime


class Trace(msgspec.Struct, frozen=True):
    """A refused event."""

    time: datetime
    reason: str
    client: str
    topic: str
    text: str
    payload: bytes


class Report(msgspec.Struct, frozen=True):
    """The answer. `dead_letters`, `late` and `traces` are since `since`, everything else of all time."""

    since: datetime | None
    balanced: bool
    gateway: GatewayCounts
    streams: Sequence[StreamCounts]
    groups: Sequence[GroupCounts]
    balances: Sequence[Balance]
    dead_letters: Sequence[Aside]
    late: Sequence[Late]
    traces: Sequence[Trace]


async def report(log: Log, since: datetime | None, traces: int) -> Report:
    """Ask a log. At most the last so many `traces`."""
    accounts = await log.accounts()
    rows = equations(accounts)
    micros = None if since is None else to_micros(since)
    return Report(
        since,
        all(row.holds for row in rows),
        _gateway(accounts),
        [_stream(stream) for stream in accounts.streams.values()],
        [_group(group) for group in accounts.groups.values() if is_processor(group)],
        [Balance(str(row), row.holds) for row in rows],
        await _dead_letters(log, micros),
        await _late(log, accounts, micros),
        await _traces(log, micros, traces),
    )


def _gateway(accounts: Accounts) -> GatewayCounts:
    counts = accounts.groups[GATEWAY].status.counts if GATEWAY in accounts.groups else {}
    received, committed, duplicates, transient = (
        counts.get(name, 0) for name in (RECEIVED, COMMITTED, DUPLICATES, TRANSIENT)
    )
    return GatewayCounts(received, committed, duplicates, transient, rejected_by_reason(counts))


def _stream(stream: StreamAccount) -> StreamCounts:
    return StreamCounts(stream.name, stream.events, stream.events - stream.dropped, stream.dropped, stream.sources)


def _group(group: GroupAccount) -> GroupCounts:
    ends = {name: n for name, n in outcomes(group).items() if n}
    notes = {name: n for name, n in group.status.counts.items() if name not in OUTCOMES}
    read = sum(group.read.values()) + group.expired
    return GroupCounts(group.name, sorted(group.read), read, ends, sum(group.status.lag.values()), notes)


async def _dead_letters(log: Log, since: Micros | None) -> list[Aside]:
    resolved = await resolutions(log)
    found: dict[tuple[str, str], Aside] = {}
    async for letter in letters(log, Wanted(since=since)):
        at = time_of(letter.event)
        key = (letter.group, letter.kind)
        if key not in found and len(found) >= _KINDS:
            key = (letter.group, _OTHERS)
        found.setdefault(key, Aside(*key, 0, 0, at, at, "", "")).add(letter, letter.name not in resolved)
    return sorted(found.values(), key=lambda one: (one.group, -one.events))


async def _late(log: Log, accounts: Accounts, since: Micros | None) -> list[Late]:
    found = []
    for group in accounts.groups:
        stream = late_stream(group)
        spans = [_span(batch) for piece in await ranges(log, stream, since) async for batch in batches(log, piece)]
        if spans:
            counts, firsts, lasts = zip(*spans, strict=True)
            found.append(Late(group, stream, sum(counts), min(firsts), max(lasts)))
    return found


def _span(batch: Batch) -> tuple[int, datetime, datetime]:
    bounds = pc.min_max(batch.events.column("time")).as_py()
    return len(batch), bounds["min"], bounds["max"]


async def _traces(log: Log, since: Micros | None, most: int) -> list[Trace]:
    found: deque[Trace] = deque(maxlen=most)
    async for event in events(log, REJECTIONS, since):
        its = Rejection.of(event)
        found.append(Trace(time_of(event), its.reason, its.client, its.topic, its.text, its.payload))
    return list(found)
