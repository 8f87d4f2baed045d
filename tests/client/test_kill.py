"""The client against a real server that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from tests.support.millstream import Running, running

from millstream import Client
from millstream.errors import FencedError

EVENTS = 100
KILLED_AT = 50


async def test_a_killed_server_costs_a_client_nothing(tmp_path: Path) -> None:
    """Every event is there once, in order, for who publishes and follows meanwhile; none is missing in the group."""
    with running(tmp_path / "data", "--workers", "0") as run:
        async with Client(f"http://{run.http}") as client, asyncio.timeout(300):
            followed = asyncio.create_task(follow(client))
            consumed = asyncio.create_task(consume(client))
            await publish(client, run)
            assert await followed == list(range(EVENTS))
            assert await consumed == list(range(EVENTS))


async def publish(client: Client, run: Running) -> None:
    for number in range(EVENTS):
        if number == KILLED_AT:
            os.kill(run.children()["server"], signal.SIGKILL)
        await client.publish("press-1", number)


async def follow(client: Client) -> list[int]:
    found: list[int] = []
    async for event in client.tail("events", "earliest"):
        found.append(event.data)
        if len(found) == EVENTS:
            break
    return found


async def consume(client: Client) -> list[int]:
    """What came, without what came again."""
    found: dict[int, None] = {}
    async with client.group("billing", ["events"], start="earliest") as member:
        async for page in member:
            found |= dict.fromkeys(event.data for event in page)
            with contextlib.suppress(FencedError):
                await member.commit(page)
            if len(found) == EVENTS:
                break
    return list(found)
