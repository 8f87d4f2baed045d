"""Processes that a benchmark starts: always ended, with whatever they started, and watched through /proc."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class RunError(Exception):
    """A process did not do what it was started for. The text has the end of what it printed."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[object],
    *,
    output: Path,
    ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Start `command`, wait until `ready`, give its process id; on the way out end it and its descendants.

    It inherits this process's cores. What it prints goes to the file `output`. Raises `RunError`.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C reaches only us, who end it
        )
    try:
        _wait(process, ready, output)
        yield process.pid
    finally:
        end(process)


def _wait(process: subprocess.Popen[bytes], ready: Callable[[], bool], output: Path) -> None:
    deadline = time.perf_counter() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.perf_counter() > deadline:
            how = "is not ready in time" if process.returncode is None else f"ended with {process.returncode}"
            raise RunError(f"{process.args!r} {how}: {output.read_text(errors='replace')[-1000:]}")
        time.sleep(0.02)


def generate(module: str, options: Mapping[str, object], seconds: float) -> dict[str, Any]:
    """Run a load generator in a process of its own, for about so long; the JSON that it prints. An option that is True
    stands alone, one that is False is left out. Raises `RunError`."""
    command = [sys.executable, "-m", module]
    for name, value in options.items():
        command += [] if value is False else [f"--{name}"] if value is True else [f"--{name}", str(value)]
    told = " ".join(command[2:])
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120 + seconds)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"the generator does not come to an end: {told}") from error
    if done.returncode:
        raise RunError(f"the generator failed: {told}: {done.stderr[-1000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def end(process: subprocess.Popen[Any]) -> None:
    """End a process, and whatever of its descendants outlives it. One that has ended is fine."""
    descendants = [(pid, _started(pid)) for pid in family(process.pid) if pid != process.pid]
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid, started in descendants:
        if started is not None and _started(pid) == started:  # not a stranger who got the number since
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def unwind_on_sigterm() -> None:
    """SIGTERM ends this process as Ctrl-C does: what was started is ended, what was made is removed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time that these processes have used, user and system."""
    return sum(int(stat[11]) + int(stat[12]) for pid in pids if (stat := _stat(pid))) / _TICKS


def resident_bytes(pids: Sequence[int]) -> int:
    """Resident memory of these processes together."""
    return sum(int(stat[21]) for pid in pids if (stat := _stat(pid))) * _PAGE


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None if it is gone."""
    stat = _stat(pid)
    return stat[19] if stat else None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name (proc(5) numbers them from 3); empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
