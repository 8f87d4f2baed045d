"""A plant touches nothing outside of the process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from millstream.app import App, load_app
from millstream.event import Event

PLANT = str(Path(__file__).parents[2] / "examples" / "plant.py")

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_FORBIDDEN = ("socket.", "subprocess.", "os.mkdir", "os.rename", "os.remove", "tempfile.")
_heard: list[tuple[str, str]] | None = None


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _heard is not None and (event.startswith(_FORBIDDEN) or (event == "open" and _is_for_writing(arguments))):
        _heard.append((event, repr(arguments)))


def _is_for_writing(arguments: tuple[object, ...]) -> bool:
    _, mode, flags = arguments
    return (isinstance(mode, str) and mode.strip("rbt") != "") or (isinstance(flags, int) and flags & _WRITING != 0)


sys.addaudithook(_listen)  # there is no way to take it back, so it listens only when asked


def _open_files() -> set[str]:
    """What the process has open, also by libraries in C."""
    return {str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()}


async def test_no_socket_is_opened_and_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    global _heard
    app = load_app(PLANT)
    async with app.test():
        pass  # what it imports is imported
    monkeypatch.chdir(tmp_path)
    before = _open_files() if sys.platform == "linux" else set()
    heard: list[tuple[str, str]] = []
    _heard = heard
    try:
        async with app.test(workers=2) as plant:
            await plant.publish("site/a/press-1/telemetry", {"ts": "2026-01-01T00:00:00Z", "celsius": 91})
            await plant.advance("30s")
            await plant.crash()
            assert len(plant.alerts) == 1
            if sys.platform == "linux":
                assert _open_files() <= before
        (tmp_path / "proof").touch()
    finally:
        _heard = None
    assert [event for event, _ in heard] == ["open"]  # the proof that it listens
    assert os.listdir(tmp_path) == ["proof"]  # noqa: PTH208


async def test_neither_environment_nor_settings_file_changes_a_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "millstream.toml").write_text("workers = 0\nnonsense = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLSTREAM_LOG__DEDUPLICATION_IDS", "0")
    app = App("plant")

    @app.on("t")
    async def handle(event: Event) -> None: ...

    async with app.test() as plant:
        await plant.publish("t", 1)
        assert plant.counts("handle") == {"processed": 1}
