"""How long: as a person writes it, as a `timedelta`, or in seconds."""

from __future__ import annotations

import re
from datetime import timedelta

Duration = str | timedelta | float
"""`"30s"`, `"1h 30min"`, a `timedelta`, or seconds."""

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def seconds_of(duration: Duration) -> float:
    """The duration in seconds. `ValueError` if it is none, or negative: time does not run backwards."""
    seconds = _read(duration) if isinstance(duration, str) else _count(duration)
    if not seconds >= 0:
        raise ValueError(f"{duration!r} is no duration: time does not run backwards")
    return seconds


def _count(duration: timedelta | float) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def _read(text: str) -> float:
    seconds, at = 0.0, 0
    while found := _PART.match(text, at):
        number, unit = found.groups()
        if unit not in _UNITS:
            break
        seconds, at = seconds + float(number) * _UNITS[unit], found.end()
    if not text or at < len(text):
        raise ValueError(
            f"{text!r} is no duration; write it as '30s', '500ms' or '1h 30min' (units: {', '.join(_UNITS)})"
        )
    return seconds
