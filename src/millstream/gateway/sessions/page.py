"""What was read from the queue for one session, or one shared subscription, that is behind."""

from __future__ import annotations

from collections.abc import Mapping

from millstream.gateway.sessions.queued import Queued


class Page:
    """Messages by offset: of those wanted from `start` on and below `end`, all that are still there."""

    __slots__ = ("_end", "_messages", "_start", "is_reading")

    def __init__(self) -> None:
        self.is_reading = False  # another one is on its way
        self.clear()

    def clear(self) -> None:
        """Forget it."""
        self.fill({}, 0, 0)

    def fill(self, messages: Mapping[int, Queued], start: int, end: int) -> None:
        """Hold these instead."""
        self._messages, self._start, self._end = messages, start, end

    def get(self, offset: int) -> Queued | None:
        """A message, if it is here."""
        return self._messages.get(offset)

    def covers(self, offset: int) -> bool:
        """Whether a message that is not here is nowhere."""
        return self._start <= offset < self._end
