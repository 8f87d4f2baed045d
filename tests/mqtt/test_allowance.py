"""An allowance bounds what is sent over any span, and gives back with time what it took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.mqtt import Allowance


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 30), st.integers(0, 3_000))))
def test_whoever_stops_when_it_is_used_up_keeps_to_the_rate(steps: list[tuple[float, int, int]]) -> None:
    """Each step: so many seconds pass, and then the client sends so many messages and bytes if it may."""
    allowance = Allowance(10, 1_000, now=0.0)
    now, messages, size = 0.0, 0, 0
    for seconds, count, length in steps:
        now += seconds
        allowance.grow(now)
        if not allowance.is_used_up:
            allowance.messages -= count
            allowance.size -= length
            messages, size = messages + count, size + length
        # What a second allows at once, and what comes in with the one read that goes beyond.
        assert messages <= 10 * (now + 1) + 30
        assert size <= 1_000 * (now + 1) + 3_000


def test_it_grows_up_to_that_of_a_second() -> None:
    allowance = Allowance(10, 1_000, now=5.0)
    allowance.messages -= 25
    assert allowance.is_used_up
    allowance.grow(6.4)
    assert allowance.is_used_up
    allowance.grow(6.6)
    assert not allowance.is_used_up
    allowance.grow(1_000.0)
    assert allowance.messages == pytest.approx(10)
