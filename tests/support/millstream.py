"""Millstream as users run it: a real process with a data folder, found by what it prints."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from millstream.cli.publishing import Publisher
from millstream.event import Event
from millstream.log import Merge, find_positions
from millstream.log.sqlite import ReadOnlyLog

READY_SECONDS = 120.0  # on a machine that is busy with other things
END_SECONDS = 120.0

_BASE_INSTALL = str(Path(__file__).with_name("base_install"))
_READY = re.compile(r"^ready: mqtt (?P<mqtt>\S+), http (?P<http>\S+), data (?P<data>.+), (?P<workers>\d+) workers?$")


def environment() -> dict[str, str]:
    """Ours, without settings of Millstream, and without pandas: pyarrow imports it wherever it is installed, which
    takes each process longer than all that it needs itself."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    return {**ours, "PYTHONPATH": os.pathsep.join([_BASE_INSTALL, *filter(None, [ours.get("PYTHONPATH")])])}


def millstream(*arguments: str, stdin: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "millstream", *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=400,  # for the demo on a busy machine; what hangs is no fast test anyway
        env={**environment(), **variables},
        check=False,
    )


def read_stream(folder: Path, stream: str) -> list[Event]:
    """A stream's events from the file, as `millstream tail` orders them."""

    async def read() -> list[Event]:
        log = await ReadOnlyLog.open(folder)
        try:
            return [event async for event in Merge(log, stream, await find_positions(log, stream, "earliest")).round()]
        finally:
            await log.close()

    return asyncio.run(read())


class Running:
    """`millstream run` (or `dev`), ready."""

    def __init__(
        self, folder: Path, *arguments: str, cwd: Path | None = None, command: str = "run", **variables: str
    ) -> None:
        self.folder = folder
        self._log = (folder.parent / f"{folder.name}.log").open("a+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "millstream", command, *arguments, "--data", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=cwd,
            env={**environment(), **variables},
        )
        self.line = self._first_line()
        match = _READY.match(self.line)
        assert match is not None, self.line + self.logs()
        self.mqtt, self.http = match["mqtt"], match["http"]
        self.workers = int(match["workers"])

    def _first_line(self) -> str:
        out = self.process.stdout
        assert out is not None
        readable, _, _ = select.select([out], [], [], READY_SECONDS)
        assert readable, f"not ready in {READY_SECONDS} s: {self.logs()}"
        return out.readline().rstrip("\n")

    @property
    def mqtt_port(self) -> int:
        return int(self.mqtt.rpartition(":")[2])

    @property
    def http_port(self) -> int:
        return int(self.http.rpartition(":")[2])

    def publish(self, topic: str, *payloads: str) -> None:
        """Publish JSON; returns when it is acknowledged."""
        host, _, port = self.http.rpartition(":")
        publisher = Publisher(host, int(port), None, None)
        try:
            publisher.post(topic, "\n".join(payloads).encode(), "application/x-ndjson")
        finally:
            publisher.close()

    def logs(self) -> str:
        """What it wrote on standard error."""
        self._log.seek(0)
        return self._log.read()

    def children(self) -> dict[str, int]:
        """The child processes: name → process id."""
        return children_of(self.process.pid)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it; its exit code, and what else it wrote on standard output."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=END_SECONDS)
        return self.process.returncode, out

    def close(self) -> None:
        """Kill whatever still runs, all at once. Idempotent."""
        if self._log.closed:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # so that it starts nobody again
            for pid in self.children().values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.kill()
        self.process.communicate()
        self._log.close()


@contextlib.contextmanager
def running(folder: Path, *arguments: str, cwd: Path | None = None, **variables: str) -> Iterator[Running]:
    """Run on free ports, for anybody, until the block ends."""
    with running_on((0, 0), folder, *arguments, cwd=cwd, **variables) as run:
        yield run


@contextlib.contextmanager
def running_on(
    ports: tuple[int, int], folder: Path, *arguments: str, cwd: Path | None = None, **variables: str
) -> Iterator[Running]:
    """The same on these ports, for MQTT and for HTTP."""
    mqtt, http = ports
    run = Running(
        folder,
        *arguments,
        "--mqtt",
        f"127.0.0.1:{mqtt}",
        "--http",
        f"127.0.0.1:{http}",
        "--allow-anonymous",
        cwd=cwd,
        **variables,
    )
    try:
        yield run
    finally:
        run.close()


def children_of(pid: int) -> dict[str, int]:
    """The live children of a process that are ours: the name that the supervisor gave → process id."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError, ValueError):
            if entry.name.isdecimal() and _parent(entry) == pid:
                command = (entry / "cmdline").read_bytes().decode().split("\0")
                found[command[command.index("millstream.runtime") + 2]] = int(entry.name)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return _stat(Path(f"/proc/{pid}"))[0] != "Z"
    except OSError:
        return False


def until(condition: Any, seconds: float = 120.0, what: str = "the condition") -> Any:
    """Wait for what no event tells: until `condition()` is true, and give its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come in {seconds} s")


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    fields = _stat(Path(f"/proc/{pid}"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _parent(entry: Path) -> int:
    return int(_stat(entry)[1])


def _stat(entry: Path) -> list[str]:
    """The fields of /proc/PID/stat from the third one (state) on; the second, the name, may hold anything."""
    return (entry / "stat").read_text().rpartition(")")[2].split()
