"""Devices of a registry for tests of a gateway, and how they come in."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import msgspec
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE, RawClient

from millstream.clock import SECOND, VirtualClock
from millstream.devices import Change, Name, make_token

CHEAP = "scrypt$2$1$1$c2FsdA==$Mg+j147YoCdA+qrUwvASXtMPpt7O8kuKFUTqdS+qQGA="  # of "secret"
OTHER = CHEAP.replace("c2FsdA==", "cGVwcGVy")  # of something else
KEY = base64.b64encode(b"0123456789abcdef").decode()
HOUR = 3_600 * SECOND
PRESS = Name("press-1")
VISION = Name("press-1", "vision")


def change(**said: Any) -> Change:
    return msgspec.convert(said, Change)


SECRET = change(credentials={"password_hash": CHEAP, "keys": {"primary": KEY}})


def token(clock: VirtualClock, resource: str = "devices/press-1", key: str = KEY, expires: int = HOUR) -> str:
    return make_token(key, resource, clock.now() + expires)


async def connect(site: Plant, name: Name = PRESS, password: str = "secret", client_id: str = "c") -> RawClient:
    return await site.connect(client_id, user_name=str(name), password=password.encode())


async def seen(site: Plant, what: str, count: int = 1) -> list[dict[str, Any]]:
    """The life-cycle events of a kind, once there are so many."""
    async with asyncio.timeout(PATIENCE):
        while True:
            told = await site.read("$devices") if "$devices" in await site.log.streams() else []
            events = [event for event in told if event.topic.endswith(f"/{what}")]
            if len(events) >= count:
                return [event.data for event in events]


def auth(name: str, password: str = "secret") -> httpx.BasicAuth:
    return httpx.BasicAuth(name, password)
