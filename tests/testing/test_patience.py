"""How long a test waits, whatever else the machine does."""

from __future__ import annotations

import asyncio

import pytest

from millstream import App, Event
from millstream.testing.patience import TURNS, Patience


def turns_of(patience: Patience, worked: float) -> int:
    """How many turns it takes until patience is over, in each of which the process works so long."""
    turns = 0
    while not patience.is_over:
        patience.spend(worked)
        turns += 1
    return turns


@pytest.mark.parametrize(
    ("worked", "turns"),
    [
        pytest.param(0.0, TURNS, id="waiting"),
        pytest.param(0.001, TURNS, id="waiting, and looking now and then"),
        pytest.param(0.2, TURNS, id="working"),
        pytest.param(0.1, 2 * TURNS, id="another process has the other half"),
        pytest.param(0.02, 10 * TURNS, id="nine others do"),
        pytest.param(7.0, TURNS, id="in many threads, or without a turn for long"),
    ],
)
def test_what_counts_is_the_processor_time_of_who_works_and_the_real_time_of_who_waits(
    worked: float, turns: int
) -> None:
    assert turns_of(Patience(TURNS * 0.2), worked) == turns


class StoppedLoop(asyncio.SelectorEventLoop):
    """An event loop in a process that is stopped now and then, for example by a debugger or a full machine."""

    stopped = 0.0

    def time(self) -> float:
        return super().time() + self.stopped


def test_a_process_that_was_stopped_for_an_hour_has_lost_one_turn() -> None:
    app = App("plant")

    @app.on("t")
    async def handle(event: Event) -> None:
        loop.stopped += 3600
        for _ in range(5):
            await asyncio.sleep(0)

    async def test() -> None:
        async with app.test() as plant:
            await plant.publish("t", 1)
            assert plant.counts("handle") == {"processed": 1}

    loop = StoppedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(test())
