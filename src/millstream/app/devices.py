"""What a handler gets to tell devices what to do: `Devices`, or one `Device` that a level of its topic names."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """What a device has answered: a status of its own, as HTTP has them, and anything that is JSON."""

    status: int
    payload: Any = None


class MethodCall(NamedTuple):
    """What is asked of a device on behalf of a handler (`by`). `payload` is JSON; times are in seconds."""

    device: str
    method: str
    payload: bytes
    timeout: float
    connect_timeout: float
    by: str


class Caller(Protocol):
    """Reaches devices."""

    async def call(self, call: MethodCall) -> Answer:
        """See `Device.call`."""
        ...


class Device:
    """A device of the registry, or a module of one (`DEVICE/MODULE`)."""

    def __init__(self, name: str, caller: Caller, by: str) -> None:
        self.name = name
        self._caller = caller
        self._by = by

    def __repr__(self) -> str:
        return f"Device({self.name!r})"

    async def call(
        self, method: str, payload: Any = None, *, timeout: float = 30.0, connect_timeout: float = 0.0
    ) -> Answer:
        """Call a direct method, at most once, and wait for the answer, for `timeout` seconds; for a device that is not
        there, wait for `connect_timeout` seconds before. `payload` becomes JSON.

        `UnknownDeviceError`; `DeviceError`: an impossible method or payload; `DeviceOfflineError`: it was not called;
        `DeviceTimeoutError`: it has not answered in time; `DeviceAnswerError`; `LogUnavailableError`: the server is
        away, and the device may have been called. A handler that raises is tried again, and calls again."""
        encoded = msgspec.json.encode(payload)
        return await self._caller.call(MethodCall(self.name, method, encoded, timeout, connect_timeout, self._by))


class Devices:
    """All devices: `devices["press-1"]`."""

    def __init__(self, caller: Caller, by: str) -> None:
        self._caller = caller
        self._by = by

    def __getitem__(self, name: str) -> Device:
        return Device(name, self._caller, self._by)
