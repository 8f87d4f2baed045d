"""Queued commands: what a device is to do, also if it is away. It takes them in order, and says what became of each."""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec

from millstream.clock import SECOND, Micros, to_text
from millstream.devices.name import Name
from millstream.errors import DeviceError
from millstream.event_json import NO_JSON

MAX_PAYLOAD = 64 << 10  # as in Azure IoT Hub, as are the next ones
MAX_QUEUED = 50  # commands a device
MAX_DELIVERIES = 100  # a device that comes and goes must not lose one soon
IN_FLIGHT = 10  # commands that a device has at a time, and has not settled
LOCK: Micros = 60 * SECOND  # that a device may take to settle one; then it gets it again
SHORTEST, LONGEST, USUAL = 1, 14 * 24 * 3_600, 3_600  # seconds to live


class CommandShown(TypedDict):
    """A command that waits."""

    command: str
    payload: Any
    queued: str
    expires: str
    deliveries: int


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One that waits. `number` gives the order, `sent` is when the device last got it."""

    number: int
    id: str
    name: Name
    generation: str
    payload: bytes
    queued: Micros
    expires: Micros
    deliveries: int = 0
    sent: Micros | None = None

    def shown(self) -> CommandShown:
        """As JSON."""
        return {
            "command": self.id,
            "payload": msgspec.Raw(self.payload),
            "queued": to_text(self.queued),
            "expires": to_text(self.expires),
            "deliveries": self.deliveries,
        }


def check_payload(payload: bytes) -> bytes:
    """A command's payload as it is kept; nothing is null. `DeviceError` if it can be none."""
    if len(payload) > MAX_PAYLOAD:
        raise DeviceError(f"a command's payload of {len(payload)} bytes; there may be {MAX_PAYLOAD}")
    try:
        return msgspec.json.encode(msgspec.json.decode(payload or b"null"))
    except NO_JSON as error:
        raise DeviceError(f"a command's payload is JSON: {error}") from None
