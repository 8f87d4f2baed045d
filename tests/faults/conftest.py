"""A log that does soon what it does after hours, so that a short script meets all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from millstream.log.sqlite import checkpoint, coalesce


@pytest.fixture(autouse=True, scope="module")
def small_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "STEP_PAGES", 8)
        patch.setattr(checkpoint, "LIMIT_PAGES", 64)
        patch.setattr(coalesce, "ENOUGH", 4)
        yield
