"""Servers and workers are killed at random moments under load, and nothing of what was promised is broken.

`make crash` runs it as long as one likes: MILLSTREAM_CRASH_ROUNDS rounds, each with a seed that a failure names and
MILLSTREAM_CRASH_SEED repeats (what is killed and when; the operating system's share of chance stays its own).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

import pytest
from tests.crash.check import check, check_balance
from tests.crash.device import Device
from tests.crash.web_device import WebDevice
from tests.support.millstream import Running, running_on
from tests.support.ports import reserved_port

from millstream.log.sqlite import ReadOnlyLog

ROUNDS = int(os.environ.get("MILLSTREAM_CRASH_ROUNDS", "1"))
KILLS = int(os.environ.get("MILLSTREAM_CRASH_KILLS", "3"))
SEED = int(os.environ["MILLSTREAM_CRASH_SEED"])  # see tests/conftest.py

APP = Path(__file__).with_name("plant.py")
DEVICES = 8  # half of them stubborn
WEB_DEVICES = 2  # by HTTP, with ids
QUIET_SECONDS = 300.0  # for everything to be processed when nobody dies any more; reached only when a test fails

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
async def test_nothing_is_lost_doubled_or_disordered(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = tmp_path / "data"
    with running_on((reserved_port(), reserved_port()), folder, str(APP), "--workers", "2") as run:
        presses = [Device(f"press-{number}", run.mqtt_port, stubborn=number % 2 == 0) for number in range(DEVICES)]
        web = [WebDevice(f"gauge-{number}", run.http_port, stubborn=True) for number in range(WEB_DEVICES)]
        devices = [*presses, *web]
        async with publishing(devices):
            for number in range(KILLS):
                if number == 0:
                    await progress(devices, all)
                elif chance.random() < 0.8:  # else perhaps while it recovers
                    await progress(devices, any)
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                kill(run, "server" if number == 0 else chance.choice(["server", "server", "worker", "all"]))
                await check_balance(folder)
            await progress(devices, all)
        await settled(run)
        code, _ = await asyncio.to_thread(run.stop)
        assert code == 0, run.logs()
        assert "Traceback" not in run.logs(), run.logs()
    report = await check(folder, devices)
    acknowledged = sum(len(device.acknowledged) for device in devices)
    connections = sum(device.connections for device in presses)
    print(f"seed {seed}: {acknowledged} acknowledged over {connections} connections, {report}")  # noqa: T201
    assert report["events"] >= acknowledged > 0
    assert connections > DEVICES, "no server was killed while devices were connected"
    assert all(device.acknowledged for device in web)


def kill(run: Running, choice: str) -> None:
    """Kill the server, a worker, or all at once: whoever is there at the moment, also while it starts."""
    children = run.children()
    victims = [name for name in sorted(children) if choice == "all" or name.startswith(choice)]
    for name in victims if choice == "all" else victims[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(children[name], signal.SIGKILL)


@contextlib.asynccontextmanager
async def publishing(devices: Sequence[Device]) -> AsyncIterator[None]:
    """Devices that publish until the block ends, and then until nothing is in flight."""
    async with asyncio.timeout(QUIET_SECONDS + 60 * KILLS), asyncio.TaskGroup() as tasks:
        for device in devices:
            tasks.create_task(device.run())
        yield
        for device in devices:
            device.stop()


async def progress(devices: Sequence[Device], whose: Callable[[Iterable[bool]], bool]) -> None:
    """Return when something more has been acknowledged to `any` or `all` of them, as it is when a server is up."""
    before = [len(device.acknowledged) for device in devices]
    async with asyncio.timeout(QUIET_SECONDS):
        while not whose(len(its.acknowledged) > had for its, had in zip(devices, before, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def settled(run: Running) -> None:
    """Return when every group has read everything."""
    log = await ReadOnlyLog.open(run.folder)
    try:
        async with asyncio.timeout(QUIET_SECONDS):
            while any(sum(group.lag.values()) for group in await log.groups()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # no event tells it from another process
    except TimeoutError:
        pytest.fail(f"still not everything is processed: {await log.groups()}\n{run.logs()}")
    finally:
        await log.close()
