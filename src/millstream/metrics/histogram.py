"""Counting values by size."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for commits and steps: from a fast disk to one that is in trouble."""
CALL_SECONDS = (0.00001, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""Bounds for calls of handlers: from a dictionary's look-up to somebody else's slow service."""
EVENTS = (1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0)
"""Bounds for the sizes of batches."""


class Distribution(msgspec.Struct, array_like=True, frozen=True):
    """How many values were at most as large as each of `bounds` and larger than the one before; the last of `counts`
    are those beyond all bounds. `total` is the values' sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


class Histogram:
    """Counts values. One thread observes; any may ask for the distribution, which may then lack the value that is just
    being observed, or its part in the sum."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, or as many of the same."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._total += value * times

    @property
    def distribution(self) -> Distribution:
        """What was observed so far."""
        return Distribution(self._bounds, tuple(self._counts), self._total)
