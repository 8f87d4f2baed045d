"""Whether the log waits for the brokers, and why: what an operator sees as its state."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

_LONG_SECONDS = 5.0  # that a commit takes before somebody is told

_log = logging.getLogger(__name__)


class Committer(Protocol):
    """Who has a commit under way at times."""

    @property
    def busy_seconds(self) -> float: ...


class Patience:
    """`committers` gives all of this process."""

    def __init__(self, committers: Callable[[], Iterable[Committer]]) -> None:
        self._committers = committers
        self._waiting: str | None = None  # a commit
        self._silent: str | None = None  # the brokers, when they were last asked

    @property
    def reason(self) -> str | None:
        """Why commits wait, or would; None if they do not."""
        seconds = max((one.busy_seconds for one in self._committers()), default=0.0)
        if self._waiting is None and seconds > _LONG_SECONDS:
            return f"Kafka: a commit has been under way for {seconds:.0f} s"
        return self._waiting or self._silent

    def wait(self, reason: str | None) -> None:
        """Commits wait for the brokers; None: they do no longer."""
        if (reason is None) != (self._waiting is None):
            _log.warning("the brokers answer again" if reason is None else f"commits wait: {reason}")
        self._waiting = reason

    def answered(self, reason: str | None) -> None:
        """The brokers have answered a question, which nobody needs the answer of; or why they have not."""
        if (reason is None) != (self._silent is None):
            _log.warning("the brokers answer again" if reason is None else reason)
        self._silent = reason
