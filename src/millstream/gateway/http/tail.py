"""A tail: the events of a stream from positions on, and then live, in the order in which they were committed.

Its *positions* are an offset for each partition, and as text what a client keeps to come back: `12,40,0`, or `12` for
one partition.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping

from starlette.exceptions import HTTPException

from millstream.errors import LogError
from millstream.event import Event
from millstream.gateway.http.page import PIECE
from millstream.gateway.http.partition import Partition, read_from
from millstream.gateway.http.readers import Readers
from millstream.log import Log, Merge, find_positions, find_stream

KEEP_ALIVE_SECONDS = 15.0  # proxies close what is silent for a minute; WHATWG's page on EventSource says 15 s

_READ_AHEAD = 256 << 10  # bytes of payload, over all partitions
_PIECE_BYTES = 64 << 10


class Positions(dict[int, int]):
    """By partition the offset to go on with."""

    def pass_by(self, event: Event) -> None:
        """Go on behind an event."""
        self[event.partition] = event.offset + 1

    def __str__(self) -> str:
        return ",".join(map(str, self.values()))


async def find_tail(log: Log, stream: str, number: int | None, start: str) -> Positions:
    """Where to begin: in all partitions of a stream, or in the one of a number. Refuses what is unknown or gone."""
    count = (await find_stream(log, stream)).partitions
    if number is None and count == 1:
        number = 0
    if number is not None:
        partition = await Partition.find(log, stream, number)
        return Positions({number: await partition.position(read_from(start))})
    offsets = _offsets(start)
    if not offsets:
        return Positions(await find_positions(log, stream, read_from(start)))
    if len(offsets) != count:
        raise HTTPException(
            400,
            f"{start}: stream {stream!r} has {count} partitions; give an offset for each of them, as in "
            f"{','.join('0' * count)}, or one partition=NUMBER, or say earliest, latest, or a time",
        )
    for each, offset in enumerate(offsets):
        await Partition(log, stream, each).check(offset)
    return Positions(enumerate(offsets))


def _offsets(text: str) -> list[int]:
    """The positions that `Positions` wrote, or none."""
    parts = text.split(",")
    return [int(part) for part in parts] if all(part.isascii() and part.isdecimal() for part in parts) else []


class Tail:
    """Follows a stream; `positions` are where it begins."""

    def __init__(self, log: Log, stream: str, positions: Mapping[int, int], readers: Readers) -> None:
        self._log = log
        self._stream = stream
        self._positions = Positions(positions)
        self._merge = Merge(log, stream, dict(positions), _READ_AHEAD)
        self._readers = readers

    async def pieces(self) -> AsyncGenerator[list[Event], None]:
        """Events as they come, a bounded number at once; none of them every `KEEP_ALIVE_SECONDS` in which none comes.

        It ends when the server stops, when the stream is dropped, and when retention has overtaken a client that is too
        slow: who then comes back is told."""
        with contextlib.suppress(LogError):
            while not self._readers.over:
                async with contextlib.aclosing(self._round()) as pieces:
                    async for piece in pieces:
                        yield piece
                if not await self._readers.idle(self._more(), KEEP_ALIVE_SECONDS) and not self._readers.over:
                    yield []

    async def _round(self) -> AsyncGenerator[list[Event], None]:
        """What is there by now."""
        piece: list[Event] = []
        size = 0
        async for event in self._merge.round():
            if self._readers.over:
                return
            await self._check(event)
            piece.append(event)
            size += len(event.payload)
            if len(piece) == PIECE or size > _PIECE_BYTES:
                yield piece
                piece, size = [], 0
        if piece:
            yield piece

    async def _more(self) -> bool:
        await self._merge.wait()
        return True

    async def _check(self, event: Event) -> None:
        """Nothing is left out in silence: an offset that is skipped was a tick's, or retention has taken it."""
        expected = self._positions[event.partition]
        if event.offset > expected and (await self._log.bounds(self._stream, event.partition)).first > expected:
            raise LogError(f"retention has taken offset {expected} before it was read")
        self._positions.pass_by(event)
