"""Clients that send too much are slowed down: for a while nothing is read from them, so that TCP stops them.

Who has used its allowance up waits until it has grown again, in small steps; one task looks after all who wait. A
client that waits is not cut off, nor is its keep-alive counted.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from millstream.clock import Clock
from millstream.gateway.statistics import Statistics
from millstream.mqtt import Allowance

_log = logging.getLogger(__name__)

_STEP = 0.1  # seconds between looks at those who wait


class Client(Protocol):
    """A connection that may be slowed down."""

    client_id: str

    @property
    def allowance(self) -> Allowance:
        """What it may still send."""
        ...

    def slow_down(self, text: str) -> None:
        """Read nothing, and tell it why."""
        ...

    def go_on(self) -> None:
        """Read again."""
        ...


class Throttle:
    """Looks after the clients that have used their allowance up."""

    def __init__(self, messages: int, size: int, clock: Clock, statistics: Statistics) -> None:
        self._clock = clock
        self._statistics = statistics
        self._waiting: dict[Client, None] = {}
        self._known: dict[Client, None] = {}  # that were told of in the log
        self._task: asyncio.Task[None] | None = None
        self._text = (
            f"slowed down: more than {messages:,} messages or {size:,} bytes a second, "
            "see settings 'limits.client_messages' and 'limits.client_bytes'"
        )

    def used_up(self, client: Client) -> None:
        """A client may have sent more than its allowance."""
        client.allowance.grow(self._clock.monotonic())
        if client in self._waiting or not client.allowance.is_used_up:
            return
        self._waiting[client] = None
        self._statistics.throttled += 1
        client.slow_down(self._text)
        if client not in self._known:
            self._known[client] = None
            _log.warning("client %r is %s", client.client_id, self._text)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look_after())

    def gone(self, client: Client) -> None:
        """A client has left. Others than those that wait may be named."""
        self._waiting.pop(client, None)
        self._known.pop(client, None)

    async def close(self) -> None:
        """Look after nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look_after(self) -> None:
        while self._waiting:
            await self._clock.sleep(_STEP)
            now = self._clock.monotonic()
            for client in list(self._waiting):
                client.allowance.grow(now)
                if not client.allowance.is_used_up:
                    del self._waiting[client]
                    client.go_on()
