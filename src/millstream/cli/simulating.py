"""The work of `millstream simulate`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

from millstream.cli import output
from millstream.cli.place import load_settings, server_address
from millstream.clock import SystemClock
from millstream.devices.credentials import check_key
from millstream.errors import SettingsError
from millstream.simulator import Counts, Fleet, read_profile

KEY = "MILLSTREAM_GROUP_KEY"


def simulate(
    devices: int,
    rate: float,
    profile: Path | None,
    prefix: str,
    seed: int,
    for_seconds: float | None,
    mqtt: str | None,
    data: Path | None,
    config: Path | None,
) -> None:
    """Run devices until it is time, or Ctrl-C; then say what has happened, as JSON."""
    key = os.environ.get(KEY)
    if not key:
        raise SettingsError(f"set {KEY} to the primary key of an enrollment: millstream enrollments keys GROUP")
    host, port = server_address(load_settings(config, data=data), "mqtt", mqtt)
    check_key(key)
    its = read_profile(profile)

    async def run() -> Counts:
        fleet = Fleet(
            host, port, key, devices=devices, rate=rate, profile=its, clock=SystemClock(), prefix=prefix, seed=seed
        )
        with output.progress("registered", "devices") as progress:
            task = asyncio.ensure_future(
                fleet.run(for_seconds, lambda counts: progress(min(counts["registered"], devices), devices))
            )
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return fleet.counts

    output.write_line(json.dumps(dict(sorted(asyncio.run(run()).items()))))
