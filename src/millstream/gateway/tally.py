"""What the gateway counts for good, and traces of what it refused.

Counts go with the transaction of the next batch. What no batch has taken along after a second is committed by itself,
and so are the traces. Those are a sample, because whoever sends rubbish sends much of it: for each reason some at once,
and then one now and then. Counts are complete.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from millstream.clock import Clock
from millstream.errors import DiskFullError, FencedError, LogError
from millstream.event import to_columns
from millstream.ledger.names import RECEIVED, REJECTED
from millstream.ledger.rejection import SAMPLES, Rejection
from millstream.log import Group, Log, Transaction

_log = logging.getLogger(__name__)

BURST = 20  # traces at once for each reason
REFILL_SECONDS = 10.0  # then one in such a time: some thousands a night, a few megabytes
SETTLE_SECONDS = 1.0  # until counts are committed that no batch takes along
_MOST = 1_000  # traces that wait; while the disk is full they cannot go


@dataclass(slots=True)
class _Allowance:
    left: float
    at: float  # when so much was left


class Tally:
    """Gathers, and commits from `start` to `close`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._log: Log | None = None
        self._group: Group | None = None
        self._settling: asyncio.Task[None] | None = None
        self._counts: Counter[str] = Counter()
        self._traces: deque[Rejection] = deque(maxlen=_MOST)
        self._allowances: dict[str, _Allowance] = {}

    def start(self, log: Log, group: Group) -> None:
        """Commit to this log, on behalf of this group."""
        self._log, self._group = log, group

    async def close(self) -> None:
        """Commit what is left."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
        await self.settle()

    def add(self, counts: Mapping[str, int]) -> None:
        """Count; it is committed with the next batch, or soon."""
        self._counts.update(counts)
        if self._settling is None or self._settling.done():
            self._settling = asyncio.get_running_loop().create_task(self._settle_later())

    def reject(self, rejection: Rejection, events: int) -> None:
        """Count events as received and refused, and keep a trace of them if it is their reason's turn."""
        if self._may_trace(rejection.reason):
            self._traces.append(rejection)
        self.add({RECEIVED: events, REJECTED + rejection.reason: events})

    def take(self) -> Mapping[str, int]:
        """The counts since the last time, for whoever commits a batch, however often he must try."""
        counts, self._counts = self._counts, Counter()
        return counts

    async def settle(self) -> bool:
        """Commit what no batch has taken along. False if it has to wait: the disk is full, or the group has let the
        gateway go, which the next batch mends."""
        if self._log is None or self._group is None or not (self._counts or self._traces):
            return True
        counts, traces = self.take(), list(self._traces)
        self._traces.clear()
        try:
            if traces:
                await self._log.create(SAMPLES)
            transaction = self._group.transaction()
            put(transaction, counts)
            if traces:
                transaction.append(SAMPLES.name, 0, to_columns(trace.event() for trace in traces))
            await transaction.commit()
        except (DiskFullError, FencedError):
            self._counts.update(counts)
            self._traces.extendleft(reversed(traces))
            return False
        except LogError as error:
            _log.error("counts of %d events were not committed: %s", counts.get(RECEIVED, 0), error)
        return True

    async def _settle_later(self) -> None:
        while True:
            await self._clock.sleep(SETTLE_SECONDS)
            if await self.settle():
                return

    def _may_trace(self, reason: str) -> bool:
        now = self._clock.monotonic()
        its = self._allowances.setdefault(reason, _Allowance(BURST, now))
        its.left = min(BURST, its.left + (now - its.at) / REFILL_SECONDS)
        its.at = now
        if its.left < 1:
            return False
        its.left -= 1
        return True


def put(transaction: Transaction, *counts: Mapping[str, int]) -> None:
    """Let a transaction count."""
    for some in counts:
        for name, n in some.items():
            if n:
                transaction.count(name, n)
