"""Moments as people write them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from millstream.clock import Clock, to_datetime
from millstream.errors import SettingsError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_since(text: str | None, clock: Clock, option: str = "--since") -> datetime | None:
    """A moment in RFC 3339, or so long ago: `90s`, `30m`, `12h`, `7d`, `-7d`. `SettingsError` if it is neither."""
    if text is None:
        return None
    if (ago := re.fullmatch(r"-?(\d{1,6})([smhd])", text)) is not None:
        return to_datetime(clock.now()) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{option} {text}: say how long ago (30m, 12h, 7d), or 2026-01-31T22:00:00Z") from None
    if moment.tzinfo is None:
        raise SettingsError(f"{option} {text}: which time zone? For UTC write {moment.isoformat()}Z")
    return moment
