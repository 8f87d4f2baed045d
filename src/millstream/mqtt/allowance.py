"""What one client may send in a while: a token bucket, without a clock of its own."""

from __future__ import annotations


class Allowance:
    """At most `messages` and `size` bytes a second, from `now` (seconds) on. It grows with time, up to that of a
    second. Whoever takes something in takes it off; no clock is asked while there is some left."""

    __slots__ = ("_most_messages", "_most_size", "_since", "messages", "size")

    def __init__(self, messages: int, size: int, now: float) -> None:
        self._most_messages, self._most_size = messages, size
        self._since = now
        self.messages: float = messages
        self.size: float = size

    @property
    def is_used_up(self) -> bool:
        """Whether more was sent than it allows."""
        return self.messages < 0 or self.size < 0

    def grow(self, now: float) -> None:
        """Time has passed."""
        span, self._since = now - self._since, now
        self.messages = min(self._most_messages, self.messages + span * self._most_messages)
        self.size = min(self._most_size, self.size + span * self._most_size)
