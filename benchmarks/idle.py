"""What an idle system costs: memory for each connection that says nothing, and processor time while nothing happens."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import servers
from benchmarks.attempt import Attempts
from benchmarks.load import allow_files, connect_all
from benchmarks.peers import CACHE
from benchmarks.process import cpu_seconds, family, resident_bytes
from benchmarks.report import Aim, Section, skipped
from benchmarks.servers import Server

SERVERS = (servers.MILLSTREAM_WORKER, servers.MOSQUITTO)

_SETTLE_SECONDS = 3.0  # after the start and after the connections, before anything is measured


@dataclass(frozen=True, slots=True)
class Effort:
    """How many connections, how long to watch, and how often."""

    connections: int
    seconds: float
    rounds: int


THOROUGH = Effort(connections=10_000, seconds=20, rounds=2)
QUICK = Effort(connections=1_000, seconds=5, rounds=1)


@dataclass(frozen=True, slots=True)
class Cost:
    """`base`: bytes without a connection; `each`: bytes more a connection; `busy`: the part of a core used without a
    connection, and `busy_connected` with all of them."""

    base: int
    each: float
    busy: float
    busy_connected: float


def run(quick: bool) -> Section:
    """Measure every server that can be had."""
    effort = QUICK if quick else THOROUGH
    allow_files(effort.connections + 1_000)  # for us, and for the servers, which inherit it
    attempts = Attempts()
    costs: dict[str, list[Cost]] = {server.name: [] for server in SERVERS}
    for number in range(effort.rounds):
        print(f"idle {number + 1}/{effort.rounds}: {effort.connections:,} connections", file=sys.stderr)
        for server in SERVERS:
            if cost := attempts.measure(server.name, partial(measure, server, effort)):
                costs[server.name].append(cost)
    return _section(costs, attempts.skipped, effort)


def measure(server: Server, effort: Effort) -> Cost:
    """One fresh server, alone and then with its connections."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=CACHE, prefix="data-"))
        running = stack.enter_context(server.start(Path(folder).absolute()))
        base, busy = _observe(running.pid, effort.seconds)
        for connected in connect_all(running.port, effort.connections):
            stack.callback(connected.close)
        full, busy_connected = _observe(running.pid, effort.seconds)
        return Cost(base, (full - base) / effort.connections, busy, busy_connected)


def _observe(pid: int, seconds: float) -> tuple[int, float]:
    """Resident bytes, and the part of a core in use, once things have settled."""
    time.sleep(_SETTLE_SECONDS)
    pids = family(pid)
    begin, before = time.perf_counter(), cpu_seconds(pids)
    time.sleep(seconds)
    used, span = cpu_seconds(pids) - before, time.perf_counter() - begin
    return resident_bytes(pids), used / span


def _section(costs: Mapping[str, Sequence[Cost]], missing: Mapping[str, str], effort: Effort) -> Section:
    rows = [
        [name, skipped(missing[name]), "–", "–", "–"] if name in missing else [name, *_cells(found)]
        for name, found in costs.items()
    ]
    note = (
        f"Resident memory and processor time of all processes of a server: alone, and with {effort.connections:,} "
        f"connections that say nothing; over {effort.seconds:g} s each, medians of {effort.rounds} round(s)."
    )
    header = ("server", "memory alone", "more a connection", "processor alone", "processor, connected")
    busy = 100 * statistics.median(cost.busy for cost in costs[servers.MILLSTREAM_WORKER.name])
    aim = Aim("an idle server with its worker", busy, at_most=1, unit="% of a core")
    return Section("idle", header, rows, [aim], [note])


def _cells(costs: Sequence[Cost]) -> list[str]:
    return [
        f"{statistics.median(cost.base for cost in costs) / 2**20:.1f} MiB",
        f"{statistics.median(cost.each for cost in costs) / 2**10:.1f} KiB",
        f"{statistics.median(cost.busy for cost in costs):.2%}",
        f"{statistics.median(cost.busy_connected for cost in costs):.2%}",
    ]
