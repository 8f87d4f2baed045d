"""The processor, as far as this process may use it."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """How many threads can work at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
