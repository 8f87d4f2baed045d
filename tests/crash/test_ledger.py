"""The ledger balances after `kill -9`, whatever came in: events, duplicates, what nobody captures, and rubbish."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest
from tests.crash.check import check_balance
from tests.crash.test_crash import SEED
from tests.support.millstream import Running, running, until

from millstream.ledger.balance import rejected_by_reason
from millstream.ledger.names import COMMITTED, DUPLICATES, GATEWAY, REJECTIONS, TRANSIENT
from millstream.log import Accounts
from millstream.log.sqlite import ReadOnlyLog

KILLS = 4

pytestmark = pytest.mark.crash


async def test_all_that_came_in_is_accounted_for_after_kills(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    folder = tmp_path / "data"
    with running(folder, str(Path(__file__).with_name("plant.py")), "--workers", "1") as run:
        answered: Counter[str] = Counter()
        publishing = [asyncio.create_task(publish(run, name, answered)) for name in ("a", "b", "c")]
        for _ in range(KILLS):
            before = answered.total()
            await until_answered(answered, before + 50)
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            os.kill(run.children()["server"], signal.SIGKILL)
            await check_balance(folder)
        await until_answered(answered, answered.total() + 50)
        for task in publishing:
            task.cancel()
        await asyncio.gather(*publishing, return_exceptions=True)
        code, _ = await asyncio.to_thread(run.stop)
        assert code == 0, run.logs()
    await check_balance(folder)
    accounts = await read(folder)
    counts = accounts.groups[GATEWAY].status.counts
    assert counts[COMMITTED] >= answered["committed"] > 0, "an acknowledged event is counted, as it is on disk"
    assert counts[COMMITTED] == accounts.streams["telemetry"].events
    assert all(counts[name] > 0 for name in (DUPLICATES, TRANSIENT))
    assert rejected_by_reason(counts).keys() == {"bad_request"}
    assert 0 < accounts.streams[REJECTIONS].events <= counts["rejected:bad_request"]


async def publish(run: Running, name: str, answered: Counter[str]) -> None:
    """Publish an event with an id, the same once more, what nobody captures, and what is no topic; for ever."""
    async with httpx.AsyncClient(base_url=f"http://{run.http}") as http:
        for seq in itertools.count():
            telemetry = f"/topics/site/a/{name}/telemetry"
            payload = {"seq": seq, "ts": "2026-01-01T00:00:00Z"}
            for kind, topic in (("committed", telemetry), ("", telemetry), ("", "/topics/x"), ("", "/topics/%2B")):
                try:
                    response = await http.post(topic, json=payload, headers={"ce-id": f"{name}-{seq}"})
                    repeated = response.is_success and response.json()["duplicates"]
                    answered[kind if response.is_success and not repeated else "other"] += 1
                except httpx.TransportError:
                    await asyncio.sleep(0.02)


async def until_answered(answered: Counter[str], count: int) -> None:
    await asyncio.to_thread(until, lambda: answered.total() >= count, what="an answer")


async def read(folder: Path) -> Accounts:
    log = await ReadOnlyLog.open(folder)
    try:
        return await log.accounts()
    finally:
        await log.close()
