"""An event that no query can decode, at the command line: one thing to look at, and to send again, however many queries
there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.millstream import Running, running, until

from millstream.cli import frame

APP = """
from millstream import App, Retry

app = App("plant", catch_all=False)
telemetry = app.stream("telemetry", topics="site/{device}", key="device", partitions=1)
for number in range(5):
    app.query(f"q{number}", f"SELECT device, n + {number} AS n FROM telemetry", start="earliest")

@app.on(telemetry, start="earliest", group="odd", retry=Retry(attempts=1))
def odd(data: dict) -> None:
    if data["n"] == 3:
        raise ValueError("three")
"""

POISON = "telemetry:0:1"
"""Where it stands."""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Running]:
    """Five queries and a handler that have met it between two readings, of which the handler cannot stand one."""
    app = tmp_path / "poisoned.py"
    app.write_text(APP)
    with running(tmp_path / "data", str(app)) as run:
        with httpx.Client(base_url=f"http://{run.http}") as http:
            for payload in (b'{"n": 1}', b'{"n": 2', b'{"n": 3}'):
                assert http.post("/topics/site/press-1", content=payload).is_success
        yield run


def told(run: Running, capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command says."""
    capfd.readouterr()
    ended = frame.execute(["deadletters", *arguments, "--data", str(run.folder)])
    out, err = capfd.readouterr()
    assert ended == code, out + err
    return str(out + err)


def test_it_is_one_case(run: Running, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    letters = until(lambda: len(rows := json.loads(told(run, capfd, "list", "--json"))) == 7 and rows)
    groups = {"odd", *(f"q{number}" for number in range(5))}
    assert {letter["group"] for letter in letters if letter["position"] == POISON} == groups
    (three,) = (letter["letter"] for letter in letters if letter["position"] != POISON)
    table = told(run, capfd, "list")
    assert table.count(POISON) == 1
    assert "2 more" in table
    assert three in table
    assert POISON not in told(run, capfd, "list", "--group", "q3")  # a letter by itself is called as ever
    assert "of 7" in told(run, capfd, "list", "--limit", "1")
    assert told(run, capfd, "show", POISON).count("reason") == 2  # the handler has one of its own
    assert len(json.loads(told(run, capfd, "show", POISON, "--json"))) == 6
    told(run, capfd, "drop", three)
    mended = tmp_path / "mended.json"
    mended.write_text('{"n": 2}')
    assert "6 dead letters sent again" in told(run, capfd, "resend", POISON, "--payload", str(mended))
    with httpx.Client(base_url=f"http://{run.http}") as http:
        for number in range(5):
            results = until(lambda: len(found := results_of(http, f"q{number}")) == 3 and found)  # noqa: B023
            assert sorted(results) == [1 + number, 2 + number, 3 + number]
    assert "none are open" in told(run, capfd, "list")
    assert "is resolved already" in told(run, capfd, "resend", POISON, code=1)
    assert "there is no dead letter of telemetry:0:0" in told(run, capfd, "show", "telemetry:0:0", code=1)
    assert "there is no dead letter of nowhere:0:0" in told(run, capfd, "show", "nowhere:0:0", code=1)


def results_of(http: httpx.Client, stream: str) -> list[int]:
    """What a query has published."""
    found = []
    for partition in range(8):
        answer = http.get(f"/streams/{stream}/{partition}", params={"from": "0"})
        found += [event["data"]["n"] for event in answer.json()["events"]]
    return found
