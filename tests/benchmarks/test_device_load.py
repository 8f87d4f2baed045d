"""The generator for devices, against a real gateway."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from benchmarks import device_load
from benchmarks.device_load import KEY, Http, name_of
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE

from millstream.clock import SystemClock, VirtualClock
from millstream.devices import Change, Definition, Name, Registry
from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog

CHEAP = "scrypt$2$1$1$c2FsdA==$Mg+j147YoCdA+qrUwvASXtMPpt7O8kuKFUTqdS+qQGA="  # of "secret"


@pytest.fixture
async def site() -> AsyncIterator[argparse.Namespace]:
    """A gateway with ten devices, and how the generator finds it."""
    clock = VirtualClock(SystemClock().now())
    log = await SqliteLog.memory(clock)
    await log.create(StreamSpec("events", ("#",)))
    registry = await Registry.open("", None, clock)
    change = msgspec.convert({"credentials": {"password_hash": CHEAP, "keys": {"primary": KEY}}}, Change)
    await registry.put_many([Definition(Name(name_of(number)), change) for number in range(10)])
    plant = Plant(log, clock, registry)
    gateway = await plant.start(http="127.0.0.1:0", allow_anonymous=False)
    assert gateway.http_address is not None
    ports = {"port": plant.address[1], "http": gateway.http_address[1], "key": gateway.first_key}
    yield argparse.Namespace(**ports, devices=10, first=0, connections=3, seconds=0.2, token=False)
    await clock.advance(60.0)  # answers to wrong passwords are held back
    await plant.stop()
    await registry.close()
    await log.close()


@pytest.mark.parametrize("token", [False, True])
async def test_devices_log_in(site: argparse.Namespace, token: bool) -> None:
    site.token = token
    assert (await device_load.connect(site))["count"] >= 3


async def test_twins_are_changed_and_methods_answered(site: argparse.Namespace) -> None:
    assert (await device_load.patch(site))["rate"] > 0
    assert (await device_load.call(site))["rate"] > 0
    http = await Http.open(site.http, site.key)
    assert (await http.ask("GET", f"/devices/{name_of(0)}/twin"))["desired_version"] >= 1
    http.close()


async def test_a_device_publishes_while_wrong_passwords_come(site: argparse.Namespace) -> None:
    site.guessers = 3
    told = await device_load.flood(site)
    assert told["by_http"] > 0 and told["by_mqtt"] > 0 and told["median_ms"] > 0


async def test_a_wrong_password_is_no_login(site: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_load, "PASSWORD", "wrong")
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            await device_load.connect(site)
