"""Events a second through a query over windows: tumbling 10 s, count, average and maximum by device, from JSON.

Every engine gets the same events, on the same two cores, one engine at a time, and must find the same results. What
it does before the first event (starting, planning, loading code) is not counted.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import engines, events
from benchmarks.attempt import Attempts
from benchmarks.engines import Engine
from benchmarks.events import Events, Results
from benchmarks.peers import CACHE
from benchmarks.process import RunError
from benchmarks.report import Aim, Section, rate_cell, ratio, ratio_cell, skipped

ENGINES = (engines.MILLSTREAM, engines.FLINK, engines.BYTEWAX, engines.MILLSTREAM_ONE)


@dataclass(frozen=True, slots=True)
class Effort:
    """How many events, how often."""

    count: int
    rounds: int


THOROUGH = Effort(count=2_000_000, rounds=3)
QUICK = Effort(count=200_000, rounds=1)


def run(quick: bool) -> Section:
    """Measure every engine that can be had."""
    effort = QUICK if quick else THOROUGH
    made = events.make(effort.count)
    wanted = events.expected(made)
    attempts = Attempts()
    rates: dict[str, list[float]] = {engine.name: [] for engine in ENGINES}
    for number in range(effort.rounds):
        print(f"windows {number + 1}/{effort.rounds}: {effort.count:,} events", file=sys.stderr)
        for engine in ENGINES:
            check = wanted if number == 0 else None
            if rate := attempts.measure(engine.name, partial(measure, engine, made, check)):
                rates[engine.name].append(rate)
    return _section(rates, attempts.skipped, effort)


def measure(engine: Engine, made: Events, wanted: Results | None) -> float:
    """Events a second of one run; with `wanted`, its results are compared. Raises `MissingError`; `RunError` if the
    engine failed or its results are wrong."""
    if wanted is None:
        return engine.measure(made, None)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="results-") as folder:
        results = Path(folder).absolute() / "results"
        rate = engine.measure(made, results)
        found = events.read_results(results, engine.columns)
        problems = events.differences(found, wanted, made.last_closed)
    if problems:
        raise RunError(f"{len(problems)} of {len(wanted)} results are wrong, among them {'; '.join(problems[:3])}")
    return rate


def _section(rates: Mapping[str, Sequence[float]], missing: Mapping[str, str], effort: Effort) -> Section:
    ours = rates[engines.MILLSTREAM.name]
    rows = []
    for engine in ENGINES:
        if engine.name in missing:
            rows.append([engine.name, skipped(missing[engine.name]), "–", "–"])
        else:
            its = rates[engine.name]
            times = "" if engine is engines.MILLSTREAM else ratio_cell(ratio(ours, its))
            rows.append([engine.name, engine.how, rate_cell(its), times])
    note = (
        f"Events a second, of {effort.count:,}: medians (and ranges) of {effort.rounds} round(s). In the first round "
        "the results of every engine were compared with those of a plain loop."
    )
    aims = [
        Aim("against Flink SQL on the same two cores", ratio(ours, rates[engines.FLINK.name]), at_least=5),
        Aim("against Bytewax, one worker each", ratio(ours, rates[engines.BYTEWAX.name]), at_least=30),
    ]
    return Section("windows", ("engine", "how", "events", "Millstream is as fast, times"), rows, aims, [note])
