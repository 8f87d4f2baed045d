"""The snippets of the pages run: those of a page, one after the other, are an application."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millstream.app import App, load_app

DOCS = Path(__file__).parents[2] / "docs"

Load = Callable[[str, str], App]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Loads the snippets of a page as one file."""
    known, path = set(sys.modules), list(sys.path)

    def load(page: str, name: str) -> App:
        snippets = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
        (tmp_path / "snippets.py").write_text("\n\n".join(snippets))
        return load_app(f"{tmp_path / 'snippets.py'}:{name}")

    yield load
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):  # libraries cannot be loaded twice
            del sys.modules[name]


def test_snippets_about_applications_are_applications(load: Load) -> None:
    app = load("applications.md", "app")
    app.check()
    functions = {handler.signature.function.__name__ for handler in app.handlers}
    assert functions == {"door_opened", "check", "store", "count_openings", "watch", "keep"}
    assert len(app.subscriptions) == 1
    assert load("applications.md", "weather").lifespan is not None


async def test_snippet_about_reference_data_joins_with_its_file(load: Load, tmp_path: Path) -> None:
    section = (DOCS / "queries.md").read_text().partition("## Reference data")[2]
    (table,) = re.findall(r"```text\n(.*?)```", section, flags=re.DOTALL)
    (tmp_path / "machines.csv").write_text(table)
    (tmp_path / "snippet.py").write_text(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)[0])
    async with load_app(str(tmp_path / "snippet.py")).test() as plant:
        for device, celsius in [("press-1", 85), ("press-1", 70), ("press-2", 85), ("press-3", 99)]:
            await plant.publish(f"site/a/{device}/telemetry", {"ts": "2026-01-01T00:00:01Z", "celsius": celsius})
        await plant.advance("30s")
        (result,) = plant.stream("too-hot")
        assert result.data == {
            "device": "press-1",
            "line": "A",
            "peak": 85.0,
            "allowed": 80,
            "window_end": "2026-01-01T00:00:10Z",
        }


@pytest.mark.parametrize("number", [0, 1])
async def test_snippets_about_joins_find_runs_and_what_never_ended(load: Load, tmp_path: Path, number: int) -> None:
    section = (DOCS / "queries.md").read_text().partition("## Events that belong together")[2]
    (tmp_path / "snippet.py").write_text(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)[number])
    async with load_app(str(tmp_path / "snippet.py")).test() as plant:
        for minute, state, batch, pieces in [(0, "started", 7, None), (5, "started", 8, None), (9, "ended", 7, 120)]:
            data = {"ts": f"2026-01-01T00:0{minute}:00Z", "state": state, "batch": batch, "pieces": pieces}
            await plant.publish("site/a/press-1/state", data)
        await plant.advance("40m")
        assert [
            [event.data[name] for name in ("device", "batch", "pieces", "overdue")] for event in plant.stream("runs")
        ] == [
            ["press-1", 7, 120, False],
            ["press-1", 8, None, True],
        ]


async def test_snippet_about_two_streams_finds_what_was_not_answered(load: Load, tmp_path: Path) -> None:
    section = (DOCS / "queries.md").read_text().partition("### Events of two streams")[2]
    (tmp_path / "snippet.py").write_text(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)[0])
    async with load_app(str(tmp_path / "snippet.py")).test() as plant:
        for number in (1, 2):
            await plant.publish("site/a/press-1/call", {"called": "2026-01-01T00:00:00Z", "number": number})
        await plant.publish("line/3/press-1/answer", {"answered": "2026-01-01T00:00:09Z", "number": 2})
        await plant.advance("1m")
        assert [event.data for event in plant.stream("unanswered")] == [
            {"device": "press-1", "number": 1, "at": "2026-01-01T00:00:30Z"}
        ]
