"""The recordings, as readings of devices on one time line."""

from __future__ import annotations

import csv
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import msgspec

CORRUPT_EVERY = 1_500  # readings of a device; a sensor whose line is cut off in the middle
RESENT_EVERY = 1_000  # a device that did not see the acknowledgement and sends again
DELAYED_EVERY = 2_000  # a reading that was stuck in a buffer
DELAY = timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class Recording:
    """A file of readings, and which device they come from."""

    file: str
    site: str
    device: str
    quantity: str
    unit: str

    @property
    def topic(self) -> str:
        return f"site/{self.site}/{self.device}/{self.quantity}"


RECORDINGS = (
    Recording("machine_temperature_system_failure.csv", "works", "machine-1", "temperature", "°F"),
    Recording("ambient_temperature_system_failure.csv", "office", "office-1", "temperature", "°F"),
    Recording("occupancy_6005.csv", "road", "road-6005-o", "occupancy", "%"),
    Recording("speed_6005.csv", "road", "road-6005-s", "speed", "mph"),
    Recording("TravelTime_387.csv", "road", "road-387", "travel-time", "s"),
)

_FAILURE = datetime(2014, 2, 7, tzinfo=UTC)
"""From here on the machine's temperature collapses: the failure that the recording is known for."""

FAILING_DEVICE = "machine-1"


def is_the_failure(device: str, window_end: str) -> bool:
    """Whether an alert is about the failure of the machine that ends its recording."""
    return device == FAILING_DEVICE and datetime.fromisoformat(window_end) >= _FAILURE


@dataclass(frozen=True, slots=True)
class Reading:
    """One publish of a device, `at` since the beginning of the show. Some are faulty on purpose: `times` 2 is sent
    again under the same id, a corrupt payload is cut off, and a delayed one comes hours after its time."""

    at: timedelta
    device: str
    topic: str
    id: str
    payload: bytes
    times: int = 1


def length() -> timedelta:
    """How long the show is in recorded time: from the first reading of the machine to its last."""
    machine = _rows(RECORDINGS[0])
    return machine[-1][0] - machine[0][0]


def readings() -> Iterator[Reading]:
    """All readings within the machine's record, in the order in which they are sent. The office is on the machine's
    calendar; the road sensors, recorded in another year, begin with it."""
    begin = _rows(RECORDINGS[0])[0][0]
    end = length()
    for reading in heapq.merge(*(_readings(recording, begin) for recording in RECORDINGS), key=_at):
        if timedelta(0) <= reading.at <= end:
            yield reading


def _rows(recording: Recording) -> list[tuple[datetime, float]]:
    lines = csv.reader((files("millstream.demo") / "data" / recording.file).read_text().splitlines())
    next(lines)
    return [(datetime.fromisoformat(when).replace(tzinfo=UTC), float(value)) for when, value in lines]


def _readings(recording: Recording, begin: datetime) -> list[Reading]:
    rows = _rows(recording)
    start = rows[0][0] if recording.site == "road" else begin
    sent = []
    for number, (when, value) in enumerate(rows, 1):
        payload = msgspec.json.encode({"ts": when.isoformat(), "value": value, "unit": recording.unit})
        corrupt, delayed = number % CORRUPT_EVERY == 0, number % DELAYED_EVERY == 0
        sent.append(
            Reading(
                at=when - start + (DELAY if delayed else timedelta(0)),
                device=recording.device,
                topic=recording.topic,
                id=f"{recording.device}-{number}",
                payload=payload[:-12] if corrupt else payload,
                times=2 if number % RESENT_EVERY == 0 else 1,
            )
        )
    return sorted(sent, key=_at)


def _at(reading: Reading) -> timedelta:
    return reading.at
