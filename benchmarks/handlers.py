"""Calls of a handler a second: Millstream's, and FastStream's MQTT subscriber behind Mosquitto.

Both get the readings of the same generator, by MQTT, and decode each into the same pydantic model. The process that
calls the handler has a core for itself; the generator, and the broker or our server, have the other one. FastStream
gets a burst, which it works off; Millstream's worker finds the events in the log, and what counts is committed there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import peers, servers
from benchmarks.attempt import Attempts
from benchmarks.ingest import Effort, Shape, generate
from benchmarks.machine import LOAD_CORE, SERVER_CORE, pinned
from benchmarks.peers import CACHE
from benchmarks.process import RunError, running
from benchmarks.report import Aim, Section, rate_cell, ratio, ratio_cell, skipped
from millstream.log.sqlite import RemoteLog
from millstream.runtime.bus import connect
from millstream.runtime.endpoint import socket_path

_SHAPE = Shape(100, 20)
_APPS = Path(__file__).with_name("handlers_app.py")
_SCRIPT = Path(__file__).with_name("handlers_faststream.py")
_WAIT_SECONDS = 120.0
_POLL_SECONDS = 0.01

Measure = Callable[[float], float]
"""Publish for some seconds; the calls a second that came of it."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody who calls handlers. `short` is the part of the time for which it is published to."""

    name: str
    how: str
    measure: Measure
    short: float = 1.0


def run(quick: bool) -> Section:
    """Measure everybody who can be had."""
    seconds, rounds = (1.0, 1) if quick else (4.0, 3)
    attempts = Attempts()
    rates: dict[str, list[float]] = {one.name: [] for one in CONTESTANTS}
    for number in range(rounds):
        print(f"handlers {number + 1}/{rounds}", file=sys.stderr)
        for one in CONTESTANTS:
            if rate := attempts.measure(one.name, partial(one.measure, seconds * one.short)):
                rates[one.name].append(rate)
    return _section(rates, attempts.skipped, rounds)


def faststream(qos: int, handler: str) -> Measure:
    """A burst, and FastStream's handler called with each of its events."""

    def measure(seconds: float) -> float:
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="data-") as name, ExitStack() as stack:
            folder = Path(name).absolute()
            output = folder / "faststream"
            command = [peers.python("faststream"), "-P", _SCRIPT]
            with pinned(LOAD_CORE):
                broker = stack.enter_context(servers.mosquitto(folder, "max_queued_messages 0\n"))
            with pinned(SERVER_CORE):
                options = [broker.port, "--qos", qos, "--handler", handler]
                stack.enter_context(running([*command, *options], output=output, ready=lambda: bool(_lines(output))))
            with pinned(LOAD_CORE):
                published = generate(broker.port, broker.pid, _SHAPE, Effort(0, seconds, 1)).acknowledged
            called, took = json.loads(_second_line(output))
            if called != published:
                raise RunError(f"{published} were published, and FastStream's handler was called {called} times")
            return float(called / took)

    return measure


def millstream(app: str) -> Measure:
    """A worker that handles what the log has, and commits it."""

    def measure(seconds: float) -> float:
        reference = f"{_APPS}:{app}"
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="data-") as name, ExitStack() as stack:
            folder = Path(name).absolute()
            data = folder / "data"
            with pinned(LOAD_CORE):
                server = stack.enter_context(servers.serve_app(reference, data, folder / "output", workers=0))
                published = generate(server.port, server.pid, _SHAPE, Effort(0, seconds, 1)).acknowledged
            with pinned(SERVER_CORE):
                work = [Path(sys.executable).with_name("millstream"), "work", reference, "--data", data]
                stack.enter_context(running(work, output=folder / "worker", ready=lambda: True))
            return asyncio.run(_watch(data, app, published))

    return measure


async def _watch(data: Path, group: str, wanted: int) -> float:
    """Handled events a second, from the first commit that is seen to the last one."""
    peer = await connect(socket_path(data))
    log = RemoteLog(peer, data)
    first, began = 0, 0.0
    deadline = time.perf_counter() + _WAIT_SECONDS
    try:
        while time.perf_counter() < deadline:
            counts = next((one.counts for one in await log.groups() if one.name == group), {})
            now, handled = time.perf_counter(), counts.get("processed", 0)
            if handled and not began:
                first, began = handled, now
            if handled >= wanted:
                return (handled - first) / (now - began)
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        await log.close()
        await peer.close()
    raise RunError(f"the worker does not come to an end: {counts}")


def _lines(output: Path) -> list[str]:
    return output.read_text().splitlines()


def _second_line(output: Path) -> str:
    deadline = time.perf_counter() + _WAIT_SECONDS
    while len(_lines(output)) < 2:
        if time.perf_counter() > deadline:
            raise RunError(f"FastStream does not come to an end: {output.read_text()[-1000:]}")
        time.sleep(0.1)
    return _lines(output)[1]


_SYNC, _ASYNC = "a function, pydantic model", "a coroutine function, pydantic model"
MILLSTREAM = Contestant("Millstream", _SYNC, millstream("model"))
MILLSTREAM_STRUCT = Contestant("Millstream with msgspec", "a function, `msgspec.Struct`", millstream("struct"))
MILLSTREAM_ASYNC = Contestant("Millstream `async`", _ASYNC, millstream("coroutine"))
FASTSTREAM = Contestant("FastStream", f"{_SYNC}; QoS 0", faststream(0, "sync"), 0.05)
FASTSTREAM_QOS1 = Contestant("FastStream with QoS 1", f"{_SYNC}; QoS 1", faststream(1, "sync"), 0.05)
FASTSTREAM_ASYNC = Contestant("FastStream `async`", f"{_ASYNC}; QoS 0", faststream(0, "async"), 0.05)
CONTESTANTS = (
    MILLSTREAM,
    FASTSTREAM,
    FASTSTREAM_QOS1,
    MILLSTREAM_ASYNC,
    FASTSTREAM_ASYNC,
    MILLSTREAM_STRUCT,
)
_PAIRS = ((MILLSTREAM, FASTSTREAM, 10), (MILLSTREAM, FASTSTREAM_QOS1, 10), (MILLSTREAM_ASYNC, FASTSTREAM_ASYNC, None))


def _section(rates: Mapping[str, Sequence[float]], missing: Mapping[str, str], rounds: int) -> Section:
    rows = [[one.name, one.how, *_cells(one, rates, missing)] for one in CONTESTANTS]
    aims = [
        Aim(f"{ours.name} against {theirs.name}", ratio(rates[ours.name], rates[theirs.name]), at_least=times)
        for ours, theirs, times in _PAIRS
        if times is not None
    ]
    note = (
        f"Calls of the handler a second: medians (and ranges) of {rounds} round(s), and how many times as fast the "
        f"same kind of handler is in Millstream. FastStream {peers.package_version('faststream')}."
    )
    return Section("handlers", ("who", "handler", "calls", "Millstream is"), rows, aims, [note])


def _cells(one: Contestant, rates: Mapping[str, Sequence[float]], missing: Mapping[str, str]) -> tuple[str, str]:
    if one.name in missing:
        return skipped(missing[one.name]), "–"
    ours = next((ours for ours, theirs, _ in _PAIRS if theirs is one), None)
    times = "" if ours is None else ratio_cell(ratio(rates[ours.name], rates[one.name]))
    return rate_cell(rates[one.name]), times
