"""Settings of all tests, and what many of them share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("millstream", deadline=None)  # the machine may be busy with other things
settings.load_profile("millstream")


@pytest.fixture(scope="session")
def kafka_servers() -> Iterator[str]:
    """The address of a Kafka broker, which starts with the first test that asks for it."""
    from tests.support.kafka_logs import one_broker

    with one_broker() as servers:
        yield servers
