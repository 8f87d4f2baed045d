"""Starting, stopping, and addresses that cannot be listened on."""

from __future__ import annotations

import socket

import pytest
from tests.support.gateway import Plant

from millstream.clock import VirtualClock
from millstream.errors import SettingsError
from millstream.gateway import Gateway
from millstream.gateway.attributes import Attributes
from millstream.log.sqlite import SqliteLog
from millstream.settings import Settings


@pytest.mark.parametrize("setting", ["mqtt", "http"])
async def test_a_port_in_use_names_the_setting_and_the_mend(plant: Plant, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match=rf"'{setting}': {address} is in use; .*choose another port"):
            await plant.start(**{setting: address})


BAD_ADDRESSES = {
    "localhost": "HOST:PORT",
    "127.0.0.1:99999": "HOST:PORT",
    "192.0.2.1:1883": "no address of this machine",
    "no.such.host.invalid:1883": "cannot be listened on",
}


@pytest.mark.parametrize(("address", "text"), BAD_ADDRESSES.items())
async def test_an_impossible_address_says_why(plant: Plant, address: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"'mqtt': .*{text}"):
        await plant.start(mqtt=address)


async def test_both_listeners_can_be_turned_off(log: SqliteLog, clock: VirtualClock) -> None:
    async with Gateway(log, Settings(mqtt="", http="", allow_anonymous=True), clock) as gateway:
        assert (gateway.mqtt_address, gateway.http_address) == (None, None)
        assert gateway.unready() is None
    assert gateway.unready() is not None


async def test_stopping_again_and_waiting_afterwards_is_fine(plant: Plant) -> None:
    gateway = await plant.start(http="127.0.0.1:0")
    await gateway.stop()
    await gateway.stop()
    await gateway.wait()


async def test_a_gateway_that_failed_to_start_leaves_nothing_behind(plant: Plant) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError):
        await plant.start(http=f"127.0.0.1:{taken.getsockname()[1]}")
    assert plant.gateway.mqtt_address is not None
    with pytest.raises(ConnectionRefusedError):
        await plant.open()


async def test_ipv6(plant: Plant) -> None:
    try:
        await plant.start(mqtt="[::1]:0")
    except SettingsError:
        pytest.skip("this machine has no IPv6")
    assert plant.address[0] == "::1"
    client = await plant.connect()
    await client.publish("a", b"1")


async def test_gateway_without_listeners_takes_events_and_tells_duplicates(plant: Plant) -> None:
    gateway = await plant.start(mqtt="")
    seven = (b"7", Attributes(id="7"))
    assert await gateway.publish("site/a/press-1/telemetry", [seven, (b"1", Attributes())]) == 0
    assert await gateway.publish("site/a/press-1/telemetry", [seven]) == 1
    assert await plant.payloads("events") == [b"1", b"7"]
