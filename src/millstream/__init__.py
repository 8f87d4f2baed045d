"""Millstream: an event-driven platform for devices."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millstream.allocation import Allocation, Registration
    from millstream.app import App, Depends, Device, Devices, Retry, State, Stream
    from millstream.client import Client
    from millstream.clock import Clock
    from millstream.event import Batch, Event

__all__ = [
    "Allocation",
    "App",
    "Batch",
    "Client",
    "Clock",
    "Depends",
    "Device",
    "Devices",
    "Event",
    "Registration",
    "Retry",
    "State",
    "Stream",
]

# Loaded when first asked for: the columns behind an event take a quarter of a second to import, and the command line
# imports this package too.
_HOMES = {
    "Allocation": "millstream.allocation",
    "App": "millstream.app",
    "Batch": "millstream.event",
    "Client": "millstream.client",
    "Clock": "millstream.clock",
    "Depends": "millstream.app",
    "Device": "millstream.app",
    "Devices": "millstream.app",
    "Event": "millstream.event",
    "Registration": "millstream.allocation",
    "Retry": "millstream.app",
    "State": "millstream.app",
    "Stream": "millstream.app",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
