"""A place for a child process: whoever sits there is started again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from millstream.clock import Clock
from millstream.errors import MillstreamError
from millstream.runtime.child import Child, describe_exit
from millstream.runtime.control import Go, Prepared, Ready, Start, Stop

FIRST_DELAY = 0.1  # a crash should cost no more than it must
LONGEST_DELAY = 5.0  # a child that never comes up should not take the machine's time
STABLE_SECONDS = 10.0  # after which a crash counts as the first one again

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next start: doubling, and short again after a child that lived."""

    delay: float = FIRST_DELAY

    def next(self, lived_seconds: float) -> float:
        if lived_seconds >= STABLE_SECONDS:
            self.delay = FIRST_DELAY
        now, self.delay = self.delay, min(self.delay * 2, LONGEST_DELAY)
        return now


class Seat:
    """A role that somebody has to play, beside whoever sits at `after`. `ready` tells whether the child does."""

    def __init__(
        self, role: str, name: str, start: Callable[[], Start], clock: Clock, after: Seat | None = None
    ) -> None:
        self.name = name
        self._after = after
        self._ready = asyncio.Event()
        self._role = role
        self._start = start
        self._clock = clock
        self._child: Child | None = None
        self._spawning: asyncio.Task[Child] | None = None

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    @property
    def child(self) -> Child:
        """Who sits there; somebody must have been spawned."""
        if self._child is None:
            raise RuntimeError(f"nobody was spawned for the seat {self.name!r}")
        return self._child

    async def spawn(self) -> None:
        """Start a process. It imports what it needs and waits to be told more."""
        self._spawning = asyncio.create_task(Child.spawn(self._role, self.name))
        self._child = await asyncio.shield(self._spawning)  # a process once begun must end up where `clear` finds it
        self._spawning = None

    async def prepare(self) -> None:
        """Give the child its settings, and wait until it has found nothing wrong with them."""
        self.child.say(self._start())
        await self.child.reach(Prepared)

    async def go(self) -> Ready:
        """Let the child begin to work, and wait until it does."""
        self.child.say(Go())
        ready = await self.child.reach(Ready)
        self._ready.set()
        return ready

    async def keep(self) -> None:
        """Start the child again whenever it ends, for ever."""
        backoff = Backoff()
        began = self._clock.monotonic()
        while True:
            code = await self.child.ended()
            self._ready.clear()
            delay = backoff.next(self._clock.monotonic() - began)
            _log.warning("%s ended (%s); starting it again in %.1f s", self.name, describe_exit(code), delay)
            await self._clock.sleep(delay)
            began = self._clock.monotonic()
            await self._replace()

    async def _replace(self) -> None:
        try:
            await self.spawn()
            await self.prepare()
            if self._after is not None:  # it may have ended as well
                await self._after._ready.wait()
            await self.go()
        except (MillstreamError, OSError) as error:
            _log.error("%s cannot start: %s", self.name, error)
            self.child.kill()
        else:
            _log.warning("%s is back", self.name)

    async def finish(self) -> None:
        """Let the child finish what is under way, and wait for its end."""
        if self.ready:  # one that is not has begun nothing
            self.child.say(Stop())
            await self.child.ended()

    async def clear(self) -> None:
        """End whoever sits there, at once."""
        self._ready.clear()
        if self._spawning is not None:
            with contextlib.suppress(OSError):
                self._child = await self._spawning
        if self._child is not None:
            self._child.kill()
            await self._child.ended()
