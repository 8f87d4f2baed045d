"""How long a seat stays empty."""

from __future__ import annotations

from millstream.runtime.seat import FIRST_DELAY, LONGEST_DELAY, STABLE_SECONDS, Backoff


def test_a_child_that_keeps_dying_waits_longer_each_time_up_to_a_bound() -> None:
    backoff = Backoff()
    delays = [backoff.next(lived_seconds=0.0) for _ in range(10)]
    assert delays[:3] == [FIRST_DELAY, FIRST_DELAY * 2, FIRST_DELAY * 4]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY


def test_a_child_that_lived_starts_again_at_once() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.next(lived_seconds=0.0)
    assert backoff.next(lived_seconds=STABLE_SECONDS) == FIRST_DELAY
