"""Events a second by HTTP, acknowledged when they are on disk: beside an endpoint that only appends to a file."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import servers
from benchmarks.attempt import Attempts
from benchmarks.http_load import Result
from benchmarks.ingest import Effort
from benchmarks.machine import LOAD_CORE, SERVER_CORE, pinned
from benchmarks.peers import CACHE
from benchmarks.process import free_port, generate, running
from benchmarks.report import Section, rate_cell, ratio, ratio_cell, skipped


@dataclass(frozen=True, slots=True)
class Shape:
    """Connections with one request under way each, and events a request."""

    connections: int
    events: int

    def __str__(self) -> str:
        return f"{self.connections} × 1 event" if self.events == 1 else f"{self.connections} × {self.events} events"


SHAPES = (Shape(1, 1), Shape(100, 1), Shape(10, 100))
THOROUGH = Effort(warm_up=2, seconds=5, rounds=3)
QUICK = Effort(warm_up=0.5, seconds=2, rounds=1)


@contextmanager
def millstream(folder: Path) -> Iterator[int]:
    """`millstream run` with two streams; its HTTP port."""
    port = free_port()
    with servers.serve_app("plant.py", folder / "data", folder / "output", 0, http=port):
        yield port


@contextmanager
def endpoint(folder: Path) -> Iterator[int]:
    """uvicorn with `http_peer`; its port."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", "benchmarks.http_peer:app", "--port", port),
        *("--no-access-log", "--log-level", "warning"),
    ]
    environment = {"BENCH_FILE": str(folder / "events.ndjson")}
    with running(command, output=folder / "output", ready=partial(_answers, port), environment=environment):
        yield port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


Start = Callable[[Path], AbstractContextManager[int]]
MILLSTREAM, ENDPOINT = "Millstream", "uvicorn + Starlette, append and fsync"
SERVERS: Mapping[str, Start] = {MILLSTREAM: millstream, ENDPOINT: endpoint}


def run(quick: bool) -> Section:
    """Measure both."""
    effort = QUICK if quick else THOROUGH
    attempts = Attempts()
    rates: dict[tuple[str, Shape], list[float]] = {(name, shape): [] for name in SERVERS for shape in SHAPES}
    for number in range(effort.rounds):
        for shape in SHAPES:
            print(f"http {number + 1}/{effort.rounds}: {shape}", file=sys.stderr)
            for name, start in SERVERS.items():
                if result := attempts.measure(name, partial(measure, start, shape, effort)):
                    rates[name, shape].append(result.rate)
    return _section(rates, attempts.skipped, effort)


def measure(start: Start, shape: Shape, effort: Effort) -> Result:
    """One run of the generator against a fresh server. Raises `RunError`."""
    with (
        tempfile.TemporaryDirectory(dir=CACHE, prefix="data-") as folder,
        pinned(SERVER_CORE),
        start(Path(folder).absolute()) as port,
        pinned(LOAD_CORE),
    ):
        options = {
            "port": port,
            "connections": shape.connections,
            "events": shape.events,
            "warm-up": effort.warm_up,
            "seconds": effort.seconds,
        }
        return Result(**generate("benchmarks.http_load", options, effort.warm_up + effort.seconds))


def _section(rates: Mapping[tuple[str, Shape], Sequence[float]], missing: Mapping[str, str], effort: Effort) -> Section:
    rows = []
    for name in SERVERS:
        if name in missing:
            rows.append([name, skipped(missing[name]), *["–"] * (len(SHAPES) - 1)])
            continue
        cells = [rate_cell(rates[name, shape]) for shape in SHAPES]
        if name != MILLSTREAM:
            ratios = [ratio_cell(ratio(rates[MILLSTREAM, shape], rates[name, shape])) for shape in SHAPES]
            cells = [f"{cell} · {times}" for cell, times in zip(cells, ratios, strict=True)]
        rows.append([name, *cells])
    note = (
        f"Events acknowledged a second: medians (and ranges) of {effort.rounds} round(s) of {effort.seconds:g} s after "
        f"{effort.warm_up:g} s of warm-up; behind the dot, how many times as fast Millstream is."
    )
    return Section("http", ("server", *map(str, SHAPES)), rows, notes=[note])
