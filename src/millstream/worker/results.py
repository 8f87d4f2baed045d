"""From what a handler returns and publishes to the events that are committed with its position."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

from millstream.app.outbox import checked, make_event
from millstream.event import Event
from millstream.topic import Filter
from millstream.worker.arguments import Levels

logger = logging.getLogger("millstream.worker")


class Results:
    """Makes events of what one handler returns: None, an `Event`, or with a topic any data; a list, a tuple or a
    generator of them is many."""

    def __init__(self, name: str, into: Filter | None, levels: Levels) -> None:
        self._name = name
        self._into = into
        self._levels = levels
        self._warned = False

    def events(self, returned: Any, topic: str) -> list[Event]:
        """`topic` is that of the handled event. Raises what `checked` and a generator raise."""
        several = returned if isinstance(returned, list | tuple | Generator) else (returned,)
        found = (self._event(one, topic) for one in several)
        return [event for event in found if event is not None]

    def _event(self, returned: Any, topic: str) -> Event | None:
        if returned is None:
            return None
        if isinstance(returned, Event):
            return checked(returned)
        if self._into is None:
            self._warn(returned)
            return None
        return make_event(self._filled(self._into, topic), returned)

    def _filled(self, into: Filter, topic: str) -> str:
        if not into.names:
            return into.text
        parts, held = into.text.split("/"), self._levels.of(topic)
        for name, number in into.names.items():
            parts[number] = held[name]
        return "/".join(parts)

    def _warn(self, returned: Any) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s returns %s, which is not published: return an Event, or say on which topic with into=…",
                self._name,
                type(returned).__name__,
            )
