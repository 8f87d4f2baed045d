"""Events a second through a query over windows: tumbling 10 s, count, average and maximum by device, from JSON.

Every engine gets the same events, on the same two cores, one engine at a time, and must find the same results. What
it does before the first event (starting, planning, loading code) is not counted. The more events a window has, the
more an engine decodes and the less it publishes, so there are two streams of events: of fast and of slow devices.
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
EVENTS_A_SECOND = (10, 1)  # of a device

Rates = Mapping[tuple[str, int], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How many events, how often."""

    count: int
    rounds: int


THOROUGH = Effort(count=2_000_000, rounds=3)
QUICK = Effort(count=400_000, rounds=1)


def run(quick: bool) -> Section:
    """Measure every engine that can be had."""
    effort = QUICK if quick else THOROUGH
    attempts = Attempts()
    rates: dict[tuple[str, int], list[float]] = {(engine.name, n): [] for engine in ENGINES for n in EVENTS_A_SECOND}
    for events_a_second in EVENTS_A_SECOND:
        made = events.make(effort.count, events_a_second)
        wanted = events.expected(made)
        for number in range(effort.rounds):
            print(f"windows {number + 1}/{effort.rounds}: {made.count:,} events, {_title(made.rate)}", file=sys.stderr)
            check = wanted if number == 0 else None
            for engine in ENGINES:
                if rate := attempts.measure(engine.name, partial(measure, engine, made, check)):
                    rates[engine.name, events_a_second].append(rate)
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


def _title(events_a_second: int) -> str:
    return f"{events_a_second * events.WINDOW_SECONDS} a window"


def _section(rates: Rates, missing: Mapping[str, str], effort: Effort) -> Section:
    rows = []
    for engine in ENGINES:
        if engine.name in missing:
            rows.append([engine.name, skipped(missing[engine.name]), *["–"] * len(EVENTS_A_SECOND)])
        else:
            rows.append([engine.name, engine.how, *(_cell(rates, engine, n) for n in EVENTS_A_SECOND)])
    note = (
        f"Events a second, of {effort.count:,}: medians (and ranges) of {effort.rounds} round(s); behind the dot, how "
        "many times as fast Millstream on two cores is. In the first round the results of every engine were compared "
        "with those of a plain loop."
    )
    aims = [
        Aim(f"{_title(n)}, against {peer.name}{detail}", _times(rates, peer, n), at_least=wanted)
        for n in EVENTS_A_SECOND
        for peer, detail, wanted in (
            (engines.FLINK, " on the same cores", 5),
            (engines.BYTEWAX, ", one worker each", 30),
        )
    ]
    header = ("engine", "how", *(f"{_title(n)} of a device" for n in EVENTS_A_SECOND))
    return Section("windows", header, rows, aims, [note])


def _cell(rates: Rates, engine: Engine, events_a_second: int) -> str:
    cell = rate_cell(rates[engine.name, events_a_second])
    if engine is engines.MILLSTREAM:
        return cell
    return f"{cell} · {ratio_cell(_times(rates, engine, events_a_second))}"


def _times(rates: Rates, peer: Engine, events_a_second: int) -> float | None:
    return ratio(rates[engines.MILLSTREAM.name, events_a_second], rates[peer.name, events_a_second])
