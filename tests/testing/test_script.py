"""Scripts: what happens to a plant, as data."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.app import App
from millstream.testing import Crash, Pause, Publish, Shuffled, Step

Steps = list[Step | tuple[str, Any]]


def counting_app() -> App:
    app = App("plant", catch_all=False)
    telemetry = app.stream("telemetry", topics="{device}/telemetry", key="device")
    app.stream("seen", topics="seen/#")
    app.query("windows", "SELECT device, count(*) AS n FROM telemetry GROUP BY device, TumblingWindow(second, 10)")

    @app.on(telemetry, into="seen/{device}")
    def see(data: dict[str, int]) -> dict[str, int]:
        return data

    return app


@pytest.mark.parametrize(
    ("steps", "windows"),
    [
        pytest.param([("a/telemetry", {}), ("b/telemetry", {})], {"a": 1, "b": 1}, id="two devices"),
        pytest.param(
            [Publish("a/telemetry", {}, id="1"), Publish("a/telemetry", {}, id="1")], {"a": 1}, id="sent twice"
        ),
        pytest.param([("a/telemetry", {}), Crash(), ("a/telemetry", {})], {"a": 2}, id="crash in a window"),
        pytest.param([Crash("before commit"), ("a/telemetry", {})], {"a": 1}, id="crash before a commit"),
    ],
)
async def test_table_of_cases(steps: Steps, windows: dict[str, int]) -> None:
    async with counting_app().test() as plant:
        await plant.play([*steps, Pause("1min")])
        assert {event.data["device"]: event.data["n"] for event in plant.stream("windows")} == windows


async def test_disorder_is_the_same_for_the_same_seed() -> None:
    steps: Steps = [("a/telemetry", {"n": number}) for number in range(10)]
    orders = []
    for seed in (1, 1, 2):
        async with counting_app().test() as plant:
            await plant.play([Shuffled(steps, seed=seed)])
            orders.append([event.data["n"] for event in plant.stream("telemetry")])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == list(range(10))


crashes = st.sampled_from([Crash(), Crash("before commit"), Crash("after commit")])
events: st.SearchStrategy[tuple[str, Any]] = st.sampled_from([(f"{device}/telemetry", {}) for device in "abc"])
pauses = st.builds(Pause, st.integers(0, 20))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(events, events, pauses, crashes), max_size=12))
async def test_crashes_change_nothing(steps: Steps) -> None:
    """The same events at the same times come out the same, however often the workers were killed."""
    end: Steps = [("a/telemetry", {}), Pause("1min")]  # something is committed after the last crash
    assert await _outcome([*steps, *end]) == await _outcome([*(s for s in steps if not isinstance(s, Crash)), *end])


async def _outcome(steps: Steps) -> tuple[Counter[str], Counter[str]]:
    async with counting_app().test() as plant:
        await plant.play(steps)
        windows = [f"{event.key} {event.time} {event.data['n']}" for event in plant.stream("windows")]
        return Counter(windows), Counter(event.topic for event in plant.stream("seen"))
