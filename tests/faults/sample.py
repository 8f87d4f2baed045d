"""How many of the moments of a run are tried: a few, or with MILLSTREAM_FAULTS=all (`make faults`) every one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from random import Random

ALL = os.environ.get("MILLSTREAM_FAULTS") == "all"


def sample(total: int, few: int) -> Sequence[int]:
    """Numbers below `total`, always the same ones, or all of them."""
    return range(total) if ALL or few >= total else sorted(Random(total).sample(range(total), few))
