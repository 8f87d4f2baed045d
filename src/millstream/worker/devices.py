"""Devices for a worker that has no way to them."""

from __future__ import annotations

from millstream.app.devices import Answer, MethodCall
from millstream.errors import DeviceOfflineError


class NoDevices:
    """A `Caller` that reaches none."""

    async def call(self, call: MethodCall) -> Answer:
        """See `Caller`."""
        raise DeviceOfflineError(f"device {call.device!r} cannot be reached from here; it was not called")
