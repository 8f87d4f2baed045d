"""When the event loop has come to rest: nothing in it goes on before something comes from outside."""

from __future__ import annotations

import asyncio

_TURNS = 10  # of the event loop. What is on its way from one task to another, by callbacks alone, takes two or three.

_resting: set[asyncio.Task[object] | None] = set()  # those that do nothing but to wait for rest, of all plants


async def rest() -> None:
    """Return when every other task waits for something that none of them is about to give.

    Threads and calls that wait for a socket or a timer are somebody else's: at rest, only they can wake a task."""
    me, quiet = asyncio.current_task(), 0
    _resting.add(me)
    try:
        while quiet < _TURNS:
            await asyncio.sleep(0)
            quiet = 0 if any(map(_goes_on, asyncio.all_tasks() - _resting)) else quiet + 1
    finally:
        _resting.discard(me)


def _goes_on(task: asyncio.Task[object]) -> bool:
    waits_for = getattr(task, "_fut_waiter", None)  # as in AnyIO's `wait_all_tasks_blocked`
    return waits_for is None or waits_for.done()
