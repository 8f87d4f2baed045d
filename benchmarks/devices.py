"""Devices: logins beside Mosquitto with a password file, changes of twins, method calls, a job, a large registry."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import servers
from benchmarks.attempt import Attempts
from benchmarks.device_load import KEY, PASSWORD, Http, name_of
from benchmarks.load import allow_files
from benchmarks.machine import LOAD_CORE, SERVER_CORE, pinned
from benchmarks.peers import CACHE
from benchmarks.process import free_port, generate, running
from benchmarks.report import Section, rate_cell, ratio, ratio_cell, skipped
from millstream.clock import SystemClock
from millstream.devices import Change, Definition, Name, Presence, Registry
from millstream.password import PasswordHash, hash_password

_BATCH = 1_000
_MOSQUITTO_DEFAULT = 101  # iterations of PBKDF2 that mosquitto_passwd chooses
_LOOK_UPS = 2_000


@dataclass(frozen=True, slots=True)
class Effort:
    """Devices that are registered for the logins, that are connected for the job, and in the large registry."""

    registered: int
    connected: int
    large: int
    seconds: float
    rounds: int


THOROUGH = Effort(registered=100_000, connected=10_000, large=1_000_000, seconds=5, rounds=3)
QUICK = Effort(registered=10_000, connected=1_000, large=100_000, seconds=3, rounds=1)

FIRST, AGAIN, TOKEN = "Millstream, a password that it sees first", "the same passwords again", "signed tokens"
SLOW, FAST = "Mosquitto, a hash as costly", f"Mosquitto's own hash (PBKDF2, {_MOSQUITTO_DEFAULT} iterations)"


def run(quick: bool) -> Section:
    """Measure everything."""
    effort = QUICK if quick else THOROUGH
    allow_files(effort.connected + 2_000)
    attempts, rates = Attempts(), {name: list[float]() for name in (FIRST, AGAIN, TOKEN, SLOW, FAST)}
    others: dict[str, list[dict[str, float]]] = {"patch": [], "call": [], "job": [], "flood": []}
    hashed = hash_password(PASSWORD)
    iterations = _as_costly(PasswordHash.parse(hashed))
    for number in range(effort.rounds):
        print(f"devices {number + 1}/{effort.rounds}", file=sys.stderr)
        _measure_ours(effort, hashed, rates, others)
        for name, count in ((SLOW, iterations), (FAST, _MOSQUITTO_DEFAULT)):
            rate = attempts.measure(name, partial(_mosquitto_logins, effort, count))
            rates[name] += [] if rate is None else [rate]
    rows = [
        (
            f"logins, {effort.registered:,} devices: {name}",
            rate_cell(values),
            ratio_cell(ratio(values, rates[SLOW])),
            "",
        )
        for name, values in rates.items()
        if name not in attempts.skipped
    ]
    rows += [(name, skipped(why), "", "") for name, why in attempts.skipped.items()]
    rows += [
        ("changes of desired properties, by 50 connections", *_cells(others["patch"])),
        ("wrong passwords refused, while a device publishes", *_flood_cells(others["flood"])),
        ("direct methods answered, 50 at a time", *_cells(others["call"])),
        (f"a job that calls {effort.connected:,} devices", *_cells(others["job"])),
    ]
    rows += asyncio.run(_registry_rows(effort.large))
    note = "The ratio is to Mosquitto with a hash as costly as ours. A login is a TCP connection, CONNECT and CONNACK."
    return Section("devices", ("what", "rate", "ratio", "latency"), rows, notes=[note])


def _measure_ours(
    effort: Effort, hashed: str, rates: dict[str, list[float]], others: dict[str, list[dict[str, float]]]
) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder, _millstream(Path(folder)) as (port, http, key):
        asyncio.run(_register(http, key, effort.registered, hashed))
        load = {"port": port, "http": http, "key": key, "seconds": effort.seconds, "devices": effort.registered}
        first = _generate("connect", load)
        rates[FIRST].append(first["rate"])
        rates[AGAIN].append(_generate("connect", {**load, "devices": max(1, int(first["count"]))})["rate"])
        rates[TOKEN].append(_generate("connect", {**load, "token": True})["rate"])
        others["patch"].append(_generate("patch", load))
        cheap = "scrypt$2$1$1$c2FsdA==$Mg+j147YoCdA+qrUwvASXtMPpt7O8kuKFUTqdS+qQGA="  # logins are not measured here
        asyncio.run(_register(http, key, effort.connected, cheap))
        others["flood"].append(_generate("flood", load))
        others["call"].append(_generate("call", {**load, "devices": 100}))
        others["job"].append(_generate("job", {**load, "devices": effort.connected}))


def _generate(what: str, options: dict[str, Any]) -> dict[str, Any]:
    with pinned(LOAD_CORE):
        result = generate("benchmarks.device_load", {"what": what, **options}, options["seconds"])
    print(f"  {what}: {result}", file=sys.stderr)
    return result


def _cells(results: list[dict[str, float]]) -> tuple[str, str, str]:
    latencies = [(its["median_ms"], its["p99_ms"]) for its in results if "median_ms" in its]
    told = ""
    if latencies:
        half, most = (statistics.median(values) for values in zip(*latencies, strict=True))
        told = f"{half:.1f} ms, 99 % within {most:.1f} ms"
    return rate_cell([its["rate"] for its in results]), "", told


def _flood_cells(results: list[dict[str, float]]) -> tuple[str, str, str]:
    calm, half, most = (statistics.median(its[name] for its in results) for name in ("calm_ms", "median_ms", "p99_ms"))
    told = f"its events in {half:.1f} ms, 99 % within {most:.1f} ms; in peace {calm:.1f} ms"
    return rate_cell([its["rate"] for its in results]), "", told


@contextmanager
def _millstream(folder: Path) -> Iterator[tuple[int, int, str]]:
    """A server that lets nobody in but devices and its first key: its ports, and the key."""
    port, http, output = free_port(), free_port(), folder / "output"
    command = [
        *(Path(sys.executable).with_name("millstream"), "run", "--data", folder / "data"),
        *("--mqtt", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{http}"),
    ]
    with pinned(SERVER_CORE), running(command, output=output, ready=lambda: b"\nready" in output.read_bytes()):
        (key,) = re.findall(r"^msk_\S+$", output.read_text(), flags=re.MULTILINE)
        yield port, http, key


async def _register(http_port: int, key: str, count: int, hashed: str) -> None:
    http = await Http.open(http_port, key)
    credentials = {"password_hash": hashed, "keys": {"primary": KEY}}
    for first in range(0, count, _BATCH):
        numbers = range(first, min(first + _BATCH, count))
        lines = [json.dumps({"id": name_of(number), "credentials": credentials}) for number in numbers]
        told = await http.ask("POST", "/devices", "\n".join(lines).encode(), "application/x-ndjson")
        assert not told["errors"], told


def _mosquitto_logins(effort: Effort, iterations: int) -> float:
    with tempfile.TemporaryDirectory(dir=CACHE) as name, pinned(SERVER_CORE):
        folder = Path(name)
        passwords = folder / "passwords"
        salt = os.urandom(12)
        digest = hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), salt, iterations)
        written = f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
        passwords.write_text("".join(f"{name_of(number)}:{written}\n" for number in range(effort.registered)))
        passwords.chmod(0o600)
        more = f"password_file {passwords}\n"
        with servers.mosquitto(folder, more) as server:
            load = {"port": server.port, "devices": effort.registered, "seconds": effort.seconds}
            return float(_generate("connect", load)["rate"])


def _as_costly(hashed: PasswordHash) -> int:
    """Iterations of PBKDF2-SHA-512 that take as long as our check."""
    began = time.perf_counter()
    for _ in range(5):
        hashed.fits(b"wrong")
    ours = (time.perf_counter() - began) / 5
    began = time.perf_counter()
    hashlib.pbkdf2_hmac("sha512", b"wrong", b"salt", 20_000)
    return max(1, round(20_000 * ours / (time.perf_counter() - began)))


async def _registry_rows(large: int) -> list[tuple[str, str, str, str]]:
    """Look-ups in a small registry and in a large one, and how long the large one takes to open."""
    rows = []
    for count in (1_000, large):
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            folder, clock = Path(name), SystemClock()
            registry = await Registry.open("", folder, clock)
            began = time.perf_counter()
            await _fill(registry, count)
            filled = count / (time.perf_counter() - began)
            await registry.close()
            began = time.perf_counter()
            registry = await Registry.open("", folder, clock)
            presence = Presence(registry, clock)
            await presence.start()
            opened = time.perf_counter() - began
            began = time.perf_counter()
            for number in range(_LOOK_UPS):
                assert await registry.find(Name(name_of(number * 7_919 % count))) is not None
            each = (time.perf_counter() - began) / _LOOK_UPS
            await presence.close()
            await registry.close()
        rows.append((f"registry of {count:,}: devices put in", f"{filled:,.0f}/s", "", ""))
        rows.append((f"registry of {count:,}: opened", "", "", f"{opened * 1e3:.0f} ms"))
        rows.append((f"registry of {count:,}: a look-up", f"{1 / each:,.0f}/s", "", f"{each * 1e6:.0f} µs"))
    return rows


async def _fill(registry: Registry, count: int) -> None:
    change = msgspec.convert({"tags": {"site": "a"}, "credentials": {"keys": {"primary": KEY}}}, Change)
    for first in range(0, count, _BATCH):
        numbers = range(first, min(first + _BATCH, count))
        await registry.put_many([Definition(Name(name_of(number)), change) for number in numbers])
