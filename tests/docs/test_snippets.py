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
        del sys.modules[name]


def test_snippets_about_applications_are_applications(load: Load) -> None:
    app = load("applications.md", "app")
    app.check()
    functions = {handler.signature.function.__name__ for handler in app.handlers}
    assert functions == {"door_opened", "check", "store", "keep"}
    assert len(app.subscriptions) == 1
    assert load("applications.md", "weather").lifespan is not None
