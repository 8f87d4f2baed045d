"""The comparison of results finds what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import events
from benchmarks.events import DEVICES, Events


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Events:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "CACHE", tmp_path_factory.mktemp("cache"))
        return events.make(25 * DEVICES, rate=1)


def test_both_files_together_have_the_lines_of_the_whole(made: Events) -> None:
    parts = [line for part in sorted(made.parts.iterdir()) for line in part.read_text().splitlines()]
    assert sorted(parts) == sorted(made.whole.read_text().splitlines())


def test_expected_results_are_those_of_closed_windows(made: Events) -> None:
    results = events.expected(made)
    assert len(results) == 2 * DEVICES
    counts = sorted(n for n, _, _ in results.values())
    assert counts[-1] == 10 and sum(counts) == 20 * DEVICES - 2  # two of the malformed lines fall into them


def test_right_results_have_no_differences_and_wrong_ones_have(made: Events, tmp_path: Path) -> None:
    wanted = events.expected(made)
    rows = [(device, end, *values) for (device, end), values in wanted.items()]
    assert events.differences(rows, wanted, made.last_closed) == []
    assert len(events.differences(rows[1:], wanted, made.last_closed)) == 1
    assert len(events.differences([*rows, rows[0]], wanted, made.last_closed)) == 1
    device, end, n, mean, peak = rows[0]
    assert len(events.differences([(device, end, n, mean + 1e-3, peak), *rows[1:]], wanted, made.last_closed)) == 1


def test_results_are_read_with_their_columns_names(tmp_path: Path) -> None:
    columns = {"device": "d", "end": "e", "n": "n", "mean": "m", "peak": "p"}
    (tmp_path / "part").write_text(json.dumps({"d": "x", "e": "2025-01-01T00:00:10Z", "n": 1, "m": 2.0, "p": 3.0}))
    assert list(events.read_results(tmp_path, columns)) == [("x", 1_735_689_610, 1, 2.0, 3.0)]
