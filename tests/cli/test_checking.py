"""`millstream check` as people and scripts use it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.commands import execute
from tests.support.millstream import millstream

WRONG = """
from millstream import App, Event

app = App("plant")


@app.on("site/{site}")
def one(side: str) -> None: ...


@app.on("a", group="x")
def two(event: Event) -> None: ...


@app.on("b", group="x")
def three(event: Event) -> None: ...
"""


def test_problems_are_printed_with_their_places_and_the_exit_code_tells(tmp_path: Path) -> None:
    path = tmp_path / "plant.py"
    path.write_text(WRONG)
    done = millstream("check", str(path))
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{path}:7: handler one: parameter 'side' is no level of the topic; did you mean 'site'?")
    assert second.startswith(f"{path}:15: handler three: something is named 'x' already")
    assert done.stderr == "2 problems\n"
    done = execute("check", str(path), "--json")
    assert done.returncode == 1
    assert [(one["file"], one["line"]) for one in json.loads(done.stdout)] == [(str(path), 7), (str(path), 15)]


def test_right_application_is_praised(tmp_path: Path) -> None:
    path = tmp_path / "plant.py"
    path.write_text(WRONG.replace("side", "site").replace('"b", group="x"', '"b"'))
    done = execute("check", str(path), "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert execute("check", str(path)).stderr == f"nothing is wrong with {path}\n"


def test_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    done = execute("check", str(tmp_path / "plant.py"))
    assert done.returncode == 2
    assert "no file" in done.stderr


def test_asyncapi_document_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "plant.py"
    path.write_text(WRONG.replace("side", "site").replace('"b", group="x"', '"b"'))
    document = json.loads(execute("asyncapi", str(path)).stdout)
    assert document["asyncapi"] == "3.0.0"
    assert set(document["operations"]) == {"plant.one", "x", "plant.three"}


def test_asyncapi_of_a_wrong_application_is_told(tmp_path: Path) -> None:
    path = tmp_path / "plant.py"
    path.write_text(WRONG)
    done = execute("asyncapi", str(path))
    assert done.returncode == 2
    assert f"{path}:7: handler one" in done.stderr
