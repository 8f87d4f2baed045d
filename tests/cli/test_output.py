"""Tables, in a terminal of 80 columns and in a pipe."""

from __future__ import annotations

import pytest
from rich.console import Console

from millstream.cli.output import make_table, show_tables
from millstream.cli.overview import _streams_table

STREAM = {
    "stream": "overheating.late",
    "topics": ["site/{site}/{device}/telemetry", "site/{site}/{device}/telemetry/raw"],
    "key": "device",
    "partitions": 8,
    "events": 345_678,
    "first_time": "2026-11-25T10:14:19.048049Z",
    "last_time": "2026-11-26T10:14:20.048049Z",
}


def test_nothing_of_a_table_is_cut_off_in_a_terminal_of_80_columns() -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(_streams_table([STREAM]))
    shown = capture.get()
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    for whole in ("overheating.late", "2026-11-25", "10:14:19Z", "2026-11-26", "10:14:20Z", "345 678"):
        assert whole in shown


def test_a_row_is_a_line_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    show_tables(_streams_table([STREAM]), make_table("Empty", ("a", "b"), []))
    lines = capfd.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("overheating.late"))
    assert row.split()[-2:] == ["2026-11-26", "10:14:20Z"]
    assert "" in lines
