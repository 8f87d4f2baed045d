"""What supervisor and children tell each other."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from tests.support.mqtt import PATIENCE

from millstream.errors import AppError, MillstreamError
from millstream.runtime.control import (
    Control,
    Drain,
    Failed,
    Go,
    Message,
    OrphanedError,
    Prepared,
    Ready,
    Start,
    Stop,
    decode_line,
    encode_line,
)
from millstream.settings import Settings


def test_settings_reach_a_child_whole_and_unmixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(
        data=Path("elsewhere"), users={"ada": "hash"}, log={"retention_age": "P30D"}, limits={"packet_bytes": "2MiB"}
    )
    Path("millstream.toml").write_text('mqtt = "nonsense"\nunknown = 1\n')
    monkeypatch.setenv("MILLSTREAM_HTTP", "127.0.0.1:1")
    monkeypatch.setenv("MILLSTREAM_USERS", '{"eve": "hash"}')
    message = decode_line(encode_line(Start.of(settings, "plant.py")))
    assert isinstance(message, Start)
    assert message.read_settings().model_dump() == settings.model_dump()
    assert message.app == "plant.py"


@pytest.mark.parametrize("message", [Prepared(), Go(), Ready("127.0.0.1:1883", None), Drain(), Stop()])
def test_messages_pass_whole(message: Message) -> None:
    assert decode_line(encode_line(message)) == message


def test_an_error_keeps_its_class_and_its_lines() -> None:
    message = decode_line(encode_line(Failed.of(AppError("plant.py:1: one\nplant.py:2: two"))))
    assert isinstance(message, Failed)
    assert type(message.error) is AppError
    assert str(message.error) == "plant.py:1: one\nplant.py:2: two"


async def test_a_child_hears_and_answers_and_notices_the_end_of_its_supervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr("millstream.runtime.control.ORPHAN_SECONDS", 0.0)
    monkeypatch.setattr("millstream.runtime.control.os._exit", lambda code: loop.call_soon_threadsafe(ended.set))
    ours, theirs = socket.socketpair()
    with theirs:
        control = Control(theirs)
        ours.sendall(encode_line(Go()) + encode_line(Stop())[:3])
        await control.expect(Go)
        control.say(Prepared())
        assert decode_line(ours.recv(1000)) == Prepared()
        ours.sendall(encode_line(Stop())[3:])
        with pytest.raises(MillstreamError, match="where Drain was due"):
            await control.expect(Drain)
        ours.close()
        with pytest.raises(OrphanedError):
            await control.expect(Stop)
        async with asyncio.timeout(PATIENCE):
            await ended.wait()  # in earnest, that is the end of the process
        control.say(Prepared())
