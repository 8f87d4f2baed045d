"""Devices for a worker that has no way to them."""

from __future__ import annotations

from typing import Protocol

from millstream.app.devices import Answer, Caller, MethodCall
from millstream.errors import DeviceOfflineError, ReferenceDataError
from millstream.reference import Found, Tables, Wish


class Fleet(Caller, Tables, Protocol):
    """A worker's way to devices, and to what is known of them."""


class NoDevices:
    """A `Fleet` that reaches none."""

    async def call(self, call: MethodCall) -> Answer:
        """See `Caller`."""
        raise DeviceOfflineError(f"device {call.device!r} cannot be reached from here; it was not called")

    async def table(self, wish: Wish) -> Found:
        """See `Tables`."""
        raise ReferenceDataError("the registry of devices cannot be read from here")
