"""Messages a second from publishers to subscribers, beside Mosquitto: server and generator have a core each."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import process, servers
from benchmarks.attempt import Attempts
from benchmarks.machine import LOAD_CORE, SERVER_CORE, pinned
from benchmarks.peers import CACHE
from benchmarks.pubsub_load import Result
from benchmarks.report import Aim, Section, rate_cell, ratio, ratio_cell, skipped
from benchmarks.servers import Server


@dataclass(frozen=True, slots=True)
class Case:
    """A shape of `pubsub_load` at a QoS, with a number of messages on their way in each group; and how many times as
    fast as Mosquitto Millstream is meant to be."""

    text: str
    shape: str
    qos: int
    window: int
    at_least: float
    warm_up: float = 0.0
    """Seconds before it is measured, if more than for the others: until every topic has been seen."""


CASES = (
    Case("1 → 1,000, QoS 0", "fan-out", 0, 20, 1.0),
    Case("1 → 1,000, QoS 1", "fan-out", 1, 20, 0.7),
    Case("1,000 → 1, QoS 0", "fan-in", 0, 1_000, 1.0),
    Case("1,000 → 1, QoS 1", "fan-in", 1, 1_000, 1.0),
    Case("100 → 100, QoS 0", "pairs", 0, 10, 0.7),
    Case("100 → 100, QoS 1", "pairs", 1, 10, 0.7),
    Case("100,000 wildcard filters, QoS 0", "wildcards", 0, 1_000, 0.7, warm_up=5),
)
SERVERS = (servers.MILLSTREAM, servers.MOSQUITTO_PUBSUB)

Rates = Mapping[tuple[str, Case], Sequence[Result]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: seconds of warm-up, seconds measured, and rounds."""

    warm_up: float
    seconds: float
    rounds: int


THOROUGH = Effort(warm_up=1, seconds=4, rounds=3)
QUICK = Effort(warm_up=1, seconds=2, rounds=1)


def run(quick: bool) -> Section:
    """Measure every server that can be had."""
    effort = QUICK if quick else THOROUGH
    attempts = Attempts()
    results: dict[tuple[str, Case], list[Result]] = {(server.name, case): [] for server in SERVERS for case in CASES}
    for number in range(effort.rounds):
        for case in CASES:
            print(f"pubsub {number + 1}/{effort.rounds}: {case.text}", file=sys.stderr)
            for server in SERVERS:
                if result := attempts.measure(server.name, partial(measure, server, case, effort)):
                    results[server.name, case].append(result)
    return _section(results, attempts.skipped, effort)


def measure(server: Server, case: Case, effort: Effort) -> Result:
    """One run of the generator against a fresh server."""
    with (
        tempfile.TemporaryDirectory(dir=CACHE, prefix="data-") as folder,
        pinned(SERVER_CORE),
        server.start(Path(folder).absolute()) as running,
    ):
        options = {
            "port": running.port,
            "shape": case.shape,
            "qos": case.qos,
            "window": case.window,
            "warm-up": max(effort.warm_up, case.warm_up),
            "seconds": effort.seconds,
            "watch": running.pid,
        }
        with pinned(LOAD_CORE):
            return Result(**process.generate("benchmarks.pubsub_load", options, 15 + effort.seconds))


def _section(results: Rates, missing: Mapping[str, str], effort: Effort) -> Section:
    ours, peer = (server.name for server in SERVERS)
    rows = []
    aims = []
    for case in CASES:
        mine, its = _rates(results[ours, case]), _rates(results[peer, case])
        theirs = skipped(missing[peer]) if peer in missing else f"{rate_cell(its)} · {ratio_cell(ratio(mine, its))}"
        rows.append([case.text, rate_cell(mine), theirs, _cores(results[ours, case]), _cores(results[peer, case])])
        aims.append(Aim(f"{case.text} against Mosquitto", ratio(mine, its), at_least=case.at_least))
    note = (
        f"Messages that reached their subscribers a second: medians (and ranges) of {effort.rounds} round(s) of "
        f"{effort.seconds:g} s after {effort.warm_up:g} s of warm-up; behind the dot, how many times as fast "
        "Millstream is. Busy: the cores that the server and the generator used; where the server's is well below 1, "
        "the generator is what was measured."
    )
    return Section("pubsub", ("messages", "Millstream", "Mosquitto", "busy", "busy, Mosquitto"), rows, aims, [note])


def _rates(results: Sequence[Result]) -> list[float]:
    return [result.rate for result in results]


def _cores(results: Sequence[Result]) -> str:
    if not results:
        return "–"
    last = results[-1]
    return f"{last.watched_cpu:.2f} + {last.own_cpu:.2f}"
