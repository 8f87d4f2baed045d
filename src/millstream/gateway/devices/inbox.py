"""What devices ask for by MQTT: messages on topics under `device/{id}/`, where the server itself listens.

    device/{id}/{subject}/…                     of a device
    device/{id}/modules/{module}/{subject}/…    of a module of it

A message is a request only if the device itself has published it: what others may publish there, by their rights, is
an event like any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple

import msgspec

from millstream.devices import Name
from millstream.errors import MillstreamError, OverloadError
from millstream.event import Event, to_columns
from millstream.gateway.devices.guests import Guests
from millstream.gateway.http.answer import error_content, status_of
from millstream.gateway.pubsub.audience import Desk
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.pubsub.post import Post
from millstream.gateway.pubsub.topics import Topics
from millstream.mqtt import Granted

_log = logging.getLogger(__name__)

_MOST = 2_000  # requests that are being answered; a twin's patch is 32 KiB at most, a packet `limits.packet_bytes`
_JSON = "application/json"


class Request(NamedTuple):
    """A message of a device to the server. `words` are the topic's levels behind the subject."""

    name: Name
    words: tuple[str, ...]
    payload: bytes


def root_of(name: Name) -> str:
    """Where a device's own topics begin."""
    return f"device/{name.device}" + (f"/modules/{name.module}" if name.module else "")


class Inbox:
    """Gives requests to whoever serves their subject."""

    def __init__(self, fan_out: FanOut, guests: Guests, topics: Topics) -> None:
        self._fan_out = fan_out
        self._guests = guests
        self._topics = topics
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, subject: str, take: Callable[[Request], None]) -> None:
        """Call `take`, from the event loop, with every request on a subject."""
        desk = Desk(lambda posts: self._take(posts, take))
        for mqtt_filter in (f"device/+/{subject}/#", f"device/+/modules/+/{subject}/#"):
            self._fan_out.add(desk, Granted(mqtt_filter, 1, False, ()))

    def answer(self, topic: str, work: Awaitable[Mapping[str, Any]]) -> None:
        """Publish what a request's work gives as JSON, with the status 200, or what went wrong, as by HTTP."""
        if len(self._tasks) >= _MOST:
            if isinstance(work, Coroutine):
                work.close()
            self._say(topic, _error(OverloadError(f"{_MOST} requests of devices are being answered; ask again later")))
            return
        task = asyncio.get_running_loop().create_task(self._answer(topic, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Answer what was asked."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, posts: list[Post], take: Callable[[Request], None]) -> None:
        for post in posts:
            if post.publisher is None:
                continue
            name, words = parse(post.topic.name)
            if self._guests.name_of(post.publisher) == name:
                take(Request(name, words, post.payload))

    async def _answer(self, topic: str, work: Awaitable[Mapping[str, Any]]) -> None:
        try:
            content = {"status": 200, **await work}
        except MillstreamError as error:
            content = _error(error)
        except Exception:
            _log.exception("a device's request for %r has failed", topic)
            content = {"status": 500, **error_content(500, "the server has an error; its log says more")}
        self._say(topic, content)

    def _say(self, topic: str, content: dict[str, Any]) -> None:
        event = Event(topic=topic, payload=msgspec.json.encode(content), content_type=_JSON)
        self._topics.publish(to_columns([event]))


def parse(topic: str) -> tuple[Name, tuple[str, ...]]:
    """Whose topic it is that a subject's filter matches, and the levels behind the subject."""
    _, device, *rest = topic.split("/")
    if len(rest) > 2 and rest[0] == "modules":
        return Name(device, rest[1]), tuple(rest[3:])
    return Name(device), tuple(rest[1:])


def _error(error: MillstreamError) -> dict[str, Any]:
    status = status_of(error)
    return {"status": status, **error_content(status, str(error))}
