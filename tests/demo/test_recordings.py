"""What the demo's devices send."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import msgspec
import pytest

from millstream.demo.recordings import RECORDINGS, Reading, is_the_failure, length, readings


@pytest.fixture(scope="module")
def sent() -> list[Reading]:
    return list(readings())


def test_every_device_sends_in_the_order_of_the_show(sent: list[Reading]) -> None:
    assert {reading.device for reading in sent} == {recording.device for recording in RECORDINGS}
    assert all(before.at <= after.at for before, after in pairwise(sent))
    assert sent[0].at == timedelta(0)
    assert sent[-1].at <= length()


def test_ids_are_unique_so_that_only_a_resent_reading_is_a_duplicate(sent: list[Reading]) -> None:
    assert max(Counter(reading.id for reading in sent).values()) == 1
    assert {reading.times for reading in sent} == {1, 2}


def test_the_machines_whole_record_is_played(sent: list[Reading]) -> None:
    machine = [reading for reading in sent if reading.device == "machine-1"]
    assert len(machine) >= 22_695 - 12  # but what is delayed beyond the end


def test_a_cut_off_payload_is_no_json_and_all_others_are(sent: list[Reading]) -> None:
    corrupt = 0
    for reading in sent:
        try:
            assert set(msgspec.json.decode(reading.payload)) == {"ts", "value", "unit"}
        except msgspec.DecodeError:
            corrupt += 1
    assert 10 < corrupt < 50


@pytest.mark.parametrize(
    ("device", "window_end", "expected"),
    [
        ("machine-1", "2014-02-08T02:00:00Z", True),
        ("machine-1", "2013-12-16T16:00:00Z", False),
        ("office-1", "2014-02-08T02:00:00Z", False),
    ],
)
def test_the_failure_is_the_one_the_record_is_known_for(device: str, window_end: str, expected: bool) -> None:
    assert is_the_failure(device, window_end) is expected
