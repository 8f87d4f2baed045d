"""Settings of all tests."""

from __future__ import annotations

import os
import time

from hypothesis import settings

settings.register_profile("millstream", deadline=None)  # the machine may be busy with other things
settings.load_profile("millstream")

# Chosen here, so that all processes of one run have the same: those of pytest-xdist inherit the environment.
os.environ.setdefault("MILLSTREAM_CRASH_SEED", str(time.time_ns() % 1_000_000))
