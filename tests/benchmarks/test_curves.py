"""The cost of an event: that what is measured is what is said."""

from __future__ import annotations

import pytest
from benchmarks import curves


@pytest.mark.parametrize(
    ("window", "keys", "results"),
    [("TumblingWindow(second, 10)", 10, 0.04), ("HoppingWindow(second, 60, 6)", 10, 0.08)],
)
def test_every_key_has_its_windows(window: str, keys: int, results: float) -> None:
    cost, found = curves.measure(window, keys, 1_000, events_a_second=20)  # of 50 seconds
    assert cost > 0
    assert found == results
