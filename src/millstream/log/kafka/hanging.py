"""Calls of the client library that have to return, and at times do not.

When the coordinator of a group has gone, librdkafka may never return from `send_offsets_to_transaction`, whatever its
time-out says (librdkafka#5456, #5511), and nothing can be done with the producer and its thread any more. They are left
where they are, and others take their place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Watch:
    """Over the calls of one thread, one after another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadline: float | None = None  # of the call that is under way
        self._is_left = False

    @contextmanager
    def over(self, seconds: float) -> Iterator[None]:
        """Around a call that may take so long. `TimeoutError` if an earlier one was left behind: what others have begun
        since is not to be disturbed by one that returns after all."""
        with self._lock:
            if self._is_left:
                raise TimeoutError("Kafka's client has returned from a call too late")
            self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            with self._lock:
                self._deadline = None

    def leave(self) -> bool:
        """Whether the call under way has taken too long; it is left behind then, and no other one can begin."""
        with self._lock:
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._is_left = True
            return self._is_left
