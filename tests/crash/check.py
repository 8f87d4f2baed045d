"""What must be true of a data folder after any number of crashes: read from the file, compared with what the devices
wrote down, and with a computation over the stream's own content."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tests.crash.device import Device
from tests.crash.plant import app

from millstream.clock import SECOND, to_micros
from millstream.engine import processor_of
from millstream.event import Batch, Event
from millstream.ledger import equations
from millstream.ledger.names import COMMITTED, GATEWAY, RECEIVED
from millstream.log import Accounts, GroupStatus, Log
from millstream.log.sqlite import ReadOnlyLog
from millstream.sql import plan_query

_ALL = 1 << 30


async def check(folder: Path, devices: Sequence[Device]) -> dict[str, int]:
    """Raise `AssertionError` at the first broken promise; how many there are of everything otherwise."""
    log = await ReadOnlyLog.open(folder)
    try:
        telemetry = await _read(log, "telemetry")
        check_acknowledged(_events(telemetry), devices)
        echoes = check_handlers(_events(telemetry), _events(await _read(log, "echoes")), "echoes")
        check_handlers(_events(telemetry), _events(await _read(log, "batches")), "batches")
        groups = {group.name: group for group in await log.groups()}
        results = {}
        for name in ("overheating", "followed"):
            read = [_until(batch, groups[name]) for batch in telemetry]
            late = _events(await _read(log, f"{name}.late"))
            found = check_query(name, read, _events(await _read(log, name)), late)
            results[name] = sum(map(len, found.values()))
            if name == "overheating":
                check_sums(_events(read), late, found)
        late = _events(await _read(log, "together.late"))
        together = _events(await _read(log, "together"))
        check_together([event for batch in telemetry for event in _until(batch, groups["together"])], late, together)
        results["together"] = len(together)
        answered = _events(await _read(log, "answered"))
        results["answered"] = check_answered(_events(telemetry), _events(await _read(log, "echoes")), answered)
        assert not _events(await _read(log, "answered.late"))
        check_counts(groups, len(_events(telemetry)), results)
        check_ledger(await log.accounts(), len(_events(telemetry)), devices)
        assert not _events(await _read(log, "$deadletters"))
    finally:
        await log.close()
    return {"events": len(_events(telemetry)), "echoes": echoes, **results}


def check_acknowledged(events: Iterable[Event], devices: Sequence[Device]) -> None:
    """Every acknowledged event is there, once for each publish that was not sent again, in order per device."""
    stored: dict[str, list[int]] = defaultdict(list)
    for event in events:
        stored[str(event.key)].append(event.data["seq"])
    for device in devices:
        sequence = stored.pop(device.name, [])
        copies = Counter(sequence)
        lost = [seq for seq in device.acknowledged if not copies[seq]]
        assert not lost, f"{device.name}: {len(lost)} acknowledged events are lost, the first is {min(lost)}"
        extra = [seq for seq, count in copies.items() if count > device.sent[seq]]
        assert not extra, f"{device.name}: {extra[:10]} are there more often than they were sent"
        firsts = list(dict.fromkeys(sequence))
        assert firsts == sorted(firsts), f"{device.name}: out of order"
    assert not stored, f"events of nobody: {list(stored)}"


def check_handlers(inputs: Iterable[Event], outputs: Iterable[Event], name: str) -> int:
    """Every event has exactly one output, and outputs have the order of their inputs for each device."""
    expected: dict[str, list[str]] = defaultdict(list)
    for event in inputs:
        expected[str(event.key)].append(event.position)
    found: dict[str, list[str]] = defaultdict(list)
    for event in outputs:
        found[str(event.key)].append(event.data["position"])
    assert found.keys() == expected.keys(), name
    for device, positions in expected.items():
        twice = [position for position, count in Counter(found[device]).items() if count > 1]
        assert not twice, f"{name}: {device} has outputs twice: {twice[:10]}"
        missing = set(positions) - set(found[device])
        assert not missing, f"{name}: {device} has no output for {len(missing)} events: {sorted(missing)[:10]}"
        assert found[device] == positions, f"{name}: {device} is out of order"
    return sum(map(len, found.values()))


def check_query(
    name: str, telemetry: Sequence[Batch], outputs: Iterable[Event], late: Sequence[Event]
) -> Mapping[str, list[Any]]:
    """The results are those of a fresh engine that reads the whole stream at once. Gives them by device."""
    query = next(query for query in app.queries if query.name == name)
    plan = plan_query(query.name, query.sql, app.streams, into=query.into, types={})
    fresh = processor_of(plan)
    step = fresh.step([batch for batch in telemetry if len(batch) or batch.ticks])
    expected: dict[str, list[Any]] = defaultdict(list)
    for row in step.outputs.to_pylist() if step.outputs is not None else ():
        expected[row["key"]].append(json.loads(row["data"]))
    found: dict[str, list[Any]] = defaultdict(list)
    for event in outputs:
        found[str(event.key)].append(event.data)
    assert found == expected, _first_difference(expected, found)
    assert sorted(event.payload for event in late) == sorted(_payloads(step.late))
    return found


def check_sums(events: Iterable[Event], late: Iterable[Event], results: Mapping[str, list[Any]]) -> None:
    """The same by a plain computation that knows nothing of engines: what is in a window is in its result or late."""
    counts: Counter[tuple[str, int]] = Counter()
    totals: Counter[tuple[str, int]] = Counter()
    for sign, some in ((1, events), (-1, late)):
        for event in some:
            window = str(event.key), _window_end(event)
            counts[window] += sign
            totals[window] += sign * event.data["seq"]
    for device, rows in results.items():
        for row in rows:
            window = device, _micros(row["window_end"])
            assert (row["n"], row["total"]) == (counts.pop(window), totals[window]), window
    open_windows = [device for (device, _), count in counts.items() if count]
    assert len(open_windows) == len(set(open_windows)), "only a device's last window may have no result yet"


def check_together(events: Iterable[Event], late: Iterable[Event], results: Iterable[Event]) -> None:
    """What is in a window of all devices is in its one result, or late; only the last windows may have none yet."""
    counts: Counter[int] = Counter()
    totals: Counter[int] = Counter()
    for sign, some in ((1, events), (-1, late)):
        for event in some:
            counts[_window_end(event)] += sign
            totals[_window_end(event)] += sign * event.data["seq"]
    found = {_micros(event.data["window_end"]): (event.data["n"], event.data["total"]) for event in results}
    assert found == {end: (counts[end], totals[end]) for end in found}
    missing = [end for end, count in counts.items() if count and end not in found]
    assert not missing or min(missing) > max(found, default=0), "a window was passed over"


def check_answered(inputs: Iterable[Event], echoes: Iterable[Event], pairs: Iterable[Event]) -> int:
    """Every event is paired once with every echo of its number: its own, and those of its copies."""
    copies = Counter((str(event.key), event.data["seq"]) for event in inputs)
    expected: Counter[tuple[str, int, str]] = Counter()
    for echo in echoes:
        number = str(echo.key), echo.data["seq"]
        expected[*number, echo.data["position"]] += copies[number]
    found = Counter((str(pair.key), pair.data["seq"], pair.data["position"]) for pair in pairs)
    assert found == expected, f"missing: {list(expected - found)[:10]}, too many: {list(found - expected)[:10]}"
    return found.total()


def check_counts(groups: Mapping[str, GroupStatus], events: int, results: Mapping[str, int]) -> None:
    """What became of the events adds up to their number, for each group."""
    for name, group in groups.items():
        if name.startswith("$"):
            continue
        assert sum(group.lag.values()) == 0, f"{name} lags: {group.lag}"
        beside = ("results", "clamped", "combined", "woken")
        ended = sum(count for kind, count in group.counts.items() if kind not in beside)
        expected = 2 * events if name == "answered" else events  # each event has an echo
        assert ended == expected, f"{name}: {expected} events, and its counts are {dict(group.counts)}"
    for name, count in results.items():
        assert groups[name].counts.get("results", 0) == count


async def check_balance(folder: Path) -> None:
    """Whoever was killed a moment ago: what is in the file balances."""
    log = await ReadOnlyLog.open(folder)
    try:
        wrong = [str(row) for row in equations(await log.accounts()) if not row.holds]
        assert not wrong, wrong
    finally:
        await log.close()


def check_ledger(accounts: Accounts, events: int, devices: Sequence[Device]) -> None:
    """The ledger balances, and the gateway has counted every event that is there, and no other."""
    wrong = [str(row) for row in equations(accounts) if not row.holds]
    assert not wrong, wrong
    counts = accounts.groups[GATEWAY].status.counts
    assert counts[COMMITTED] == events == accounts.streams["telemetry"].sources[GATEWAY]
    assert counts[RECEIVED] >= sum(len(device.acknowledged) for device in devices)


async def _read(log: Log, stream: str) -> list[Batch]:
    spec = (await log.streams())[stream]
    return [await log.read(stream, partition, 0, limit_bytes=_ALL) for partition in range(spec.partitions)]


def _until(batch: Batch, group: GroupStatus) -> Batch:
    """What the group has read of a partition: a tick may have come after the last step."""
    end = group.positions[batch.stream, batch.partition].low
    return Batch(
        batch.stream,
        batch.partition,
        batch.events.filter(pc.less(batch.events.column("offset"), end)),
        end,
        tuple(tick for tick in batch.ticks if tick.offset < end),
    )


def _events(batches: Iterable[Batch]) -> list[Event]:
    return [event for batch in batches for event in batch]


def _payloads(events: pa.RecordBatch | None) -> list[bytes]:
    return [] if events is None else list(events.column("data").to_pylist())


def _window_end(event: Event) -> int:
    return math.ceil(_micros(event.data["ts"]) / SECOND) * SECOND


def _micros(text: str) -> int:
    return to_micros(datetime.fromisoformat(text))


def _first_difference(expected: dict[str, list[Any]], found: dict[str, list[Any]]) -> str:
    for device in sorted(expected.keys() | found.keys()):
        pairs = zip(expected.get(device, []), found.get(device, []), strict=False)
        for number, (wanted, got) in enumerate(pairs):
            if wanted != got:
                return f"{device}, result {number}: {got} where {wanted} was due"
        if (wanted_count := len(expected.get(device, []))) != (count := len(found.get(device, []))):
            return f"{device}: {count} results where {wanted_count} were due"
    return "none"
