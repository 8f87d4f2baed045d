"""What docs/http.md shows is run, one after the other: commands print what the page says, programs end well."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.gateway import Plant

from millstream.app import load_app
from millstream.clock import VirtualClock
from millstream.gateway.http.answer import CODES
from millstream.log.sqlite import SqliteLog

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http.md").read_text()
ADDRESS = "127.0.0.1:8080"
ANYTHING = "…"


class Example(NamedTuple):
    """A command, and a pattern of what it prints."""

    command: tuple[str, ...]
    printed: str


def examples(page: str) -> Iterator[Example]:
    """Those of a page, in their order."""
    for language, block in re.findall(r"^```(console|python)\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        if language == "python":
            yield Example((sys.executable, "-c", block), ".*")
            continue
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = example.partition("\n")
            shell = command.replace("curl ", "curl --silent ")
            yield Example(("sh", "-c", shell), re.escape(printed.rstrip()).replace(ANYTHING, ".*"))


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


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_what_the_page_shows_is_what_happens(plant: Plant) -> None:
    assert plant.gateway.http_address is not None
    host, port = plant.gateway.http_address
    for command, printed in examples(PAGE):
        program = await asyncio.create_subprocess_exec(
            *(part.replace(ADDRESS, f"{host}:{port}") for part in command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, complaints = (text.decode() for text in await program.communicate())
        assert (program.returncode, complaints) == (0, ""), command
        assert re.fullmatch(printed, output.rstrip(), flags=re.DOTALL), f"{command} printed {output}"


def test_every_error_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert {int(status): code for status, code in documented} == CODES
