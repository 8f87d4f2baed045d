"""Handlers call devices: those of a test."""

from __future__ import annotations

from typing import Any

import pytest

from millstream import App, Device, Devices, Event, Retry
from millstream.app import Answer
from millstream.errors import AppError, DeviceOfflineError, DeviceTimeoutError


async def test_a_handler_calls_the_device_that_its_topic_names() -> None:
    app = App("plant")

    @app.on("device/{device}/alarm")
    async def cool_down(event: Event, device: Device, devices: Devices) -> dict[str, Any]:
        answer = await device.call("slow-down", {"percent": event.data["celsius"]}, timeout=10)
        siren = await devices["siren"].call("sound")
        return {"status": answer.status, "payload": answer.payload, "siren": siren.payload}

    app.stream("told", topics="told")
    async with app.test() as plant:
        plant.answer_calls("press-1", "slow-down", lambda payload: Answer(202, payload["percent"] / 2))
        plant.answer_calls("siren", "sound")
        await plant.publish("device/press-1/alarm", {"celsius": 90})
        assert plant.calls == (("press-1", "slow-down", {"percent": 90}), ("siren", "sound", None))
        assert not plant.errors


async def test_a_device_that_is_not_there_is_an_error_of_the_handler() -> None:
    app = App("plant")
    seen: list[str] = []

    @app.on("device/{device}/alarm", retry=Retry(attempts=1))
    async def cool_down(device: Device) -> None:
        seen.append(device.name)
        await device.call("slow-down")

    async with app.test(raise_errors=False) as plant:
        await plant.publish("device/a", {})
        await plant.publish("device/a/alarm", {})
        plant.answer_calls("b", "slow-down", DeviceTimeoutError("too slow"))
        await plant.publish("device/b/alarm", {})
        assert [type(failure.error) for failure in plant.errors] == [DeviceOfflineError, DeviceTimeoutError]
    assert seen == ["a", "b"]


def test_a_device_is_named_by_a_level() -> None:
    app = App("plant")
    with pytest.raises(AppError, match="is a Device"):

        @app.on("alarm")
        async def cool_down(device: Device) -> None: ...

        app.check()
