"""`millstream run` as a user runs it: real processes, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.support.millstream import (
    END_SECONDS,
    Running,
    alive,
    cpu_seconds,
    environment,
    millstream,
    read_stream,
    running,
    until,
)

from millstream.clock import SystemClock
from millstream.errors import MillstreamError
from millstream.log.sqlite import SqliteLog
from millstream.runtime.server import LOG_FAULT_EXIT
from millstream.settings import LogSettings

PLANT = """
from millstream import App, Event

app = App("plant")
telemetry = app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")
echoes = app.stream("echoes", topics="echo/{device}", key="device")


@app.on(telemetry, into="echo/{device}")
async def echo(event: Event, device: str) -> dict[str, object]:
    print("printed by a handler")
    return {"seq": event.data["seq"]}
"""

STUCK = (
    PLANT
    + """
import time

@app.on(telemetry)
def stuck(event: Event) -> None:
    print("stuck now")
    time.sleep(3600)
"""
)


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    path = tmp_path / "plant.py"
    path.write_text(PLANT)
    return path


def publish(run: Running, device: str, *seqs: int) -> None:
    """Publish readings; returns when they are acknowledged."""
    run.publish(f"site/a/{device}/telemetry", *(f'{{"seq": {seq}}}' for seq in seqs))


def stored(folder: Path, stream: str) -> list[int]:
    """The numbers of the readings in a stream."""
    return [event.data["seq"] for event in read_stream(folder, stream)]


def echoed(folder: Path, count: int) -> list[int]:
    """The echoes, once there are so many."""
    until(lambda: len(stored(folder, "echoes")) >= count, what=f"{count} echoes")
    return stored(folder, "echoes")


def test_without_an_app_everything_is_captured_and_sigterm_ends_it_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(folder) as run:
        assert run.workers == 0
        assert set(run.children()) == {"server"}
        publish(run, "press-1", 1, 2)
        code, rest = run.stop()
        assert (code, rest) == (0, "")
        assert "Traceback" not in run.logs()
    assert not (folder / "server.sock").exists()
    assert not (folder / "server.json").exists()
    assert stored(folder, "events") == [1, 2]


def test_killed_children_are_started_again_and_nothing_is_lost_or_done_twice(tmp_path: Path, plant: Path) -> None:
    folder = tmp_path / "data"
    with running(folder, str(plant), "--workers", "1") as run:
        publish(run, "press-1", 1)
        assert echoed(folder, 1) == [1]
        until(lambda: idles(run), what="a quiet second")  # what its start has left to do is done

        os.kill(run.children()["worker"], signal.SIGKILL)
        publish(run, "press-1", 2)
        assert echoed(folder, 2) == [1, 2]

        killed = run.children()["server"]
        os.kill(killed, signal.SIGKILL)
        until(lambda: run.children().get("server", killed) != killed, what="a new server")
        until(lambda: "server is back" in run.logs(), what="the new server")
        publish(run, "press-1", 3)  # where it was before
        assert echoed(folder, 3) == [1, 2, 3]

        for pid in run.children().values():  # as when the machine has no memory left
            os.kill(pid, signal.SIGKILL)
        until(lambda: run.logs().count("worker is back") == 2, what="a worker that has waited for the server")
        publish(run, "press-1", 4)
        assert echoed(folder, 4) == [1, 2, 3, 4]

        code, rest = run.stop(signal.SIGINT)
        assert (code, rest) == (0, "")
        assert "cannot start" not in run.logs()
        assert "printed by a handler" in run.logs()
        assert "killed by SIGKILL" in run.logs()
        assert "Traceback" not in run.logs()


def test_a_server_whose_disk_fails_ends_and_recovers_without_having_promised_anything(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(folder) as run:
        publish(run, "press-1", 1)
        # Files may not be written beyond this any more, which the log finds out in the middle of a commit.
        resource.prlimit(run.children()["server"], resource.RLIMIT_FSIZE, (20_000, 20_000))
        with pytest.raises(MillstreamError):
            publish(run, "press-1", 2)
        until(lambda: "server is back" in run.logs(), what="a server without that limit")
        assert f"exit code {LOG_FAULT_EXIT}" in run.logs()
        publish(run, "press-1", 3)
        assert run.stop()[0] == 0
    assert stored(folder, "events") in ([1, 3], [1, 2, 3])


def idles(run: Running) -> bool:
    """Whether it does next to nothing for a second: less than any loop of polling. The figure that we promise is
    measured in `benchmarks`."""
    children = run.children()
    before = {name: cpu_seconds(pid) for name, pid in children.items()}
    time.sleep(1.0)
    return all(cpu_seconds(pid) - before[name] < 0.1 for name, pid in children.items())


def test_children_end_with_a_killed_supervisor(tmp_path: Path, plant: Path) -> None:
    with running(tmp_path / "data", str(plant)) as run:
        publish(run, "press-1", 1)
        children = run.children()
        assert set(children) == {"server", "worker"}
        run.process.kill()
        run.process.wait()
        until(lambda: not any(alive(pid) for pid in children.values()), what="the end of the children")
    assert stored(tmp_path / "data", "telemetry") == [1]


def test_what_a_killed_server_leaves_behind_does_not_hinder_the_next_one(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(folder) as run:
        publish(run, "press-1", 1)
        run.close()
    assert (folder / "server.json").exists()
    assert (folder / "server.sock").exists()
    with running(folder) as run:
        publish(run, "press-1", 2)
        assert run.stop()[0] == 0
    assert stored(folder, "events") == [1, 2]


def test_without_workers_nothing_is_missed_by_one_that_comes_later(tmp_path: Path, plant: Path) -> None:
    folder = tmp_path / "data"
    with running(folder, str(plant), "--workers", "0") as run:
        assert run.workers == 0
        publish(run, "press-1", 1)
        worker = subprocess.Popen(
            [sys.executable, "-m", "millstream", "work", str(plant), "--data", str(folder)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            assert echoed(folder, 1) == [1]
            worker.send_signal(signal.SIGTERM)
            _, told = worker.communicate(timeout=END_SECONDS)
            assert worker.returncode == 0, told
        finally:
            worker.kill()
            worker.communicate()
        assert run.stop()[0] == 0


def test_a_handler_that_does_not_end_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    app = tmp_path / "stuck.py"
    app.write_text(STUCK)
    with running(tmp_path / "data", str(app), MILLSTREAM_DRAIN_TIMEOUT="PT2S") as run:
        publish(run, "press-1", 1)
        assert echoed(run.folder, 1) == [1]
        until(lambda: "stuck now" in run.logs(), what="the handler")
        children = run.children()
        assert run.stop()[0] == 0
        assert "not everything was finished" in run.logs()
        assert not any(alive(pid) for pid in children.values())
    with running(tmp_path / "data", str(app)) as run:
        until(lambda: run.logs().count("stuck now") == 2, what="the handler")
        children = run.children()
        run.process.send_signal(signal.SIGINT)
        until(lambda: run.logs().count("stopping") == 2, what="the drain")
        assert run.stop(signal.SIGINT)[0] == 130
        assert not any(alive(pid) for pid in children.values())


def failing(*arguments: str) -> str:
    """Run what cannot start; what it says, which is all it says."""
    done = millstream("run", *arguments, "--mqtt", "127.0.0.1:0", "--allow-anonymous")
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return f"{done.returncode}: {done.stderr}"


async def test_a_second_server_on_the_folder_is_refused_with_the_process_that_has_it(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path, LogSettings(), SystemClock())
    told = await asyncio.to_thread(failing, "--data", str(tmp_path), "--http", "127.0.0.1:0")
    await log.close()
    assert told.startswith("1: error: the data folder")
    assert f"process {os.getpid()}" in told


async def test_a_data_folder_of_another_version_is_told(tmp_path: Path) -> None:
    await (await SqliteLog.open(tmp_path, LogSettings(), SystemClock())).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as file:
        file.execute("PRAGMA user_version = 9999")
    told = await asyncio.to_thread(failing, "--data", str(tmp_path), "--http", "127.0.0.1:0")
    assert told.startswith("1: error: ")
    assert "9999" in told


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = failing("--data", str(tmp_path / "data"), "--http", address)
    assert told.startswith(f"2: error: setting 'http': {address} is in use")


@pytest.mark.parametrize(
    ("source", "told", "workers"),
    [
        (None, "no file", "1"),
        ("import nothing_of_that_name", "plant.py:1: ModuleNotFoundError", "0"),
        ("from millstream import App\napp = App('a')\napp.query('q', 'SELECT nonsense')", "plant.py:3: query 'q'", "2"),
    ],
)
def test_a_wrong_application_is_told_before_anything_begins(
    tmp_path: Path, source: str | None, told: str, workers: str
) -> None:
    path = tmp_path / "plant.py"
    if source is not None:
        path.write_text(source)
    said = failing(str(path), "--data", str(tmp_path / "data"), "--http", "127.0.0.1:0", "--workers", workers)
    assert said.startswith("2: error: ")
    assert told in said
    assert not (tmp_path / "data").exists()


def test_the_first_start_shows_an_admins_key_and_the_next_one_does_not(tmp_path: Path) -> None:
    for _ in range(2):
        run = Running(tmp_path / "data", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0")
        try:
            (key,) = re.findall(r"^msk_\S+$", run.logs(), flags=re.MULTILINE)
            with httpx.Client(base_url=f"http://{run.http}") as http:
                assert http.get("/devices").status_code == 401
                assert http.get("/keys", headers={"Authorization": f"Bearer {key}"}).is_success
            assert run.stop()[0] == 0
        finally:
            run.close()
