"""Everything that is wrong in an app is found at once, without running it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.app.load import find_problems
from millstream.app.problems import Problem
from millstream.errors import AppError

Write = Callable[..., Path]

HEAD = """
    from dataclasses import dataclass, field
    from typing import Annotated, TypedDict

    import msgspec
    from pydantic import BaseModel, ConfigDict, Field

    from millstream import App, Depends, Event, Retry

    class Reading(msgspec.Struct):
        celsius: float
        note: str = ""

    app = App("plant")
    telemetry = app.stream("telemetry", "site/{site}/{device}", key="device", payload=Reading)
"""
WINDOW = "GROUP BY device, TumblingWindow(second, 10)"


def find(write: Write, *lines: str) -> list[Problem]:
    """What is wrong with these lines; numbers of lines count from the first of them."""
    write("plant.py", HEAD + "".join(f"    {line}\n" for line in lines))
    before = HEAD.count("\n")
    problems = find_problems("plant.py")
    assert all(one.file == "plant.py" and one.line is not None for one in problems)
    return [Problem(one.text, one.file, (one.line or 0) - before) for one in problems]


def says(write: Write, *lines: str) -> str:
    """The one thing that is wrong with these lines."""
    (problem,) = find(write, *lines)
    return problem.text


def test_nothing_is_wrong_with_what_is_right(write: Write) -> None:
    assert not find(
        write,
        "@app.on(telemetry)",
        "def handle(reading: Reading, device: str) -> None: ...",
        f"app.query('hot', 'SELECT device, avg(celsius) AS mean FROM telemetry {WINDOW}', into='alerts')",
        "@app.on('alerts')",
        "def alerted(alert: dict[str, float]) -> None: ...",
    )


def test_every_wrong_declaration_is_told_once_with_its_line(write: Write) -> None:
    problems = find(
        write,
        "@app.on(telemetry)",
        "def one(devise: str) -> None: ...",
        "@app.subscribe('a/#/b')",
        "def two() -> None: ...",
        "@app.on('a', group='three')",
        "def three(event: Event) -> None: ...",
        "@app.on('b', group='three')",
        "def four(event: Event) -> None: ...",
        "app.stream('telemetry', 'again')",
        f"app.query('hot', 'SELECT device, avg(celsius) AS mean FROM telemetry {WINDOW}', start='now')",
    )
    assert [(one.line, one.text.split(":")[0]) for one in problems] == [
        (1, "handler one"),
        (3, "subscription two"),
        (7, "handler four"),
        (9, "stream 'telemetry' is declared twice (first at plant.py"),
        (10, "query 'hot'"),
    ]


def test_whoever_uses_a_wrong_stream_is_not_told_of_too(write: Write) -> None:
    text = says(
        write,
        "wrong = app.stream('wrong', 'a/#/b')",
        "@app.on(wrong)",
        "def handle(device: str) -> None: ...",
        f"app.query('hot', 'SELECT device, avg(celsius) AS mean FROM wrong {WINDOW}')",
    )
    assert text.startswith("stream 'wrong': ")


def test_wrong_queries_are_all_told(write: Write) -> None:
    problems = find(
        write,
        f"app.query('one', 'SELECT device, avg(celsius) AS mean FROM telemetri {WINDOW}')",
        "@app.on('t')",
        "def wrong(devise: str) -> None: ...",
        f"app.query('two', 'SELECT device, avg(celsius AS mean FROM telemetry {WINDOW}')",
    )
    assert [one.line for one in problems] == [1, 2, 4]


def test_stream_named_in_place_of_its_topic_is_never_called(write: Write) -> None:
    text = says(write, "@app.on('telemetry')", "def handle(event: Event) -> None: ...")
    assert text.startswith("handler handle is called for the topic 'telemetry', and not for the stream of that name")
    assert "site/{site}/{device}" in text


def test_stream_that_captures_the_topic_of_its_name_may_be_named(write: Write) -> None:
    assert not find(write, "app.stream('door', 'door')", "@app.on('door')", "def handle(event: Event) -> None: ...")


def test_query_of_a_field_that_the_payload_has_not(write: Write) -> None:
    text = says(write, f"app.query('hot', 'SELECT device, avg(celcius) AS mean FROM telemetry {WINDOW}')")
    assert text.startswith("query 'hot' reads 'celcius', which Reading, the payload of stream 'telemetry', has not; ")
    assert text.endswith("did you mean 'celsius'?")


@pytest.mark.parametrize(
    "kind",
    [
        "class Kind(msgspec.Struct):\n        celsius: float\n        bar: float",
        "class Kind(BaseModel):\n        celsius: float\n        bar: float",
        "@dataclass\n    class Kind:\n        celsius: float\n        bar: float",
        "class Kind(TypedDict):\n        celsius: float\n        bar: float",
        "class Kind(BaseModel):\n        pressure: float = Field(validation_alias='bar')",
        "class Kind(msgspec.Struct, rename={'pressure': 'bar'}):\n        pressure: float",
    ],
)
@pytest.mark.parametrize("parameter", ["Kind", "Annotated[Kind, 1]", "Annotated[int, Depends(lambda_)]"])
def test_handler_of_another_type_than_its_stream_has(write: Write, kind: str, parameter: str) -> None:
    text = says(
        write,
        kind,
        "def lambda_(kind: Kind) -> int: ...",
        "@app.on(telemetry)",
        f"def handle(kind: {parameter}) -> None: ...",
    )
    assert "requires 'bar', and the payloads of stream 'telemetry' have only 'celsius', 'note'" in text


@pytest.mark.parametrize(
    "kind",
    [
        "class Kind(msgspec.Struct):\n        celsius: float\n        bar: float = 0",
        "class Kind(BaseModel):\n        celsius: float\n        bar: float | None = None",
        "@dataclass\n    class Kind:\n        bar: list[int] = field(default_factory=list)",
        "class Kind(TypedDict, total=False):\n        bar: float",
        "Kind = dict[str, float]",
        "Kind = bytes",
    ],
)
def test_handler_of_a_type_that_fits(write: Write, kind: str) -> None:
    assert not find(write, kind, "@app.on(telemetry)", "def handle(kind: Kind) -> None: ...")


@pytest.mark.parametrize("source", ["'alerts'", "'#'", "alerts"])
def test_handler_of_another_type_than_a_querys_results_have(write: Write, source: str) -> None:
    text = says(
        write,
        "class Alert(msgspec.Struct):\n        device: str\n        peak: float",
        f"alerts = app.query('hot', 'SELECT device, avg(celsius) AS mean FROM telemetry {WINDOW}', into='alerts')",
        f"@app.on({source})",
        "def handle(alert: Alert) -> None: ...",
    )
    assert "requires 'peak', and the payloads of query 'hot' have only 'device', 'mean'" in text


def test_error_in_the_file_is_its_problem(write: Write) -> None:
    problems = find(write, "@app.on('t')", "def wrong(devise: str) -> None: ...", "1 / 0")
    assert [(one.line, one.text.split(":")[0]) for one in problems] == [(1, "handler wrong"), (3, "ZeroDivisionError")]


def test_no_app_is_no_problem_but_an_error(write: Write) -> None:
    with pytest.raises(AppError, match=r"no file 'missing\.py'"):
        find_problems("missing.py")
