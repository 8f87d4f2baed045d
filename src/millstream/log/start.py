"""Where to begin in a stream, as people and programs say it."""

from __future__ import annotations

from datetime import datetime

from millstream.clock import to_micros
from millstream.errors import PositionError, UnknownStreamError
from millstream.log.contract import EARLIEST, LATEST, Log, StreamSpec

From = str | int | datetime
"""`earliest`, `latest`, an offset, or a moment: the first record that was committed at or after it."""

_OFFSET_DIGITS = 18  # more are no 64-bit integer


def parse_from(text: str) -> From:
    """`earliest`, `latest`, an offset or a time in RFC 3339. `PositionError` if it is none of them."""
    if text in (EARLIEST, LATEST):
        return text
    if text.isdecimal() and text.isascii() and len(text) <= _OFFSET_DIGITS:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PositionError(
            f"{text}: say earliest, latest, an offset, or a time such as 2026-01-31T12:00:00Z"
        ) from None
    if moment.tzinfo is None:
        raise PositionError(f"{text}: which time zone? For UTC write {moment.isoformat()}Z")
    return moment


async def find_stream(log: Log, name: str) -> StreamSpec:
    """A stream as it is declared. `UnknownStreamError`, with the names that there are."""
    known = await log.streams()
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise UnknownStreamError(f"there is no stream {name!r}; there are: {names}")
    return known[name]


async def find_positions(log: Log, stream: str, start: From) -> dict[int, int]:
    """Where to begin in each partition. `UnknownStreamError`, with the names that there are."""
    spec = await find_stream(log, stream)
    return {partition: await find_position(log, stream, partition, start) for partition in range(spec.partitions)}


async def find_position(log: Log, stream: str, partition: int, start: From) -> int:
    """The offset to begin with in a partition."""
    if isinstance(start, int):
        return start
    if isinstance(start, datetime):
        return await log.offset_at(stream, partition, to_micros(start))
    bounds = await log.bounds(stream, partition)
    return bounds.first if start == EARLIEST else bounds.next
