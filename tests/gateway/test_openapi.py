"""The OpenAPI document says what is so: it is valid, it has all that there is, and schemathesis finds no answer that it
does not have, nor a 5xx."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import openapi_spec_validator
import pytest
from tests.support.gateway import Plant
from tests.support.http import client_of
from tests.support.millstream import Running

from millstream.devices import Registry
from millstream.devices.name import MAX_CHARACTERS, check_id
from millstream.errors import DeviceError
from millstream.gateway import Gateway
from millstream.gateway.http.openapi import _ID, needed
from millstream.settings import GivenSettings

ROOT = Path(__file__).parents[2]
EXAMPLES = os.environ.get("MILLSTREAM_SCHEMATHESIS", "5")  # of each operation; more find more
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
# A tail has no end; a call waits for a device; a key must not take itself away.
LEFT_OUT = r"/tail$|/methods/|^/keys/"


@pytest.fixture
async def registry(plant: Plant) -> AsyncIterator[Registry]:
    registry = await Registry.open("", None, plant.clock)
    yield registry
    await registry.close()


async def test_the_document_is_valid_and_has_everything(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as http:
        response = await http.get("/openapi.json")
    document = response.json()
    openapi_spec_validator.validate(document)
    described = {(method.upper(), path) for path, its in document["paths"].items() for method in its}
    assert described == {(each.method, re.sub(r":\w+}", "}", each.path)) for each in plant.gateway.operations}
    names = [its["operationId"] for path in document["paths"].values() for its in path.values()]
    assert len(set(names)) == len(names)


def test_the_command_prints_the_document() -> None:
    done = subprocess.run([sys.executable, "-m", "millstream", "openapi"], capture_output=True, text=True, check=True)
    assert '"openapi": "3.1.0"' in done.stdout
    assert "/enrollments/{enrollment}" in done.stdout


def test_ids_are_as_the_document_says() -> None:
    pattern = re.compile(str(_ID["pattern"]))
    for code in range(0x20, 0x100):
        text = f"a{chr(code)}"
        try:
            check_id(text)
        except DeviceError:
            assert not pattern.search(text)
        else:
            assert pattern.search(text)
    assert not pattern.search("a" * (MAX_CHARACTERS + 1))


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    run = Running(tmp_path / "data", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0")
    try:
        (key,) = re.findall(r"^msk_\S+$", run.logs(), flags=re.MULTILINE)
        arguments = ["run", f"http://{run.http}/openapi.json", "--header", f"Authorization: Bearer {key}", "--no-color"]
        arguments += ["--max-examples", EXAMPLES, "--phases", "coverage,fuzzing", "--checks", ",".join(CHECKS)]
        arguments += ["--exclude-path-regex", LEFT_OUT, "--request-timeout", "30"]
        hooks = {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **hooks},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        tested = re.search(r"Tested: (\d+)", done.stdout)
        assert tested is not None and int(tested[1]) > 50
    finally:
        run.close()


async def test_the_page_lists_what_there_is(plant: Plant, registry: Registry) -> None:
    gateway = Gateway(plant.log, GivenSettings(allow_anonymous=True), plant.clock, registry=registry)
    there = [
        f"| `{each.method}` | `{re.sub(r':[a-z]+}', '}', each.path)}` | {each.text} | {needed(each.needs)} |"
        for each in gateway.operations
    ]
    page = (ROOT / "docs" / "http-api.md").read_text()
    assert re.findall(r"^\| `[A-Z]+` \|.*$", page, flags=re.MULTILINE) == there
