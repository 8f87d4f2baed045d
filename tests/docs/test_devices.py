"""What docs/devices.md shows is run, one after the other, and what it lists is what there is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.examples import run_examples
from tests.support.gateway import Plant

from millstream.clock import SystemClock, VirtualClock
from millstream.devices import Registry, What
from millstream.devices.fields import COLUMNS
from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog
from millstream.password import hash_password

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "devices.md").read_text()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def plant(clock: VirtualClock) -> AsyncIterator[Plant]:
    """A gateway that ada may manage."""
    log = await SqliteLog.memory(clock)
    await log.create(StreamSpec("events", ("#",)))
    registry = await Registry.open("", None, clock)
    plant = Plant(log, clock, registry)
    users = {"ada": {"password": hash_password("secret"), "manage": True, "administer": True}}
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users)
    yield plant
    await plant.stop()
    await registry.close()
    await log.close()


@pytest.mark.parametrize("clock", [VirtualClock(SystemClock().now())])
async def test_what_the_page_about_provisioning_shows_is_what_happens(plant: Plant) -> None:
    """Its programs sign tokens that end by the clock of the machine."""
    await run_examples((DOCS / "provisioning.md").read_text(), plant)


@pytest.mark.parametrize("page", ["twins", "commands", "jobs", "api-keys"])
async def test_what_other_pages_show_is_what_happens(plant: Plant, page: str) -> None:
    await run_examples((DOCS / f"{page}.md").read_text(), plant)


async def test_what_the_page_shows_is_what_happens(plant: Plant) -> None:
    await run_examples(PAGE, plant)
    assert await plant.payloads("events") == [b'{"celsius": 91}', b'{"celsius": 92}']


def test_fields_and_events_are_documented_and_no_others() -> None:
    fields = re.search(r"^\| fields \| (.*) \|$", PAGE, flags=re.MULTILINE)
    assert fields is not None
    assert set(re.findall(r"`(\w+)`", fields[1])) == set(COLUMNS)
    happens = PAGE[PAGE.index("## What happens") :]
    commands = (DOCS / "commands.md").read_text()
    commands = commands[commands.index("## What stands") :]
    rows = re.findall(r"^\| (`.*?) \|", happens + commands, flags=re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"\w+", row)]
    assert documented == [each.value for each in What]
