"""A place in a stream as a request names it, looked up: what is unknown, gone or yet to come is refused."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from millstream.event import Batch
from millstream.log import From, Log, find_position, find_stream, parse_from


class Partition:
    """A partition of a stream that is there."""

    def __init__(self, log: Log, stream: str, number: int) -> None:
        self.stream = stream
        self.number = number
        self._log = log

    @classmethod
    async def find(cls, log: Log, stream: str, number: int) -> Partition:
        """Refuses with 404 what is not there."""
        count = (await find_stream(log, stream)).partitions
        if number >= count:
            raise HTTPException(404, f"stream {stream!r} has no partition {number}; it has {count}, from 0 on")
        return cls(log, stream, number)

    async def position(self, start: From) -> int:
        """The offset to begin with. Refuses one before the first (410) or after the next (400)."""
        if isinstance(start, int):
            await self.check(start)
        return await find_position(self._log, self.stream, self.number, start)

    async def check(self, offset: int) -> None:
        """Whether an offset is there, or the next one; see `position`."""
        bounds = await self._log.bounds(self.stream, self.number)
        if offset < bounds.first:
            raise HTTPException(
                410,
                f"offset {offset} in partition {self.number} of stream {self.stream!r} is gone: retention has dropped "
                f"what was before {bounds.first}; read on from={bounds.first}, or from=earliest",
            )
        if offset > bounds.next:
            raise HTTPException(
                400,
                f"offset {offset} in partition {self.number} of stream {self.stream!r} is beyond the end; the next "
                f"event gets {bounds.next}: read from={bounds.next}, or from=latest",
            )

    async def read(self, offset: int, limit_bytes: int, wait: float) -> Batch:
        """What stands at an offset that is there. Refuses with 410 if retention has taken it meanwhile."""
        batch = await self._log.read(self.stream, self.number, offset, limit_bytes=limit_bytes, wait=wait)
        if len(batch) and batch.events.column("offset")[0].as_py() > offset:  # a tick is there, or it is gone
            await self.check(offset)
        return batch


def read_from(text: str) -> From:
    """Where to begin, from a query: in one, a plus that is not encoded means a space."""
    return parse_from(text.replace(" ", "+") if "T" in text else text)
