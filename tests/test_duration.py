"""Durations as a person writes them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.duration import Duration, seconds_of


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("30s", 30),
        ("0s", 0),
        ("1.5 s", 1.5),
        ("500ms", 0.5),
        ("2m", 120),
        ("2 min", 120),
        ("1h 30min", 5_400),
        ("1h30m", 5_400),
        ("1d", 86_400),
        (timedelta(minutes=1), 60),
        (90, 90),
        (0.25, 0.25),
    ],
)
def test_forms(duration: Duration, seconds: float) -> None:
    assert seconds_of(duration) == seconds


@pytest.mark.parametrize(
    "duration", ["", "30", "s", "30 parsecs", "-5s", "5s and more", -1, float("nan"), timedelta(-1)]
)
def test_what_is_no_duration_is_refused_by_name(duration: Duration) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds_of(duration)


@given(st.integers(0, 10_000), st.integers(0, 59), st.integers(0, 999))
def test_parts_add_up(minutes: int, seconds: int, milliseconds: int) -> None:
    whole = timedelta(minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    assert seconds_of(f"{minutes}min {seconds}s {milliseconds}ms") == pytest.approx(whole.total_seconds())
