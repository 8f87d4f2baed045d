"""What a durable log promises, whatever stands behind it.

A *stream* is an ordered log in *partitions*. Every record of a partition has an *offset*; offsets increase and may
have gaps. A record is an event or a tick. A *group* keeps its own position in its streams, and its *members* share
the partitions: each partition number has one owner at a time, the same for all streams of the group. A *transaction*
is all or nothing: the events it appends, the state chunks it saves and drops, the positions it moves, the counts it
adds.

Every method is a coroutine of the running event loop; an object is used from one loop only.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol

import pyarrow as pa

from millstream.clock import Micros
from millstream.event import Batch
from millstream.topic import Filter

EARLIEST: Literal["earliest"] = "earliest"
LATEST: Literal["latest"] = "latest"
Start = Literal["earliest", "latest"]

MAX_CHUNK_BYTES = 512 * 1024
"""The largest state chunk. Kafka refuses records of more than 1 MB by default; half of it leaves room."""


class Commits(enum.Enum):
    """What a committed append is safe against; the embedded log promises the first, Kafka the second."""

    DISK = "disk"
    REPLICAS = "replicas"


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream as it is declared.

    `topics` are filters (names in braces allowed): an event published on a topic that any of them matches is
    captured. `key` is a name that every filter has; without one, the key is the event's own (CloudEvents
    `partitionkey`), else its topic. Key and number of partitions never change once the stream exists. Retention
    drops the oldest events, in slices, beyond an age or a size in bytes a stream; None keeps everything.
    """

    name: str
    topics: tuple[str, ...] = ()
    key: str | None = None
    partitions: int = 8
    retention_age: timedelta | None = None
    retention_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """`first` is the lowest offset still there, `next` the one that the next record gets. Empty: they are equal.

    `events` is how many of the records in between are events; a backend that cannot tell counts all offsets.
    `first_time` and `last_time` are the commit times of the oldest and newest record, None when empty."""

    first: int
    next: int
    events: int = 0
    first_time: Micros | None = None
    last_time: Micros | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """How far a group is in a partition: every offset below `low` is completed, and those in `done` above it
    (ascending, none equal to `low`)."""

    low: int
    done: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Poll:
    """What has happened to a member since its last poll, in the order of the fields.

    `lost`: partitions that another member waits for. Finish or forget what is under way, commit, and `release`
    them; they are not polled any more. After `FencedError` they are gone already.
    `gained`: partitions that are now this member's, with the group's committed position per stream. Their batches
    begin at `Position.low`, without the offsets in `done`.
    `expired`: offsets (stream, partition) → how many events retention took before the group had read them.
    `batches`: at most one for each stream and partition, in order; never empty of all: events, ticks, and events that
    were left out.
    """

    lost: frozenset[int] = frozenset()
    gained: Mapping[int, Mapping[str, Position]] = field(default_factory=dict)
    expired: Mapping[tuple[str, int], int] = field(default_factory=dict)
    batches: Sequence[Batch] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """The outcome of a transaction: the commit time, and the first offset of each append in the order of the calls
    (the append's events have consecutive offsets from there on, unless others append to the partition meanwhile)."""

    time: Micros
    first_offsets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A group as an operator sees it. `positions` and `lag` (events between position and end; a backend that cannot
    tell counts offsets where there are many) are by stream and partition; `members` counts the live ones; `counts` are
    all that transactions counted, by name."""

    name: str
    members: int
    positions: Mapping[tuple[str, int], Position]
    lag: Mapping[tuple[str, int], int]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StreamAccount:
    """What went into a stream since it was made. `events` are all that were ever appended to it, `dropped` those of
    them that retention has taken since; `sources` says how many came in whose transactions, by group ("": nobody's). A
    backend that cannot tell any more what is gone counts its offsets, as `unknown`: they are in no source."""

    name: str
    events: int
    dropped: int
    sources: Mapping[str, int]
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class GroupAccount:
    """What a group has done since it first joined (the members in `status` are not known).

    `read` are the events that its positions have passed or list as completed, by stream, since it began at `starts`
    (offsets by stream and partition); a backend may forget those of streams that are dropped. `expired` are those that
    retention took before they were read, and that no
    member has been told of yet: a transaction will count them."""

    status: GroupStatus
    read: Mapping[str, int]
    expired: int
    starts: Mapping[tuple[str, int], int]

    @property
    def name(self) -> str:
        return self.status.name


@dataclass(frozen=True, slots=True)
class Accounts:
    """Every stream and every group as of one moment, so that what is counted in two places can be compared."""

    streams: Mapping[str, StreamAccount]
    groups: Mapping[str, GroupAccount]


class Transaction(Protocol):
    """Gathers changes; `commit` makes all of them durable, or none."""

    def append(self, stream: str, partition: int, events: pa.RecordBatch) -> None:
        """Append events (columns of `EVENT_SCHEMA`, keys filled in) behind all that are in the partition."""
        ...

    def save(self, partition: int, name: str, chunk: bytes) -> None:
        """Save a chunk of the group's state in a partition number, over one of the same name.

        At most `MAX_CHUNK_BYTES`."""
        ...

    def drop(self, partition: int, name: str) -> None:
        """Drop a chunk. One that is not there is fine."""
        ...

    def position(self, stream: str, partition: int, position: Position) -> None:
        """Move the group's position. It may not move back."""
        ...

    def due(self, stream: str, partition: int, at: Micros | None) -> None:
        """Ask for a tick in the partition when the log's clock reaches `at`; replaces what this group asked for
        there before, None takes it back. Survives a restart, but where nobody owns the partition it may wait for the
        next owner. One tick serves every group of the process that appends it, and all who read it."""
        ...

    def count(self, name: str, n: int) -> None:
        """Add `n` to one of the group's counts. Names that begin with `$` are the log's own (`ValueError`)."""
        ...

    def show(self, events: pa.RecordBatch) -> None:
        """Give events (columns of `EVENT_SCHEMA`) to the subscribers of the moment as soon as they are committed, in
        the order of commits, whatever becomes of the caller meanwhile. Whoever has the log says who these are."""
        ...

    async def commit(self) -> Committed:
        """Return once everything is durable, in the order of the calls of `commit`; reads of the same log find it then,
        those of other processes soon.

        `FencedError`: the member does not own a partition it commits; nothing is done. `UnknownStreamError`: nothing is
        done. `DiskFullError`: nothing is done, and the same transaction may be committed again.
        `DiskFaultError`, `LogUnavailableError`: the outcome is unknown."""
        ...


class Group(Protocol):
    """One member's view of a consumer group."""

    name: str

    async def poll(self, limit_bytes: int, timeout: float | None = None, pause: bool = False) -> Poll:
        """What has happened since the last poll; waits for it, at most `timeout` seconds (None: without end), and then
        gives an empty `Poll`. Batches hold about `limit_bytes` of payload together (at least one event), taken fairly
        from all partitions of which something is here. With `pause` it brings and waits for no batches, only changes of
        ownership. It may be cancelled at any time: what it would have told, the next one tells.

        `LogUnavailableError`: the membership is over; join again."""
        ...

    async def state(self, partition: int) -> Mapping[str, bytes]:
        """The state chunks of a partition number that this member owns, ordered by name."""
        ...

    def transaction(self) -> Transaction:
        """A transaction on behalf of this member: state and positions of partitions that it owns."""
        ...

    async def release(self, partitions: frozenset[int]) -> None:
        """Give partitions up (those in `Poll.lost`, or on the way out)."""
        ...

    async def leave(self) -> None:
        """End the membership at once; its partitions go to the others. Idempotent."""
        ...


class Log(Protocol):
    """A durable log."""

    commits: Commits

    async def create(self, spec: StreamSpec) -> None:
        """Make a stream, or bring an existing one's filters and retention up to `spec`. Idempotent.
        `StreamMismatchError` if it exists with another key or number of partitions."""
        ...

    async def drop(self, name: str) -> None:
        """Drop a stream with all its events and the groups' positions in it. `UnknownStreamError` if there is none."""
        ...

    async def streams(self) -> Mapping[str, StreamSpec]:
        """The streams there are, by name."""
        ...

    def watch_streams(self, changed: Callable[[Mapping[str, StreamSpec]], None]) -> None:
        """Call back with the streams there are, soon and after every change, from the event loop."""
        ...

    async def read(
        self, stream: str, partition: int, offset: int, *, limit_bytes: int = 1 << 20, wait: float | None = 0.0
    ) -> Batch:
        """The records from `offset` on, about `limit_bytes` of payload (at least one event if there is any). An offset
        below the first one reads from the first. Where there is nothing yet it waits up to `wait` seconds (None:
        without end), then gives an empty batch with `next_offset == offset`."""
        ...

    async def bounds(self, stream: str, partition: int) -> Bounds:
        """Where the partition begins and ends."""
        ...

    async def offset_at(self, stream: str, partition: int, time: Micros) -> int:
        """The offset of the first record committed at or after `time`; the next offset if there is none."""
        ...

    async def join(
        self,
        group: str,
        streams: Sequence[str],
        *,
        start: Start = LATEST,
        topics: Filter | None = None,
        columns: Collection[str] | None = None,
    ) -> Group:
        """Become a member of a group. Where the group has no position in a partition yet, it gets one at the stream's
        earliest or latest record, durably, before `join` returns. A group without streams has partition 0 (for state
        only). `topics` says that the member wants events on these topics, and no ticks: a backend that can leaves out
        the rest, and says so in `Batch.selection`; it may tell of the rest a second later. `columns` names those of
        `EVENT_SCHEMA` that the member looks at: a backend to which the others are dear leaves them null, and says so
        in `Batch.is_sparse`; but never of events that are sent to one group again (`RESEND_GROUP`)."""
        ...

    async def state(self, group: str, partition: int) -> Mapping[str, bytes]:
        """The state chunks that a group has saved for a partition number, ordered by name, as of its last commit. None
        for a group that there is not."""
        ...

    async def groups(self) -> Sequence[GroupStatus]:
        """Every group that has a position or a member."""
        ...

    async def accounts(self) -> Accounts:
        """Where everything ended, as of one moment."""
        ...

    def transaction(self) -> Transaction:
        """A transaction that only appends and counts, on behalf of no group."""
        ...

    async def close(self) -> None:
        """Finish what is being committed and close. Idempotent."""
        ...
