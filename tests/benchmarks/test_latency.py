"""What the paced generator sends, and how it counts."""

from __future__ import annotations

import json

from benchmarks.latency_load import DEVICES, percentiles, reading

from millstream.mqtt import decode
from millstream.mqtt.packet import Publish, Version


def sent(number: int) -> Publish:
    found = decode(reading("query", number), 0, version=Version.V3_1_1)
    assert found is not None
    packet, end = found
    assert isinstance(packet, Publish) and end == len(reading("query", number))
    return packet


def test_a_device_s_next_reading_is_a_second_later() -> None:
    first, second = sent(7), sent(7 + DEVICES)
    assert first.topic == second.topic == "query/device-007"
    assert first.qos == 1 and first.packet_id != second.packet_id
    assert json.loads(first.payload) == {"ts": "2026-01-01T00:00:00Z", "n": 7}
    assert json.loads(second.payload) == {"ts": "2026-01-01T00:00:01Z", "n": 7 + DEVICES}


def test_percentiles_are_values_that_occurred_in_milliseconds() -> None:
    spans = [number / 1000 for number in range(1, 1001)]
    assert percentiles(spans) == {"50": 501.0, "90": 901.0, "99": 991.0, "99.9": 1000.0}
    assert percentiles([]) == {}
