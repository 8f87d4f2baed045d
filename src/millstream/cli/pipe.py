"""Ending with whoever reads our output."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Coroutine
from typing import Any


async def until_reader_leaves(work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, but leave it when whoever reads our output through a pipe (`| head`) is gone, also while there is
    nothing to write. The writing end of a pipe never becomes readable, except for that error."""
    loop = asyncio.get_running_loop()
    left = asyncio.Event()
    working, leaving = loop.create_task(work), loop.create_task(left.wait())
    if stat.S_ISFIFO(os.fstat(1).st_mode):
        loop.add_reader(1, left.set)
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        loop.remove_reader(1)
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
