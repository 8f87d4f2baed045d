"""Simulated devices against a real gateway: they register, measure, follow, answer and come again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiomqtt
import pytest
from tests.support.clock import RestingClock
from tests.support.devices import KEY, auth
from tests.support.gateway import Plant
from tests.support.http import client_of
from tests.support.mqtt import PATIENCE

from millstream.clock import VirtualClock
from millstream.devices import Registry
from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog
from millstream.password import hash_password
from millstream.simulator import Faults, Fleet, Profile
from millstream.simulator.device import SimulatedDevice, Site


@pytest.fixture
async def site() -> AsyncIterator[Plant]:
    """A gateway with a group that devices may come in by."""
    clock = RestingClock()
    log = await SqliteLog.memory(clock)
    clock.attend(log)
    await log.create(StreamSpec("telemetry", ("device/{device}/telemetry",), key="device"))
    registry = await Registry.open("", None, clock)
    plant = Plant(log, clock, registry)
    users = {"ann": {"password": hash_password("secret"), "manage": True}}
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users)
    async with client_of(plant, auth=auth("ann")) as http:
        made = {"keys": {"primary": KEY}, "desired": {"speed": 3}}
        assert (await http.put("/enrollments/line-3", json=made)).status_code == 201
    yield plant
    await plant.stop()
    await registry.close()
    await log.close()


async def passing(site: Plant, holds: Callable[[], bool]) -> None:
    """Let time pass, a tenth of a second for each answer of the server, until it holds."""
    async with client_of(site) as http, asyncio.timeout(3 * PATIENCE):
        while not holds():
            await site.clock.advance(0.1)
            await http.get("/health/live")


async def test_a_fleet_registers_measures_and_answers(site: Plant) -> None:
    faults = Faults(duplicate=0.3, late=0.2, corrupt=0.2, dropout=0.1)
    host, port = site.address
    its: dict[str, Any] = {"devices": 5, "rate": 1.0, "profile": Profile(faults=faults), "clock": site.clock}
    fleet = Fleet(host, port, KEY, **its)
    running = asyncio.create_task(fleet.run(None))
    await passing(site, lambda: fleet.counts["registered"] == 5 and fleet.counts["twins"] >= 5)
    async with client_of(site, auth=auth("ann")) as http:
        found = (await http.get("/devices", params={"query": "reported.speed = 3 AND enrollment = 'line-3'"})).json()
        assert [device["id"] for device in found["devices"]] == [f"sim-{number}" for number in range(5)]
        await http.post("/devices/sim-0/commands", json={})
        call = asyncio.create_task(http.post("/devices/sim-1/methods/ping?connect_timeout=60", json=[7]))
        await passing(site, lambda: call.done() and fleet.counts["commands"] > 0)
        assert (await call).json() == {"status": 200, "payload": [7]}
    await passing(site, lambda: fleet.counts["dropouts"] > 0 and fleet.counts["duplicates"] > 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    counts = fleet.counts
    assert counts["failures"] == 0
    assert counts["connections"] > 5 or counts["dropouts"] > 0
    assert len(await site.read("telemetry")) >= counts["readings"], "each is there, and once"
    assert site.statistics["duplicates"] >= counts["duplicates"] > 0


@pytest.mark.parametrize("turns", range(5))
async def test_device_that_is_cancelled_as_its_reading_is_acknowledged_ends(
    site: Plant, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """`turns` of the event loop after the acknowledgement: what waits for it may have ended, and its waiter not."""
    host, port = site.address
    fleet = Fleet(host, port, KEY, devices=1, rate=1.0, profile=Profile(), clock=site.clock)
    told = aiomqtt.Client._on_publish

    def acknowledged(*given: Any) -> None:
        told(*given)
        if fleet.counts["readings"]:
            cancel(turns)

    def cancel(turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(cancel, turns - 1)
        else:
            device.cancel()

    monkeypatch.setattr(aiomqtt.Client, "_on_publish", acknowledged)
    device = asyncio.create_task(fleet._devices[0].run())
    await passing(site, lambda: bool(device.cancelling()))
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([device])


async def test_device_that_is_cancelled_as_it_drops_out_ends() -> None:
    """A task group of Python 3.11 raises what its tasks have raised, and keeps a cancellation of that moment."""
    site = Site("", 0, KEY, Profile(), 1.0, VirtualClock(), asyncio.Semaphore(1))
    serving = asyncio.Event()

    async def serve() -> None:
        serving.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError from None

    running = asyncio.create_task(SimulatedDevice("press-1", site, 0)._again(serve))
    await serving.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert site.counts == {"failures": 1}
