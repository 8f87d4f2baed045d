"""What the benchmark of Kafka makes of what its processes tell, without a broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import kafka
from benchmarks.load import packets_of, readings
from benchmarks.process import RunError


def test_the_last_record_of_all_readers_ends_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("a warning\n[40, 5.5]\n[60, 7.5]\n[61, ")
    second.write_text("[40, 8.25]\nanother one\n")
    assert kafka.wait_for_records([first, second], 100) == 8.25
    monkeypatch.setattr(kafka, "_TELL_SECONDS", 0.0)
    with pytest.raises(RunError, match="another one"):
        kafka.wait_for_records([first, second], 101)


def test_results_of_both_engines_are_the_same_rows() -> None:
    ours = {"device": "d", "n": 3, "mean": 1.5, "peak": 2.0, "end": "2025-01-01T00:00:10Z"}
    theirs = ours | {"start": 1735689600000, "end": 1735689610000}
    assert kafka.row(json.loads(json.dumps(ours))) == ("d", 1735689610, 3, 1.5, 2.0) == kafka.row(theirs)


def test_the_producer_sends_what_the_generator_publishes() -> None:
    (packet,) = {len(packet) for packet in packets_of(0, 1, 1)}
    topic, payload = readings(1, 1)[0]
    assert packet == 2 + 2 + len(topic) + 2 + len(payload)
