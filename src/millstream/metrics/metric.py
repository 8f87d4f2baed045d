"""A metric: its name, as Prometheus' conventions have it, and what it says."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """What can be done with a metric's values."""

    COUNTER = "counter"
    """Only grows, and begins again at 0 with its process."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels` tell its series apart. Their values are bounded by what an application declares or by Millstream itself:
    never topics, keys or devices."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
