"""The stream engines that are compared, each run in a process of its own."""

from __future__ import annotations

import json
import os
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
        return made.count / run(command, cores)[-1]

    return measure


@dataclass(frozen=True, slots=True)
class FlinkSql:
    """A query of Flink's: `columns` of the events and of the `answers`, and a SELECT from `{source}`."""

    columns: str
    answers: str
    query: str

    def seconds(self, all_of_them: Path, few: Path, results: Path | None) -> float:
        """On a local mini-cluster, over the events in a folder. A run over all of them warms the JVM up; then a run
        over a few tells what a job costs before and after its events, which is taken off the measured one."""
        options = ["--parallelism", len(_CORES), "--columns", self.columns, "--answers", self.answers]
        options += ["--query", self.query]
        command = [peers.flink_python(), "-P", _HERE / "flink_sql.py"]
        _, start, full = run([*command, all_of_them, few, all_of_them, *options], _CORES)
        if results:
            run([*command, all_of_them, *options, *_results(results)], _CORES)
        return full - start


_FLINK = FlinkSql(
    "device STRING, ts TIMESTAMP_LTZ(3), celsius DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND",
    "device STRING, window_end TIMESTAMP_LTZ(3), n BIGINT, mean DOUBLE, peak DOUBLE",
    f"""
    SELECT device, CAST(window_end AS TIMESTAMP_LTZ(3)), count(*), avg(celsius), max(celsius)
    FROM TABLE(TUMBLE(TABLE {{source}}, DESCRIPTOR(ts), INTERVAL '{WINDOW_SECONDS}' SECOND))
    GROUP BY device, window_start, window_end""",
)


def flink(made: Events, results: Path | None) -> float:
    """Flink SQL."""
    tiny = events.make(_TINY * made.rate, made.rate)
    return made.count / _FLINK.seconds(made.parts, tiny.parts, results)


def bytewax(made: Events, results: Path | None) -> float:
    """Bytewax, one worker."""
    command: list[object] = [peers.python("bytewax"), "-P", _HERE / "windows_bytewax.py", made.whole]
    command += ["--window-seconds", WINDOW_SECONDS]
    return made.count / run([*command, *_results(results)], _CORES)[-1]


def _results(path: Path | None) -> list[object]:
    return ["--results", path] if path else []


def run(command: Sequence[object], cores: Sequence[int], **environment: str) -> list[float]:
    """Run a script that prints seconds as a JSON list, on these cores only, with more variables in its environment.
    Raises `RunError`."""
    with pinned(*cores):
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **environment},
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
