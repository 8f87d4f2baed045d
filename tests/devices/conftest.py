"""The databases over which the behavioural suite runs. Another one adds a fixture's branch, and nothing else."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres import WHY_NOT, postgres, programs

from millstream.clock import VirtualClock
from millstream.devices import Registry

OpenRegistry = Callable[[], Awaitable[Registry]]

_numbers = itertools.count()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    if programs() is None and "MILLSTREAM_REQUIRE_POSTGRES" not in os.environ:
        pytest.skip(WHY_NOT)
    with postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """A new database."""
    name = f"registry{next(_numbers)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgres_server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["file", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """The setting `registry`."""
    return "" if request.param == "file" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def open_registry(url: str, clock: VirtualClock, tmp_path: Path) -> AsyncIterator[OpenRegistry]:
    """Opens the same registry each time, after the one before was closed."""
    opened: list[Registry] = []

    async def open_again() -> Registry:
        for each in opened:
            await each.close()
        opened.append(await Registry.open(url, tmp_path, clock))
        return opened[-1]

    yield open_again
    for each in opened:
        await each.close()


@pytest.fixture
async def registry(open_registry: OpenRegistry) -> Registry:
    return await open_registry()
