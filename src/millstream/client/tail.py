"""A stream, live, that goes on when the connection or the server did not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from millstream.client.connection import Connection, Pauses
from millstream.errors import RefusedError, UnreachableError
from millstream.event import Event
from millstream.event_json import read_event_json

if TYPE_CHECKING:
    import httpx

_UNAVAILABLE = 503
_LINES = {"Accept": "application/x-ndjson"}
_POSITIONS = "Millstream-Positions"


class Tail:
    """The events of a stream from `start` on: `async for event in tail`. It comes back by itself, and misses nothing.

    `RefusedError` when the server does not let it come back, as when retention has overtaken it (status 410)."""

    def __init__(self, connection: Connection, path: str, start: str, partition: int | None) -> None:
        self._connection = connection
        self._path = path
        self._start = start
        self._partition = partition
        self._offsets: dict[int, int] = {}

    @property
    def positions(self) -> str:
        """Where it is, behind the last event that was given: what `Client.tail` takes as `start` to go on there."""
        return ",".join(map(str, self._offsets.values())) or self._start

    async def __aiter__(self) -> AsyncGenerator[Event, None]:
        pauses = Pauses()
        while True:
            try:
                async with self._connection.follow(self._path, params=self._asked(), headers=_LINES) as response:
                    self._begin(response)
                    pauses = Pauses()
                    async for line in _lines(response):
                        event = read_event_json(line)
                        self._offsets[event.partition] = event.offset + 1
                        yield event
            except UnreachableError:
                pass
            except RefusedError as refused:
                if refused.status != _UNAVAILABLE:
                    raise
            await self._connection.clock.sleep(pauses.next())

    def _asked(self) -> dict[str, str | int]:
        partition = {} if self._partition is None else {"partition": self._partition}
        return {"from": self.positions, "attributes": "true", **partition}

    def _begin(self, response: httpx.Response) -> None:
        offsets = map(int, response.headers[_POSITIONS].split(","))
        self._offsets = dict(enumerate(offsets, self._partition or 0))


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The lines that are not empty. (httpx's own end at characters that JSON may hold.)"""
    rest = b""
    async for more in response.aiter_bytes():
        *lines, rest = (rest + more).split(b"\n")
        for line in lines:
            if line:
                yield line
