"""What the gateway counts for good, and traces of what it refused, until a transaction takes them along.

Traces are a sample, because whoever sends rubbish sends much of it: for each reason some at once, and then one now and
then. Counts are complete.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from millstream.clock import Clock
from millstream.ledger.names import RECEIVED, REJECTED
from millstream.ledger.rejection import Rejection

BURST = 20  # traces at once for each reason
REFILL_SECONDS = 10.0  # then one in such a time: some thousands a night, a few megabytes
_MOST = 1_000  # traces that wait; while the disk is full they cannot go


@dataclass(slots=True)
class _Allowance:
    left: float
    at: float  # when so much was left


class Tally:
    """Gathers; `changed` is called when something was refused."""

    def __init__(self, clock: Clock) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._traces: deque[Rejection] = deque(maxlen=_MOST)
        self._allowances: dict[str, _Allowance] = {}

    def add(self, counts: Mapping[str, int]) -> None:
        """Count."""
        self._counts.update(counts)

    def reject(self, rejection: Rejection, events: int) -> None:
        """Count events as received and refused, and keep a trace of them if it is their reason's turn."""
        self.add({RECEIVED: events, REJECTED + rejection.reason: events})
        if self._may_trace(rejection.reason):
            self._traces.append(rejection)
        self.changed()

    def take_counts(self) -> Mapping[str, int]:
        """All counts since the last time; whoever takes them commits them, or adds them again."""
        counts, self._counts = self._counts, Counter()
        return counts

    def take_traces(self) -> list[Rejection]:
        """All traces since the last time, likewise."""
        traces = list(self._traces)
        self._traces.clear()
        return traces

    def give_back(self, traces: Iterable[Rejection]) -> None:
        """They could not be committed."""
        self._traces.extendleft(reversed(list(traces)))

    def _may_trace(self, reason: str) -> bool:
        now = self._clock.monotonic()
        its = self._allowances.setdefault(reason, _Allowance(BURST, now))
        its.left = min(BURST, its.left + (now - its.at) / REFILL_SECONDS)
        its.at = now
        if its.left < 1:
            return False
        its.left -= 1
        return True
