"""Publishes a second at QoS 1: one server on one core, the generator of `load` on the other.

A round starts every server afresh for every number of connections, one after the other, so that noise of the machine
falls on all of them; the figures are medians over the rounds.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import process, servers
from benchmarks.attempt import Attempts
from benchmarks.load import Result
from benchmarks.machine import LOAD_CORE, SERVER_CORE, pinned
from benchmarks.peers import CACHE
from benchmarks.process import RunError
from benchmarks.report import Aim, Section, rate_cell, ratio, ratio_cell, skipped
from benchmarks.servers import Server


@dataclass(frozen=True, slots=True)
class Shape:
    """Connections, publishes in flight on each, and devices behind each."""

    connections: int
    in_flight: int
    devices: int = 1

    def __str__(self) -> str:
        behind = f", {self.devices} devices each" if self.devices > 1 else ""
        return f"{self.connections:,} × {self.in_flight}{behind}"


BUSY = (Shape(10, 100), Shape(100, 20))
GATEWAYS = Shape(10, 100, devices=100)
SINGLE = Shape(1_000, 1)
SHAPES = (*BUSY, GATEWAYS, SINGLE)
SERVERS = (
    servers.MILLSTREAM,
    servers.MOSQUITTO,
    servers.NATS,
    servers.NATS_ALWAYS,
    servers.AMQTT,
    servers.MILLSTREAM_WORKER,
)

Rates = Mapping[tuple[str, Shape], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: seconds of warm-up, seconds measured, and rounds."""

    warm_up: float
    seconds: float
    rounds: int


THOROUGH = Effort(warm_up=2, seconds=5, rounds=3)
QUICK = Effort(warm_up=0.5, seconds=2, rounds=1)


def run(quick: bool) -> Section:
    """Measure every server that can be had."""
    effort = QUICK if quick else THOROUGH
    attempts = Attempts()
    rates: dict[tuple[str, Shape], list[float]] = {(server.name, shape): [] for server in SERVERS for shape in SHAPES}
    for number in range(effort.rounds):
        for shape in SHAPES:
            print(f"ingest {number + 1}/{effort.rounds}: {shape}", file=sys.stderr)
            for server in SERVERS:
                if result := attempts.measure(server.name, partial(measure, server, shape, effort)):
                    rates[server.name, shape].append(result.rate)
    return _section(rates, attempts.skipped, effort)


def measure(server: Server, shape: Shape, effort: Effort) -> Result:
    """One run of the generator against a fresh server. Raises `MissingError`; `RunError` if the server or the generator
    failed, or the server stored less than it acknowledged."""
    with (
        tempfile.TemporaryDirectory(dir=CACHE, prefix="data-") as folder,
        pinned(SERVER_CORE),
        server.start(Path(folder).absolute()) as running,
    ):
        with pinned(LOAD_CORE):
            result = generate(running.port, running.pid, shape, effort)
        stored = running.stored()
        if stored is not None and stored < result.acknowledged:
            raise RunError(f"{server.name} acknowledged {result.acknowledged} and stored {stored}")
        return result


def generate(port: int, watch: int, shape: Shape, effort: Effort) -> Result:
    """Run the generator in a process of its own."""
    options = {
        "port": port,
        "connections": shape.connections,
        "in-flight": shape.in_flight,
        "devices": shape.devices,
        "warm-up": effort.warm_up,
        "seconds": effort.seconds,
        "watch": watch,
    }
    return Result(**process.generate("benchmarks.load", options, effort.warm_up + effort.seconds))


def _section(rates: Rates, missing: Mapping[str, str], effort: Effort) -> Section:
    rows = []
    for server in SERVERS:
        if server.name in missing:
            rows.append([server.name, skipped(missing[server.name]), *["–"] * len(SHAPES)])
        else:
            rows.append([server.name, server.promise, *(_cell(rates, server, shape) for shape in SHAPES)])
    note = (
        f"Publishes acknowledged a second: medians (and ranges) of {effort.rounds} round(s) of {effort.seconds:g} s "
        f"after {effort.warm_up:g} s of warm-up; behind the dot, how many times as fast Millstream is."
    )
    header = ("server", "acknowledged means", *map(str, SHAPES))
    return Section("ingest", header, rows, _aims(rates), [note])


def _cell(rates: Rates, server: Server, shape: Shape) -> str:
    cell = rate_cell(rates[server.name, shape])
    return cell if server is servers.MILLSTREAM else f"{cell} · {ratio_cell(_times(rates, server, shape))}"


def _times(rates: Rates, peer: Server, shape: Shape) -> float | None:
    return ratio(rates[servers.MILLSTREAM.name, shape], rates[peer.name, shape])


def _aims(rates: Rates) -> list[Aim]:
    wanted = ((servers.MOSQUITTO, 3), (servers.NATS, 2), (servers.NATS_ALWAYS, 50), (servers.AMQTT, 20))
    aims = [
        Aim(f"{shape} against {peer.name}", _times(rates, peer, shape), at_least=times)
        for shape in BUSY
        for peer, times in wanted
    ]
    return [
        *aims,
        Aim(f"{SINGLE} against Mosquitto", _times(rates, servers.MOSQUITTO, SINGLE), at_least=0.8),
        Aim(f"{SINGLE} against amqtt", _times(rates, servers.AMQTT, SINGLE), at_least=20),
    ]
