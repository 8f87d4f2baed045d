"""What simulated devices measure, and how they fail."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from millstream.clock import SECOND
from millstream.errors import SettingsError
from millstream.simulator import Faults, Profile, Signal, read_profile

NOW = 1_767_225_600 * SECOND


def test_a_signal_is_a_wave_around_its_mean() -> None:
    signal = Signal(mean=60, swing=8, period=600)
    chance = random.Random(1)
    assert [signal.at(seconds, 0, chance) for seconds in (0, 150, 300, 450)] == [60, 68, 60, 52]
    assert signal.at(0, 0.25, chance) == 68
    noisy = Signal(mean=60, noise=2)
    values = [noisy.at(0, 0, chance) for _ in range(2_000)]
    assert 59.8 < sum(values) / len(values) < 60.2
    assert 50 < min(values) < max(values) < 70


def test_readings_fail_as_often_as_the_profile_says() -> None:
    profile = Profile(faults=Faults(late=0.2, corrupt=0.1))
    chance = random.Random(1)
    found = [profile.reading(NOW, 0, chance) for _ in range(5_000)]
    assert 0.17 < sum(late for _, late, _ in found) / 5_000 < 0.23
    assert 0.08 < sum(corrupt for _, _, corrupt in found) / 5_000 < 0.12
    for payload, late, corrupt in found:
        if corrupt:
            with pytest.raises(ValueError):
                json.loads(payload)
        else:
            its = json.loads(payload)
            assert sorted(its) == ["celsius", "rpm", "ts"]
            assert (its["ts"] < "2026-01-01T00:00:00Z") == late


def test_the_same_seed_gives_the_same_readings() -> None:
    profile = Profile(faults=Faults(late=0.5))
    first, second = ([profile.reading(NOW, 0, random.Random(3)) for _ in range(10)] for _ in range(2))
    assert first == second


def test_a_profile_is_read(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text('topic = "a/{id}"\n[signals.bar]\nmean = 3\n[faults]\ndropout = 0.5\n')
    profile = read_profile(path)
    assert (profile.topic, list(profile.signals), profile.faults.dropout) == ("a/{id}", ["bar"], 0.5)
    assert read_profile(None) == Profile()


@pytest.mark.parametrize(
    "text",
    ["x = 1", "topic = 1", 'topic = "a/#"', "[faults]\nlate = 2", "[signals.a]\nperiod = 0", "[", "[signals.a]\nx = 1"],
)
def test_a_wrong_profile_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"profile\.toml"):
        read_profile(path)


def test_a_profile_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nothing"):
        read_profile(tmp_path / "nothing.toml")
