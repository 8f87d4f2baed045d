"""`server.json`: written whole, for this user only, and no more than a hint."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from millstream.clock import SystemClock
from millstream.runtime.endpoint import ServerInfo, read_server_info, remove_server_info, write_server_info
from millstream.runtime.server import Server
from millstream.settings import Settings

INFO = ServerInfo(pid=7, version="1", started=1_767_225_600_000_000, mqtt="127.0.0.1:1883", http=None)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_server_info(tmp_path, INFO)
    assert read_server_info(tmp_path) == INFO
    assert stat.S_IMODE((tmp_path / "server.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["server.json"]


def test_it_replaces_what_a_dead_server_left(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{}")
    (tmp_path / "server.json.new").write_text("half")
    write_server_info(tmp_path, INFO)
    assert read_server_info(tmp_path) == INFO


@pytest.mark.parametrize("content", [None, b"", b'{"pid": 1', b'{"pid": 1}', b"\xff"])
def test_none_or_a_broken_one_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "server.json").write_bytes(content)
    assert read_server_info(tmp_path) is None
    remove_server_info(tmp_path)
    remove_server_info(tmp_path)
    assert not (tmp_path / "server.json").exists()


async def test_a_server_serves_where_it_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "server.json.new").mkdir()
    settings = Settings(data=tmp_path, mqtt="127.0.0.1:0", http="", allow_anonymous=True)
    async with Server.opened(settings, SystemClock()) as server:
        assert (await server.listen()).mqtt is not None
    assert "commands need --mqtt or --http" in caplog.text
