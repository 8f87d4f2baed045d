"""`millstream openapi`: the document of the HTTP API, as a server at `/openapi.json` has it."""

from __future__ import annotations

import asyncio
from typing import Any

from millstream.cli import output


def openapi() -> None:
    """Print it."""
    output.write_json(asyncio.run(_document()))


async def _document() -> dict[str, Any]:
    """Of a gateway in memory, which is never started."""
    from millstream.clock import SystemClock
    from millstream.devices import Registry
    from millstream.gateway import Gateway
    from millstream.log.sqlite import SqliteLog
    from millstream.settings import GivenSettings

    clock = SystemClock()
    log = await SqliteLog.memory(clock)
    registry = await Registry.open("", None, clock)
    try:
        return Gateway(log, GivenSettings(allow_anonymous=True), clock, registry=registry).openapi.document()
    finally:
        await registry.close()
        await log.close()
