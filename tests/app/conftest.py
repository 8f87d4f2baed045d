"""Applications in files of a folder of their own."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file of the working folder; what is imported from there is forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "plant", raising=False)  # of another test in this process
    known, path = set(sys.modules), list(sys.path)

    def write(name: str, text: str) -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
        return tmp_path / name

    yield write
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):  # libraries cannot be loaded twice
            del sys.modules[name]
