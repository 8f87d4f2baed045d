"""How often an event that fails is tried again, and for which keys that is hopeless. No I/O and no clock.

An event is tried as often as the handler's `Retry` says, and its key waits meanwhile. But a position can only tell so
many events completed ahead of one that waits, so a device whose every event fails would sooner or later hold up all
others. Therefore a key whose event was given up may be *hopeless*: each of its further events is tried once, until one
succeeds. That takes a sign that it is the key's own fault: since its failures began, more events of the handler have
succeeded than failed. When the handler fails altogether (its database is down), no key is hopeless, and all events wait
for better times.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from millstream.app import Retry
from millstream.worker.segment import Item, key_of

_FAILING_KEYS = 10_000  # that are remembered; beyond, the one that has failed for longest begins anew


@dataclass(frozen=True, slots=True)
class Verdict:
    """After the try number `attempt` (from 1): the next one in `seconds`, or None: give up."""

    attempt: int
    seconds: float | None


@dataclass(slots=True)
class _Run:
    """A key's failures without a success between them: what the handler had come to when they began, and whether an
    event was given up since."""

    successes: int
    failures: int
    gave_up: bool = False


class Patience:
    """What was tried, of one handler."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._attempts: dict[Item, int] = {}  # of events that wait to be tried again, or are tried again now
        self._runs: dict[str, _Run] = {}  # of keys whose last try failed
        self._successes = 0
        self._successes_before = 0
        self._failures = 0

    def succeeded(self, items: list[Item]) -> None:
        """Events were handled. It is told before the failures of the same go."""
        self._successes_before = self._successes  # those that fail in this go began to beside these
        self._successes += len(items)
        if self._runs:
            for item in items:
                self._attempts.pop(item, None)
                self._runs.pop(key_of(item), None)

    def failed(self, item: Item, *, final: bool) -> Verdict:
        """An event failed; `final`: trying again cannot help, which says nothing about its key."""
        attempt = self._attempts.pop(item, 0) + 1
        if final:
            return Verdict(attempt, None)
        run = self._run(key_of(item))
        self._failures += 1
        if attempt >= self._retry.attempts or self._is_hopeless(run):
            run.gave_up = True
            return Verdict(attempt, None)
        self._attempts[item] = attempt
        return Verdict(attempt, self._retry.seconds_after(attempt))

    def is_last_try(self, items: Iterable[Item]) -> bool:
        """Whether any of these events would be given up if it fails now."""
        if not self._runs:
            return self._retry.attempts == 1
        return any(
            self._attempts.get(item, 0) + 1 >= self._retry.attempts
            or ((run := self._runs.get(key_of(item))) is not None and self._is_hopeless(run))
            for item in items
        )

    def drop(self) -> None:
        """Forget the events of closed segments. Whoever has them now begins anew."""
        self._attempts = {item: tries for item, tries in self._attempts.items() if not item[0].closed}

    @property
    def attempts(self) -> list[int]:
        """How often the events that wait were tried."""
        return list(self._attempts.values())

    def _is_hopeless(self, run: _Run) -> bool:
        return run.gave_up and self._successes - run.successes > self._failures - run.failures

    def _run(self, key: str) -> _Run:
        run = self._runs.get(key)
        if run is None:
            if len(self._runs) >= _FAILING_KEYS:
                del self._runs[next(iter(self._runs))]
            run = self._runs[key] = _Run(self._successes_before, self._failures)
        return run
