"""From publish to alert: how long the way through Millstream takes, beside a broker's from publisher to subscriber.

Every way gets the same readings at the same rate from the same generator (`latency_load`), one after the other in every
round. Mosquitto hands a message on from memory. Millstream's ways all go over a commit with fsync, and the answers of a
handler and of a query over a second one.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import servers
from benchmarks.attempt import Attempts
from benchmarks.ingest import Effort
from benchmarks.latency_load import PERCENTILES, Latency
from benchmarks.peers import CACHE
from benchmarks.process import RunError, generate
from benchmarks.report import Aim, Section, skipped
from benchmarks.servers import Running


@dataclass(frozen=True, slots=True)
class Way:
    """A way from a publisher to a subscriber: where it begins and ends, on which server."""

    name: str
    start: Callable[[Path], AbstractContextManager[Running]]
    topic: str
    answers: str
    closes: bool = False


def _application(folder: Path) -> AbstractContextManager[Running]:
    return servers.serve_app("latency_app.py", folder / "data", folder / "output", 1)


BROKER = Way("Mosquitto, to a subscriber", servers.mosquitto, "plain", "plain/#")
PLAIN = Way("Millstream, to a subscriber", _application, "plain", "plain/#")
HANDLER = Way("Millstream, through a handler", _application, "handler", "handled/#")
QUERY = Way("Millstream, to a query's alert", _application, "query", "alerts/#", closes=True)
WAYS = (BROKER, PLAIN, HANDLER, QUERY)
RATES = (1_000, 10_000)

Spans = Mapping[tuple[str, int], Sequence[Latency]]


THOROUGH = Effort(warm_up=3, seconds=10, rounds=3)
QUICK = Effort(warm_up=1, seconds=3, rounds=1)


def run(quick: bool) -> Section:
    """Measure every way that can be had."""
    effort = QUICK if quick else THOROUGH
    attempts = Attempts()
    spans: dict[tuple[str, int], list[Latency]] = {(way.name, rate): [] for way in WAYS for rate in RATES}
    for number in range(effort.rounds):
        for rate in RATES:
            print(f"latency {number + 1}/{effort.rounds}: {rate:,} a second", file=sys.stderr)
            for way in WAYS:
                if found := attempts.measure(way.name, partial(measure, way, rate, effort)):
                    spans[way.name, rate].append(found)
    return _section(spans, attempts.skipped, effort)


def measure(way: Way, rate: int, effort: Effort) -> Latency:
    """One run of the generator against a fresh server. Raises `MissingError`; `RunError` if the server or the generator
    failed, or an answer is missing."""
    with (
        tempfile.TemporaryDirectory(dir=CACHE, prefix="data-") as folder,
        way.start(Path(folder).absolute()) as running,
    ):
        options = {
            "port": running.port,
            "topic": way.topic,
            "answers": way.answers,
            "closes": way.closes,
            "rate": rate,
            "warm-up": effort.warm_up,
            "seconds": effort.seconds,
        }
        found = Latency(**generate("benchmarks.latency_load", options, effort.warm_up + effort.seconds))
    if found.missing:
        raise RunError(f"{found.missing} answers never came on the way {way.name} at {rate:,} a second")
    return found


def _section(spans: Spans, missing: Mapping[str, str], effort: Effort) -> Section:
    rows = []
    for rate in RATES:
        for way in WAYS:
            if way.name in missing:
                cells = [skipped(missing[way.name]), *["–"] * (len(PERCENTILES) - 1)]
            else:
                cells = [f"{_milliseconds(spans[way.name, rate], p):.2f} ms" for p in PERCENTILES]
            rows.append([f"{rate:,}/s", way.name, *cells])
    note = (
        f"From the moment at which a reading was due to its answer at an MQTT subscriber: medians of {effort.rounds} "
        f"round(s) of {effort.seconds:g} s after {effort.warm_up:g} s of warm-up."
    )
    header = ("publishes", "way", *(f"p{p:g}" for p in PERCENTILES))
    return Section("latency", header, rows, _aims(spans), [note])


def _aims(spans: Spans) -> list[Aim]:
    return [
        Aim(
            f"p{p:g} {way.name.partition(', ')[2]} at {rate:,}/s, beyond Mosquitto's",
            _beyond(spans, way, rate, p),
            at_most=most,
            unit="ms",
        )
        for rate in RATES
        for way in (HANDLER, QUERY)
        for p, most in ((50.0, 5), (99.0, 25))
    ]


def _beyond(spans: Spans, way: Way, rate: int, percentile: float) -> float | None:
    """How much longer it took than the broker, round by round."""
    pairs = zip(spans[way.name, rate], spans[BROKER.name, rate], strict=False)
    differences = [ours.milliseconds[f"{percentile:g}"] - its.milliseconds[f"{percentile:g}"] for ours, its in pairs]
    return statistics.median(differences) if differences else None


def _milliseconds(spans: Sequence[Latency], percentile: float) -> float:
    return statistics.median(each.milliseconds[f"{percentile:g}"] for each in spans)
