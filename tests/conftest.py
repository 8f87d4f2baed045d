"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("millstream", deadline=None)  # the machine may be busy with other things
settings.load_profile("millstream")
