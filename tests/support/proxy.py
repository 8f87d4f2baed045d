"""A proxy between clients and a server that hands bytes on late and in pieces, stalls, and cuts connections."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PIECE = 200  # bytes at most that go on together
_DELAY = 0.01  # seconds at most for which a piece is held
_STALL = 0.2  # seconds that a connection which hands nothing on any more lasts
_LEAST, _MOST = 600, 4_000  # bytes after which a connection is cut or stalls: enough to get on by each


class Proxy:
    """Hands on what comes from clients and from the server at `target`. While it `rages`, every connection ends badly
    sooner or later: `faults` counts how, by chance from a seed. While it does not, it does no harm."""

    def __init__(self, target: tuple[str, int], seed: int) -> None:
        self._target = target
        self._chance = random.Random(seed)
        self._open: dict[asyncio.StreamWriter, None] = {}
        self._server: asyncio.Server | None = None
        self.rages = False
        self.faults = {"cut": 0, "stalled": 0}

    @property
    def address(self) -> tuple[str, int]:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer: None, to_server: None}
        self._open |= ends
        left = [self._chance.randint(_LEAST, _MOST)]
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._hand_on(reader, to_server, left))
                both.create_task(self._hand_on(from_server, writer, left))
        except* (_EndError, ConnectionError):
            pass
        finally:
            for end in ends:
                del self._open[end]
                end.transport.abort()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]) -> None:
        while data := await reader.read(self._chance.randint(1, _PIECE) if self.rages else 65_536):
            if self.rages:
                await asyncio.sleep(self._chance.random() * _DELAY)
                left[0] -= len(data)
                if left[0] < 0:
                    await self._end_badly()
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        await asyncio.sleep(0)
        raise _EndError

    async def _end_badly(self) -> None:
        """What is on its way is lost."""
        if self._chance.random() < 0.5:
            self.faults["cut"] += 1
        else:
            self.faults["stalled"] += 1
            await asyncio.sleep(_STALL)
        raise _EndError


class _EndError(Exception):
    """The connection is over."""
