"""`millstream tail`: the events of a stream in the order in which they were committed, over all its partitions.

It goes in rounds. A round takes a horizon, the time of the newest record that any partition has; everything up to
there is committed, so what the partitions hold up to there can be merged by time, and nothing can come in between
later. What is newer belongs to the next round.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path

from millstream.cli import output
from millstream.cli.lines import json_line, text_line
from millstream.cli.pipe import until_reader_leaves
from millstream.cli.place import load_settings, open_log
from millstream.clock import Micros, to_micros
from millstream.errors import LogUnavailableError, SettingsError, UnknownStreamError
from millstream.event import Event
from millstream.log import EARLIEST, LATEST, Log

ROUND_BYTES = 32 << 20  # read ahead over all partitions: what a merge has to hold
_OFFSET_DIGITS = 18  # more are no 64-bit integer

Start = str | int | datetime


def tail(
    stream: str, start: str, follow: bool, json: bool, limit: int | None, data: Path | None, config: Path | None
) -> None:
    """Print the events of a stream, at most `limit`; with `follow`, for ever."""
    settings = load_settings(config, data=data)
    from_ = parse_start(start)
    printing = _print(Printer(json_line if json else text_line, limit), settings.data, stream, from_, follow)
    asyncio.run(until_reader_leaves(printing))


def parse_start(text: str) -> Start:
    """`earliest`, `latest`, an offset or a moment. `SettingsError` if it is none of them."""
    if text in (EARLIEST, LATEST):
        return text
    if text.isdecimal() and len(text) <= _OFFSET_DIGITS:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"--from {text}: say earliest, latest, an offset, or a time such as 2026-01-31T12:00:00Z"
        ) from None
    if moment.tzinfo is None:
        raise SettingsError(f"--from {text}: which time zone? For UTC write {moment.isoformat()}Z")
    return moment


class Printer:
    """Writes lines to standard output until `limit` of them are written."""

    def __init__(self, form: Callable[[Event], bytes], limit: int | None) -> None:
        self._form = form
        self._left = limit

    @property
    def full(self) -> bool:
        return self._left == 0

    def write(self, event: Event) -> None:
        sys.stdout.buffer.write(self._form(event) + b"\n")
        if self._left is not None:
            self._left -= 1

    def flush(self) -> None:
        sys.stdout.buffer.flush()


async def _print(printer: Printer, folder: Path, stream: str, start: Start, follow: bool) -> None:
    positions: dict[int, int] = {}
    while True:
        try:
            async with open_log(folder) as log:
                if not positions:
                    positions = await find_positions(log, stream, start)
                await _print_from(printer, Merge(log, stream, positions), follow)
                return
        except LogUnavailableError:
            if not follow:
                raise
            output.tell("the server has gone; reading on without it")


async def _print_from(printer: Printer, merge: Merge, follow: bool) -> None:
    while True:
        async for event in merge.round():
            printer.write(event)
            if printer.full:
                break
        printer.flush()
        if printer.full or not follow:
            return
        await merge.wait()


async def find_positions(log: Log, stream: str, start: Start) -> dict[int, int]:
    """Where to begin in each partition. `UnknownStreamError`, with the names that there are."""
    known = await log.streams()
    if stream not in known:
        names = ", ".join(sorted(known)) or "none"
        raise UnknownStreamError(f"no stream {stream!r} in this data folder; there are: {names}")
    return {
        partition: await _find_position(log, stream, partition, start) for partition in range(known[stream].partitions)
    }


async def _find_position(log: Log, stream: str, partition: int, start: Start) -> int:
    if isinstance(start, int):
        return start
    if isinstance(start, datetime):
        return await log.offset_at(stream, partition, to_micros(start))
    bounds = await log.bounds(stream, partition)
    return bounds.first if start == EARLIEST else bounds.next


class Merge:
    """The partitions of a stream as one sequence. `positions` is kept up to date: the offsets to read on from."""

    def __init__(self, log: Log, stream: str, positions: dict[int, int]) -> None:
        self._log = log
        self._stream = stream
        chunk = max(ROUND_BYTES // max(len(positions), 1), 1 << 16)
        self._cursors = [Cursor(log, stream, partition, positions, chunk) for partition in positions]

    async def round(self) -> AsyncIterator[Event]:
        """The events that are committed by now, by commit time."""
        horizon = await self._horizon()
        heap: list[tuple[Micros, int, Cursor]] = []
        for cursor in self._cursors:
            await _push(heap, cursor, horizon)
        while heap:
            _, _, cursor = heapq.heappop(heap)
            yield cursor.pop()
            await _push(heap, cursor, horizon)

    async def wait(self) -> None:
        """Return when there is something that the last round did not have."""
        if any(cursor.loaded for cursor in self._cursors):
            return
        waiting = [asyncio.create_task(cursor.wait()) for cursor in self._cursors]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _horizon(self) -> Micros:
        bounds = [await self._log.bounds(self._stream, cursor.partition) for cursor in self._cursors]
        return max((bound.last_time for bound in bounds if bound.last_time is not None), default=0)


async def _push(heap: list[tuple[Micros, int, Cursor]], cursor: Cursor, horizon: Micros) -> None:
    event = await cursor.peek()
    if event is not None and (time := _time_of(event)) <= horizon:
        heapq.heappush(heap, (time, cursor.partition, cursor))


class Cursor:
    """The next event of a partition, read ahead by a chunk."""

    def __init__(self, log: Log, stream: str, partition: int, positions: dict[int, int], chunk_bytes: int) -> None:
        self.partition = partition
        self._log = log
        self._stream = stream
        self._positions = positions
        self._chunk_bytes = chunk_bytes
        self._read_offset = positions[partition]
        self._rows: Iterator[Event] = iter(())
        self._next: Event | None = None

    @property
    def loaded(self) -> bool:
        """Whether an event is at hand."""
        return self._next is not None

    async def peek(self) -> Event | None:
        """The next event, or None if there is none yet."""
        while self._next is None:
            self._next = next(self._rows, None)
            if self._next is None and not await self._load(0.0):
                return None
        return self._next

    def pop(self) -> Event:
        """The event that `peek` found."""
        event = self._next
        if event is None:
            raise RuntimeError("nothing was peeked")
        self._next = None
        self._positions[self.partition] = event.offset + 1
        return event

    async def wait(self) -> None:
        """Return when there is an event; until then nothing is done."""
        while self._next is None:
            await self._load(None)
            self._next = next(self._rows, None)

    async def _load(self, wait: float | None) -> bool:
        batch = await self._log.read(
            self._stream, self.partition, self._read_offset, limit_bytes=self._chunk_bytes, wait=wait
        )
        moved = batch.next_offset != self._read_offset
        self._read_offset = batch.next_offset
        self._rows = iter(batch)
        return moved


def _time_of(event: Event) -> Micros:
    if event.time is None:
        raise RuntimeError(f"the event at {event.position} has no commit time")
    return to_micros(event.time)
