"""What a device was told before the power was cut or the disk failed is true afterwards: behind a PUBACK and a 200,
through handlers and a query."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.sample import sample
from tests.faults.site import EACH, ROUNDS, Site, reading, recover, site
from tests.support.disk import Fault, disk, nothing
from tests.support.mqtt import PATIENCE, RawClient

from millstream.errors import MillstreamError
from millstream.mqtt import packet as p


async def test_an_acknowledgement_waits_for_the_sync(tmp_path: Path) -> None:
    with disk() as made:
        async with site(tmp_path / "data", made) as running:
            press = await RawClient.connect(running.mqtt, "press-1")
            await running.caught_up()
            made.may_sync.clear()
            made.syncing.clear()
            press.send(
                p.Publish(topic="site/a/press-1/telemetry", payload=json.dumps(reading(0)).encode(), qos=1, packet_id=1)
            )
            async with running.http as http:
                posting = asyncio.create_task(running.gauge(http, [0]))
                await asyncio.to_thread(made.syncing.wait, PATIENCE)
                assert await press.is_silent()
                assert not posting.done()
                made.may_sync.set()
                await press.read(p.Puback)
                await posting
            await press.close()


async def test_the_power_is_cut(tmp_path: Path) -> None:
    with disk() as made:
        async with site(tmp_path / "data", made) as running:
            await running.publish()
            await running.caught_up()
            seen = running.seen
    assert len(seen) == 2 * ROUNDS * EACH
    for at in sample(len(made.changes) + 1, 6):
        folder = tmp_path / f"after {at}"
        made.after_power_cut(at, folder, nothing)
        await _recover(folder, running, at, f"a power cut after {at} changes")


@pytest.mark.parametrize(
    "kind", [Fault(0, lasting=True, only="xWrite"), Fault(0, only="xSync"), Fault(0, short=True, only="xWrite")]
)
async def test_the_disk_fails(tmp_path: Path, kind: Fault) -> None:
    with disk() as made:
        async with site(tmp_path / "sound", made) as running:
            before = len(made.calls)
            await running.publish()
            await running.caught_up()
            calls = len(made.calls) - before
    for wanted in sample(calls * 2 // 3, 3):
        number = wanted
        while not await _fails(tmp_path / f"{wanted}, {number}", kind, number):
            number //= 2  # how many calls there are differs, because commits share a sync as it comes


async def _fails(folder: Path, kind: Fault, number: int) -> bool:
    """Whether the disk gets to a call of this number. It then fails, and what is left is as it was promised."""
    with disk() as made:
        async with site(folder / "data", made) as running:
            told = asyncio.Event()
            running.log.on_fault(lambda error: told.set())
            made.fault = replace(kind, at=len(made.calls) + number)
            await _publish_until_it_fails(running)
            if not made.struck:
                return False
            await asyncio.wait_for(told.wait(), PATIENCE)
            shutil.copytree(folder / "data", folder / "ended")
        made.after_power_cut(len(made.changes), folder / "cut", nothing)
    for left in ("ended", "cut"):
        await _recover(folder / left, running, len(made.changes), f"{kind} at call {number}, {left}")
    return True


async def _publish_until_it_fails(running: Site) -> None:
    try:
        await running.publish()
        await running.caught_up()
    except (ConnectionError, MillstreamError, AssertionError):
        return


async def _recover(folder: Path, running: Site, changes: int, when: str) -> None:
    try:
        await recover(folder, running.seen, changes)
    except BaseException as error:
        error.add_note(when)
        raise
