"""What a page of the documentation shows, run as it stands: commands print what the page says, programs end well."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tests.support.gateway import Plant

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
            yield Example(("sh", "-c", command), re.escape(printed.rstrip()).replace(ANYTHING, ".*"))


async def run_examples(page: str, plant: Plant) -> None:
    """Run those of a page, one after the other, against a gateway in the place of a server at its default addresses."""
    for program in ("curl", "mosquitto_pub"):
        if program in page and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    assert plant.gateway.http_address is not None
    host, port = plant.gateway.http_address
    replaced = {
        "127.0.0.1:8080": f"{host}:{port}",
        '"127.0.0.1", 1883': f'"127.0.0.1", {plant.address[1]}',
        "curl ": "curl --silent ",
        "mosquitto_pub ": f"mosquitto_pub -p {plant.address[1]} ",
    }
    for command, printed in examples(page):
        for written, meant in replaced.items():
            command = tuple(part.replace(written, meant) for part in command)
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, complaints = (text.decode() for text in await process.communicate())
        assert (process.returncode, complaints) == (0, ""), command
        assert re.fullmatch(printed, output.rstrip(), flags=re.DOTALL), f"{command} printed {output}"
