"""Settings of all tests, and what many of them share."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.support.hangs import Watch

# The machine may be busy with other things.
settings.register_profile("millstream", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("millstream")

# Chosen here, so that all processes of one run have the same: those of pytest-xdist inherit the environment.
os.environ.setdefault("MILLSTREAM_CRASH_SEED", str(time.time_ns() % 1_000_000))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Watch(os.fdopen(os.dup(sys.stderr.fileno()), "w")))


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: a third of all tests' time is waiting, for processes and for the disk."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def kafka_servers() -> Iterator[str]:
    """The address of a Kafka broker, which starts with the first test that asks for it."""
    from tests.support.kafka_logs import one_broker

    with one_broker() as servers:
        yield servers
