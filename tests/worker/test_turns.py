"""When a handler reads on: what comes while it has its hands full is read in one go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.plant import Plant
from tests.support.streams import eventually

from millstream.app import App
from millstream.errors import MillstreamError
from millstream.log import Poll
from millstream.log.sqlite.member import Member
from millstream.worker import handler


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each poll has found that found any."""
    found: list[int] = []
    poll = Member.poll

    async def counted(self: Member, *arguments: Any, **options: Any) -> Poll:
        result = await poll(self, *arguments, **options)
        if result.batches:
            found.append(sum(map(len, result.batches)))
        return result

    monkeypatch.setattr(Member, "poll", counted)
    return found


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the handler waits for."""
    gate = threading.Event()
    yield gate
    gate.set()


def make_app(gate: threading.Event, called: list[str]) -> App:
    app = App("plant")

    @app.on("device/{device}", group="slow")
    def slow(device: str) -> None:
        called.append(device)
        gate.wait()
        if device == "bad":
            raise MillstreamError("a device that fails")

    return app


async def publish_one_by_one(plant: Plant, *devices: str) -> None:
    for device in devices:
        await plant.publish((f"device/{device}", {}))


@pytest.mark.parametrize("first", ["good", "bad"])
async def test_what_comes_while_no_call_can_begin_is_read_in_one_go(
    plant: Plant, polls: list[int], gate: threading.Event, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "_TURN_SECONDS", 60.0)
    called: list[str] = []
    await plant.start(make_app(gate, called))
    await publish_one_by_one(plant, first)
    await eventually(lambda: called)
    await publish_one_by_one(plant, *"abcde")
    gate.set()
    await eventually(lambda: len(called) > 5)
    assert polls == [1, 5]


async def test_reading_goes_on_beside_a_slow_call(plant: Plant, polls: list[int], gate: threading.Event) -> None:
    called: list[str] = []
    await plant.start(make_app(gate, called))
    await publish_one_by_one(plant, "a")
    await eventually(lambda: called)
    await publish_one_by_one(plant, "b")
    await eventually(lambda: polls == [1, 1])
    assert called == ["a"]
