"""How many examples the largest properties try: each run tries others, `.ci/run` all of them, `make test` a third."""

from __future__ import annotations

import os

THOROUGH = os.environ.get("MILLSTREAM_EXAMPLES") == "all"


def examples(number: int) -> int:
    """What `max_examples` should be, of so many."""
    return number if THOROUGH else number // 3
