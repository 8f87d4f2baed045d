"""All simulated devices together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from millstream.clock import Clock
from millstream.simulator.device import Counts, SimulatedDevice, Site
from millstream.simulator.profile import Profile

_AT_A_TIME = 50  # devices that come in


class Fleet:
    """So many devices, each with `rate` readings a second."""

    def __init__(
        self,
        host: str,
        port: int,
        group_key: str,
        *,
        devices: int,
        rate: float,
        profile: Profile,
        clock: Clock,
        prefix: str = "sim-",
        seed: int = 0,
    ) -> None:
        connecting = asyncio.Semaphore(_AT_A_TIME)
        self._site = Site(host, port, group_key, profile, 1 / rate, clock, connecting)
        self._devices = [SimulatedDevice(f"{prefix}{number}", self._site, seed) for number in range(devices)]

    @property
    def counts(self) -> Counts:
        """What has happened so far: `registered`, `connections`, `readings`, `duplicates`, `late`, `corrupt`,
        `dropouts`, `failures`, `twins`, `calls`, `commands`."""
        return self._site.counts

    async def run(self, seconds: float | None, look: Callable[[Counts], None] = lambda counts: None) -> Counts:
        """Run for so long, or until it is cancelled; `look` is called every second."""
        clock = self._site.clock
        tasks = [asyncio.create_task(device.run(), name=device.name) for device in self._devices]
        end = None if seconds is None else clock.monotonic() + seconds
        try:
            while end is None or clock.monotonic() < end:
                await clock.sleep(1.0)
                look(self.counts)
                for task in tasks:
                    if task.done():
                        task.result()  # a bug of ours
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self.counts
