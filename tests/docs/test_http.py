"""What docs/http.md shows is run, one after the other: commands print what the page says, programs end well."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.examples import run_examples
from tests.support.gateway import Plant

from millstream.app import load_app
from millstream.clock import VirtualClock
from millstream.gateway.http.answer import CODES
from millstream.log.sqlite import SqliteLog

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http.md").read_text()


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    """The README's application, on a clock that stands still."""
    clock = VirtualClock()
    log = await SqliteLog.memory(clock)
    for stream in load_app(str(ROOT / "examples" / "plant.py")).streams.values():
        await log.create(stream)
    plant = Plant(log, clock)
    await plant.start(http="127.0.0.1:0")
    yield plant
    await plant.stop()
    await log.close()


async def test_what_the_page_shows_is_what_happens(plant: Plant) -> None:
    await run_examples(PAGE, plant)


def test_every_error_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert {int(status): code for status, code in documented} == CODES
