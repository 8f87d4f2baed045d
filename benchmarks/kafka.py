"""The log on Kafka beside plain clients of Kafka, and beside Quix Streams, on one broker of this machine.

Writing: publishes that the gateway acknowledges, and what a loop around confluent-kafka's producer has delivered of the
same records. Both have one core; the broker has the other one, with the load generator.

Reading: the windows of `windows`, beside a loop that only counts and beside Quix Streams, on the same records.
Everything shares both cores. Every reader waits, as a member of its group, before there is anything to read
(`kafka_topic`).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import confluent_kafka

from benchmarks import events, ingest, peers, process, servers
from benchmarks.attempt import Attempts
from benchmarks.events import WINDOW_SECONDS, Events
from benchmarks.ingest import Effort, Shape
from benchmarks.kafka_topic import GROUP, Place, Release, broker, read_all
from benchmarks.machine import LOAD_CORE, SERVER_CORE, pinned
from benchmarks.peers import CACHE
from benchmarks.process import RunError, running
from benchmarks.report import Aim, Section, rate_cell, ratio, ratio_cell, skipped

_SHAPE = Shape(100, 1_000)  # as many in flight as a producer of confluent-kafka holds
_EVENTS_A_SECOND = 10  # of a device
_APP = "windows_app.py"
_FEWER = 5  # times, for an engine that would take minutes
_TELL_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody who writes, or reads. Its rate is compared with that of `ours`."""

    name: str
    how: str
    measure: Callable[[Place, bool], float]
    ours: str = ""
    writes: bool = False


def run(quick: bool) -> Section:
    """Measure everybody who can be had."""
    rounds = 1 if quick else 3
    attempts = Attempts()
    rates: dict[str, list[float]] = {one.name: [] for one in CONTESTANTS}
    with ExitStack() as stack:
        reading = stack.enter_context(broker())
        with pinned(LOAD_CORE):
            writing = stack.enter_context(broker())
        measure(ONE, reading, quick)  # the broker's runtime has compiled nothing yet
        measure(GATEWAY, writing, quick)
        for number in range(rounds):
            print(f"kafka {number + 1}/{rounds}", file=sys.stderr)
            for one in CONTESTANTS:
                run_ = partial(measure, one, writing if one.writes else reading, quick)
                if rate := attempts.measure(one.name, run_):
                    rates[one.name].append(rate)
    return _section(rates, attempts.skipped, rounds)


def measure(one: Contestant, servers: str, quick: bool) -> float:
    """Its rate. Raises `MissingError`, and `RunError`."""
    place = Place(servers)
    try:
        return one.measure(place, quick)
    finally:
        place.erase()


# --- writing


def _effort(quick: bool) -> Effort:
    return Effort(2, 3, 1) if quick else Effort(3, 5, 1)


def gateway(place: Place, quick: bool) -> float:
    """Publishes acknowledged a second."""
    with _folder() as folder, ExitStack() as stack:
        with pinned(SERVER_CORE):
            starting = servers.serve_app(_APP, folder / "data", folder / "output", 0, environment=_on(place))
            server = stack.enter_context(starting)
        with pinned(LOAD_CORE):
            result = ingest.generate(server.port, server.pid, _SHAPE, _effort(quick))
    stored = sum(1 for _ in read_all(place.servers, place.topic))
    if stored < result.acknowledged:
        raise RunError(f"{result.acknowledged} publishes were acknowledged, and Kafka has {stored} records")
    return result.rate


def producer(place: Place, quick: bool, *, bare: bool = False) -> float:
    """Records delivered a second."""
    effort = _effort(quick)
    place.create(place.topic)
    options = {"servers": place.servers, "topic": place.topic, "bare": bare}
    spans = {"warm-up": effort.warm_up, "seconds": effort.seconds}
    with pinned(SERVER_CORE):
        told = process.generate("benchmarks.kafka_producer", {**options, **spans}, effort.warm_up + effort.seconds)
    stored = sum(1 for _ in read_all(place.servers, place.topic))
    if stored < told["delivered"]:
        raise RunError(f"{told['delivered']} records were delivered, and Kafka has {stored}")
    return float(told["rate"])


def _on(place: Place) -> Mapping[str, str]:
    return {"MILLSTREAM_LOG__URL": f"kafka://{place.servers}", "MILLSTREAM_LOG__KAFKA__PREFIX": place.prefix}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="data-") as name:
        yield Path(name).absolute()


# --- reading


def millstream(place: Place, quick: bool, *, workers: int) -> float:
    """Events a second through the query, until their positions are committed."""
    made = _events(quick)
    with (
        _folder() as folder,
        servers.serve_app(_APP, folder / "data", folder / "output", workers, environment=_on(place)),
    ):
        place.wait_for_members(place.named(f"millstream.state.{GROUP}"), workers)
        release = Release(place, made)
        began = release.commit()
        ended = place.wait_for_positions(release.ends)
    _check(place, GROUP, made)
    return made.count / (ended - began)


def counting(place: Place, quick: bool, *, processes: int, one_by_one: bool = False) -> float:
    """Records a second that are read."""
    command = [sys.executable, "-m", "benchmarks.kafka_consumer", place.servers, place.topic, place.group]
    command += ["--one-by-one"] if one_by_one else []
    with _folder() as folder:
        return _released(place, folder, [command] * processes, _events(quick))


def quix(place: Place, quick: bool, *, processes: int) -> float:
    """Events a second through Quix Streams' windows, until they are processed."""
    script = Path(__file__).with_name("kafka_quix.py")
    made = _events(quick, _FEWER)
    results = place.named("results")
    place.create(results)
    command = [peers.python("quix"), "-P", script, place.servers, place.topic, results, place.group]
    with _folder() as folder:
        commands = [
            [*command, "--state", folder / f"state-{number}", "--window-seconds", WINDOW_SECONDS]
            for number in range(processes)
        ]
        rate = _released(place, folder, commands, made)
    _check(place, "results", made)
    return rate


def _released(place: Place, folder: Path, commands: Sequence[Sequence[object]], made: Events) -> float:
    """Events a second of processes that tell what they have read."""
    place.create(place.topic)
    with ExitStack() as stack:
        outputs = [folder / f"reader-{number}" for number in range(len(commands))]
        for command, output in zip(commands, outputs, strict=True):
            stack.enter_context(running(command, output=output, ready=lambda: True))
        place.wait_for_members(place.topic, len(commands))
        release = Release(place, made)
        began = release.commit()
        ended = wait_for_records(outputs, made.count)
    return made.count / (ended - began)


def wait_for_records(outputs: Sequence[Path], count: int) -> float:
    """When the last of so many records came."""
    deadline = time.perf_counter() + _TELL_SECONDS
    while time.perf_counter() < deadline:
        told = [json.loads(line) for output in outputs if (line := _last_line(output))]
        if sum(number for number, _ in told) >= count:
            return max(float(last) for _, last in told)
        time.sleep(0.1)
    raise RunError(f"not all records were read: {[output.read_text()[-500:] for output in outputs]}")


def _last_line(output: Path) -> str:
    lines = [line for line in output.read_text().split("\n")[:-1] if line.startswith("[")]
    return lines[-1] if lines else ""


def _events(quick: bool, fewer: int = 1) -> Events:
    return events.make((1_000_000 if quick else 2_000_000) // fewer, _EVENTS_A_SECOND)


def _check(place: Place, name: str, made: Events) -> None:
    """The results in a topic must be those of a plain loop."""
    wanted = events.expected(made)
    found = [row(json.loads(value)) for value in read_all(place.servers, place.named(name))]
    if problems := events.differences(found, wanted, made.last_closed):
        raise RunError(f"{len(problems)} of {len(wanted)} results are wrong, among them {'; '.join(problems[:3])}")


def row(result: dict[str, Any]) -> tuple[str, int, int, float, float]:
    """Device, window's end in seconds, count, average, maximum. Quix Streams tells the end in milliseconds."""
    end = result["end"]
    seconds = end // 1000 if isinstance(end, int) else int(datetime.fromisoformat(end).timestamp())
    return result["device"], seconds, result["n"], result["mean"], result["peak"]


# --- the table

GATEWAY = Contestant("Millstream's gateway", "MQTT QoS 1, acknowledged after a transaction", gateway, writes=True)
PRODUCER = Contestant(
    "Producer loop", "the same records, delivery reports counted", producer, GATEWAY.name, writes=True
)
BARE = Contestant(
    "Producer loop without headers", "key and payload alone", partial(producer, bare=True), GATEWAY.name, writes=True
)
ONE = Contestant(
    "Millstream's windows", "JSON; results, state and positions in transactions", partial(millstream, workers=1)
)
COUNT = Contestant("Consumer loop", "counts records, 500 at a time", partial(counting, processes=1), ONE.name)
POLL = Contestant("Consumer loop with `poll`", "one by one", partial(counting, processes=1, one_by_one=True), ONE.name)
QUIX = Contestant("Quix Streams' windows", "JSON; results at least once", partial(quix, processes=1), ONE.name)
TWO = Contestant("Millstream's windows, two workers", "the same", partial(millstream, workers=2))
COUNT_TWO = Contestant("Two consumer loops", "the same", partial(counting, processes=2), TWO.name)
QUIX_TWO = Contestant("Quix Streams' windows, two processes", "the same", partial(quix, processes=2), TWO.name)

CONTESTANTS = (GATEWAY, PRODUCER, BARE, ONE, COUNT, POLL, QUIX, TWO, COUNT_TWO, QUIX_TWO)
AIMS = ((PRODUCER, 0.7), (COUNT, 0.5), (QUIX, 10), (COUNT_TWO, 0.5), (QUIX_TWO, 10))


def _section(rates: Mapping[str, Sequence[float]], missing: Mapping[str, str], rounds: int) -> Section:
    rows = []
    for one in CONTESTANTS:
        cell = skipped(missing[one.name]) if one.name in missing else rate_cell(rates[one.name])
        rows.append([one.name, one.how, cell, ratio_cell(_times(rates, one)) if one.ours else ""])
    versions = f"Quix Streams {peers.package_version('quix')}, confluent-kafka {confluent_kafka.__version__}"
    note = (
        f"Records a second: medians (and ranges) of {rounds} round(s), and how many times as fast Millstream is. "
        f"{versions}. The results of all windows were compared with those of a plain loop."
    )
    aims = [Aim(f"{one.ours} against {one.name}", _times(rates, one), at_least=wanted) for one, wanted in AIMS]
    return Section("kafka", ("who", "what", "records", "Millstream is"), rows, aims, [note])


def _times(rates: Mapping[str, Sequence[float]], peer: Contestant) -> float | None:
    return ratio(rates[peer.ours], rates[peer.name])
