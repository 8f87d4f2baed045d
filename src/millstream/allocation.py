"""What an application is asked when a device registers by an enrollment that lets it decide, and what it may answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec


class Registration(msgspec.Struct, frozen=True):
    """A device that wants to register, has shown a good credential, and would begin with these tags and this twin."""

    id: str
    enrollment: str
    tags: dict[str, Any] = {}
    desired: dict[str, Any] = {}


class Allocation(msgspec.Struct, frozen=True):
    """What a device begins with: merge patches (RFC 7396) over what its enrollment says; and its id, if that is another
    than the registration's. A device of the same enrollment that has it already becomes this one, as when a machine's
    controller is replaced. `hub` is where it is told to connect, if that is not where it registers."""

    tags: dict[str, Any] = {}
    desired: dict[str, Any] = {}
    device: str | None = None
    hub: str | None = None


Allocator = Callable[[Registration], Awaitable[Allocation]]
"""Asks the application. `RegistrationError`: it refuses. `OverloadError`: it cannot say now."""
