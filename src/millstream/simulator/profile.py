"""What simulated devices measure, and how they fail, as a TOML file says:

topic = "device/{id}/telemetry"
[signals.celsius]
mean = 60.0
swing = 8.0      # of a wave
period = 600.0   # seconds
noise = 0.5      # standard deviation
[faults]
dropout = 0.001  # of all readings
duplicate = 0.01
late = 0.01
corrupt = 0.001
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Annotated, Any

import msgspec

from millstream.clock import SECOND, Micros, to_text
from millstream.errors import SettingsError, TopicError
from millstream.topic import check_topic

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
LATEST_SECONDS = 60.0  # that a late reading is behind


class Signal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A wave with noise around a mean."""

    mean: float = 0.0
    swing: float = 0.0
    period: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    noise: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    def at(self, seconds: float, phase: float, chance: random.Random) -> float:
        """Its value at a time; `phase` (0 to 1) is where a device stands in the wave."""
        wave = self.swing * math.sin(2 * math.pi * (seconds / self.period + phase))
        return round(self.mean + wave + chance.gauss(0.0, self.noise), 3)


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many of all readings end so."""

    dropout: _Share = 0.0
    """The connection ends, and comes again after a while."""
    duplicate: _Share = 0.0
    """It is sent twice, with the same id."""
    late: _Share = 0.0
    """Its time is up to a minute ago."""
    corrupt: _Share = 0.0
    """It is cut off in the middle."""


USUAL = {
    "celsius": Signal(mean=60.0, swing=8.0, period=600.0, noise=0.5),
    "rpm": Signal(mean=1_450.0, swing=30.0, period=90.0, noise=5.0),
}


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Both, and where readings go."""

    topic: str = "device/{id}/telemetry"
    signals: dict[str, Signal] = msgspec.field(default_factory=lambda: dict(USUAL))
    faults: Faults = Faults()

    def reading(self, now: Micros, phase: float, chance: random.Random) -> tuple[bytes, bool, bool]:
        """A payload, and whether it is late and corrupt."""
        late, corrupt = chance.random() < self.faults.late, chance.random() < self.faults.corrupt
        time = now - round(chance.uniform(1, LATEST_SECONDS) * SECOND) if late else now
        values: dict[str, Any] = {"ts": to_text(time)}
        values |= {name: its.at(time / SECOND, phase, chance) for name, its in self.signals.items()}
        payload = msgspec.json.encode(values)
        return (payload[: len(payload) // 2] if corrupt else payload), late, corrupt


def read_profile(path: Path | None) -> Profile:
    """Of a file; without one, temperature and speed of a machine, without faults. `SettingsError` if it is none."""
    if path is None:
        return Profile()
    try:
        profile = msgspec.toml.decode(path.read_bytes(), type=Profile)
        check_topic(profile.topic.replace("{id}", "x"))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, ValueError, TopicError) as error:
        raise SettingsError(f"the profile {path} cannot be used: {error}") from None
    return profile
