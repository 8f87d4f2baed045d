"""Somebody who uses a log in a fixed order, and remembers what he was promised.

He appends to the stream `in`, one event at a time and several transactions together, and a processor reads it: its
outputs, its state, its position and its counts are one transaction. Meanwhile the log merges, checkpoints, ticks and
drops what is too much in the stream `bounded`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from tests.support.disk import Disk, disk
from tests.support.records import LIMIT, SETTINGS, append, events, everything

from millstream.clock import SECOND, VirtualClock
from millstream.errors import DiskFaultError, DiskFullError, LogError
from millstream.event import Batch
from millstream.log import EARLIEST, Group, Log, Position, StreamSpec, Transaction
from millstream.log.sqlite import SqliteLog

PARTITIONS = 2
STREAMS = (
    StreamSpec("in", partitions=PARTITIONS),
    StreamSpec("out", partitions=PARTITIONS),
    StreamSpec("bounded", partitions=1, retention_bytes=4_000),
)
GROUP = "doubler"

Step = tuple[str, int]
"""What is done and how much of it: `one` (append one event of that size), `many` (transactions at the same time),
`bounded` (append to that stream), `process` (a turn of the processor), `tick` (seconds go by), `reopen`."""

SCRIPT: Sequence[Step] = (
    ("one", 10),
    ("process", 1),
    ("many", 5),
    ("one", 9_000),
    ("process", 1),
    ("tick", 2),
    ("bounded", 6),
    ("many", 3),
    ("process", 1),
    ("reopen", 1),
    ("one", 30_000),
    ("process", 1),
    *[("one", 10)] * 6,
    ("tick", 2),
    ("process", 1),
    ("bounded", 4),
    ("one", 10),
    ("process", 1),
)

T = TypeVar("T")


class Again(Protocol):
    """Does something, and again where that helps."""

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T: ...


class State(msgspec.Struct):
    """What the processor keeps of a partition."""

    events: int = 0
    last: str = ""


@dataclass
class Promised:
    """What was promised, each with the number of changes of the disk by then."""

    opened: int | None = None
    attempted: dict[tuple[str, int], list[str]] = field(default_factory=lambda: defaultdict(list))
    rounds: dict[str, int] = field(default_factory=dict)  # payload → the step it belongs to: those of one are together
    acknowledged: list[tuple[str, int, str, int]] = field(default_factory=list)  # stream, partition, payload
    processed: list[tuple[int, int, int]] = field(default_factory=list)  # partition, position
    error: LogError | None = None

    def by(self, changes: int) -> Promised:
        """What had been promised when so many changes were made."""
        return Promised(
            self.opened if self.opened is not None and self.opened <= changes else None,
            self.attempted,
            self.rounds,
            [each for each in self.acknowledged if each[-1] <= changes],
            [each for each in self.processed if each[-1] <= changes],
        )


class Processor:
    """Doubles every event, exactly once."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._states: dict[int, State] = {}
        self._group: Group | None = None

    async def turn(self, again: Again) -> Mapping[int, int]:
        """Process what has come; the new positions. `again` does what may find no room on the disk."""
        if self._group is None:
            self._group = await again(lambda: self._log.join(GROUP, ["in"], start=EARLIEST))
        poll = await self._group.poll(LIMIT, 0.0)
        if poll.gained:
            for partition in poll.gained:
                chunks = await self._group.state(partition)
                self._states[partition] = (
                    msgspec.json.decode(chunks["state"], type=State) if "state" in chunks else State()
                )
            poll = await self._group.poll(LIMIT, 0.0) if not poll.batches else poll
        if not poll.batches:
            return {}
        transaction = self._group.transaction()
        for batch in poll.batches:
            self._step(batch, transaction)
        await again(transaction.commit)
        return {batch.partition: batch.next_offset for batch in poll.batches}

    def _step(self, batch: Batch, transaction: Transaction) -> None:
        state = self._states[batch.partition]
        texts = [event.payload.decode() for event in batch]
        if texts:
            state.events += len(texts)
            state.last = texts[-1]
            transaction.append("out", batch.partition, events(*map(double, texts)))
        transaction.save(batch.partition, "state", msgspec.json.encode(state))
        transaction.position(batch.stream, batch.partition, Position(batch.next_offset))
        transaction.due(batch.stream, batch.partition, SECOND * (1 + state.events))  # a tick, sooner or later
        transaction.count("doubled", len(texts))


def double(text: str) -> str:
    return f"2 × {text[:100]}"


class Player:
    """Plays a script on a disk, until the log says that it cannot go on."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.promised = Promised()
        self._folder = folder
        self._disk = disk
        self._clock = VirtualClock()
        self._log: SqliteLog | None = None
        self._processor: Processor | None = None
        self._round = 0
        self._numbers: Counter[tuple[str, int]] = Counter()

    async def play(self, script: Sequence[Step]) -> Promised:
        """Raises what no caller of a log expects: anything but its errors."""
        try:
            await self._open()
            for self._round, (name, amount) in enumerate(script):
                await getattr(self, f"_{name}")(amount)
        except LogError as error:
            self.promised.error = error
            await self._expect_nothing_more()
        return self.promised

    async def close(self) -> None:
        """End it on a disk that works again, so that nothing is left open."""
        self._disk.fault = None
        if self._log is not None:
            await self._log.close()

    async def _open(self) -> None:
        self._log = await self._with_room(
            lambda: SqliteLog.open(self._folder, SETTINGS, self._clock, vfs=self._disk.name)
        )
        for spec in STREAMS:
            await self._with_room(lambda spec=spec: self.log.create(spec))  # type: ignore[misc]
        self._processor = Processor(self.log)
        self.promised.opened = len(self._disk.changes)

    @property
    def log(self) -> SqliteLog:
        assert self._log is not None
        return self._log

    async def _one(self, size: int) -> None:
        await self._append("in", 0, self._text("in", 0, size))

    async def _many(self, count: int) -> None:
        texts = [(number % PARTITIONS, self._text("in", number % PARTITIONS, 10)) for number in range(count)]
        results = await asyncio.gather(
            *(self._append("in", partition, text) for partition, text in texts), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _bounded(self, count: int) -> None:
        for _ in range(count):
            await self._append("bounded", 0, self._text("bounded", 0, 1_000))

    async def _process(self, turns: int) -> None:
        for _ in range(turns):
            assert self._processor is not None
            moved = await self._processor.turn(self._with_room)
            changes = len(self._disk.changes)
            self.promised.processed += [(partition, position, changes) for partition, position in moved.items()]

    async def _tick(self, seconds: int) -> None:
        for _ in range(seconds):
            await self._clock.advance(1)
            await self.log.bounds("in", 0)  # behind what is due now

    async def _reopen(self, _: int) -> None:
        await self.log.close()
        await self._open()

    async def _append(self, stream: str, partition: int, text: str) -> None:
        await self._with_room(lambda: append(self.log, stream, partition, text))
        self.promised.acknowledged.append((stream, partition, text, len(self._disk.changes)))

    def _text(self, stream: str, partition: int, size: int) -> str:
        number = self._numbers[stream, partition]
        self._numbers[stream, partition] += 1
        text = f"{stream} {partition} {number} ".ljust(size, "x")
        self.promised.attempted[stream, partition].append(text)
        self.promised.rounds[text] = self._round
        return text

    async def _with_room(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it, again when somebody has made room: a full disk changes nothing and may be tried again."""
        try:
            return await work()
        except DiskFullError:
            self._disk.fault = None
            return await work()

    async def _expect_nothing_more(self) -> None:
        """After a fault nothing is acknowledged any more, also when the disk works again."""
        if not isinstance(self.promised.error, DiskFaultError) or self._log is None:
            return
        self._disk.fault = None
        for stream in ("in", "bounded"):
            try:
                await append(self.log, stream, 0, "after the fault")
            except DiskFaultError:
                continue
            raise AssertionError("something was acknowledged after a fault of the disk")


# --- what must be true afterwards


async def check(folder: Path, promised: Promised) -> None:
    """Open what is left. Raises `AssertionError` at the first promise that is broken: now, and when it has gone on."""
    with disk() as sound:
        log = await SqliteLog.open(folder, SETTINGS, VirtualClock(), vfs=sound.name)
        try:
            await _check(log, promised)
        finally:
            await log.close()


async def _check(log: Log, promised: Promised) -> None:
    missing = {spec.name for spec in STREAMS} - (await log.streams()).keys()
    assert not missing or promised.opened is None
    for spec in STREAMS:
        await log.create(spec)
    await _check_streams(log, promised)
    await _check_processor(log, promised)
    processor = Processor(log)
    while await processor.turn(_once):
        pass
    await append(log, "in", 1, "the next one")
    await processor.turn(_once)
    await _check_processor(log, promised, complete=True)


async def _once(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


async def _check_streams(log: Log, promised: Promised) -> None:
    for (stream, partition), attempted in promised.attempted.items():
        found = [text for _, text in await _read(log, stream, partition)]
        places = [attempted.index(text) for text in found]
        assert len(set(places)) == len(places), f"{stream} {partition}: {places} are there twice"
        rounds = [promised.rounds[text] for text in found]
        assert rounds == sorted(rounds), f"{stream} {partition}: {places} are out of order"
        safe = [text for name, number, text, _ in promised.acknowledged if (name, number) == (stream, partition)]
        if stream == "bounded":  # retention may have taken the oldest
            safe = safe[safe.index(found[0]) :] if found and found[0] in safe else []
        lost = [attempted.index(text) for text in safe if text not in found]
        assert not lost, f"{stream} {partition}: {lost} were acknowledged and are gone"


async def _check_processor(log: Log, promised: Promised, *, complete: bool = False) -> None:
    group = next((group for group in await log.groups() if group.name == GROUP), None)
    positions = {number: position.low for (_, number), position in group.positions.items()} if group else {}
    for partition, position, _ in promised.processed:
        assert positions[partition] >= position, f"partition {partition} was processed up to {position}"
    doubled = 0
    for partition in range(PARTITIONS):
        inputs = await _read(log, "in", partition)
        read = [text for offset, text in inputs if offset < positions.get(partition, 0)]
        assert not complete or len(read) == len(inputs)
        outputs = [text for _, text in await _read(log, "out", partition)]
        assert outputs == [double(text) for text in read], f"partition {partition}"
        doubled += len(read)
        if group is not None and not complete:
            await _check_state(log, partition, read)
    counted = group.counts.get("doubled", 0) if group is not None else 0
    assert counted == doubled


async def _check_state(log: Log, partition: int, read: Sequence[str]) -> None:
    group = await log.join(GROUP, ["in"])
    await group.poll(LIMIT, 0.0, pause=True)
    chunks = await group.state(partition)
    await group.leave()
    state = msgspec.json.decode(chunks["state"], type=State) if "state" in chunks else State()
    assert state == State(len(read), read[-1] if read else "")


async def _read(log: Log, stream: str, partition: int) -> list[tuple[int, str]]:
    return [
        (event.offset or 0, event.payload.decode())
        async for batch in everything(log, stream, partition)
        for event in batch
    ]
