"""The stream engines that are compared, each run in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import events, peers
from benchmarks.events import WINDOW_SECONDS, Events
from benchmarks.machine import LOAD_CORE, SERVER_CORE, pinned
from benchmarks.process import RunError, end

_HERE = Path(__file__).parent
_TINY = 2 * events.DEVICES  # events a rate of 1 of the run that costs hardly more than its start
_RUN_SECONDS = 900
_CORES = (SERVER_CORE, LOAD_CORE)


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine. `measure(events, results)` gives events a second, and leaves its results at the path `results` unless
    that is None; `columns` says what it calls device, end, n, mean and peak there."""

    name: str
    how: str
    columns: Mapping[str, str]
    measure: Callable[[Events, Path | None], float]


def millstream(*cores: int) -> Callable[[Events, Path | None], float]:
    """Server, log and one worker, on these cores."""

    def measure(made: Events, results: Path | None) -> float:
        command = [sys.executable, "-m", "benchmarks.windows_millstream", made.count, made.rate, *_results(results)]
        return made.count / _run(command, cores)[-1]

    return measure


def flink(made: Events, results: Path | None) -> float:
    """Flink SQL on a local mini-cluster. A run over all events warms the JVM up; then a tiny run tells what a job costs
    before and after its events, which is taken off the measured one."""
    tiny = events.make(_TINY * made.rate, made.rate)
    sources = [made.parts, tiny.parts, made.parts]
    command = [peers.flink_python(), "-P", _HERE / "windows_flink.py", *sources, *_windows()]
    _, start, full = _run([*command, "--parallelism", len(_CORES)], _CORES)
    if results:
        _run([*command[:3], made.parts, *_windows(), "--parallelism", len(_CORES), *_results(results)], _CORES)
    return made.count / (full - start)


def bytewax(made: Events, results: Path | None) -> float:
    """Bytewax, one worker."""
    command = [peers.python("bytewax"), "-P", _HERE / "windows_bytewax.py", made.whole, *_windows()]
    return made.count / _run([*command, *_results(results)], _CORES)[-1]


def _windows() -> list[object]:
    return ["--window-seconds", WINDOW_SECONDS]


def _results(path: Path | None) -> list[object]:
    return ["--results", path] if path else []


def _run(command: Sequence[object], cores: Sequence[int]) -> list[float]:
    """Run a script that prints seconds as a JSON list, on these cores only. Raises `RunError`."""
    with pinned(*cores):
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    try:
        output, complaints = process.communicate(timeout=_RUN_SECONDS)
    finally:
        end(process)
    if process.returncode:
        raise RunError(f"{command[0]} {command[2]} ended with {process.returncode}: {complaints[-1000:]}")
    seconds: list[float] = json.loads(output.splitlines()[-1])
    return seconds


_PLAIN = {name: name for name in ("device", "end", "n", "mean", "peak")}

MILLSTREAM = Engine(
    "Millstream", "read from its log, results and positions committed to it", _PLAIN, millstream(*_CORES)
)
MILLSTREAM_ONE = Engine("Millstream on one core", "the same", _PLAIN, millstream(SERVER_CORE))
FLINK = Engine("Flink SQL", "read from files, parallelism 2, nothing written", {**_PLAIN, "end": "window_end"}, flink)
BYTEWAX = Engine("Bytewax", "read from memory, one worker, nothing written", _PLAIN, bytewax)
