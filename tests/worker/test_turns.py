"""Queries of a worker take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.support.plant import Plant

from millstream.app import App
from millstream.engine.plain import PlainQuery
from millstream.engine.step import Step
from millstream.event import Batch
from millstream.worker.turns import Turns


async def test_so_many_at_once_in_the_order_in_which_they_came() -> None:
    turns, order = Turns(2), list[int]()
    gates = [asyncio.Event() for _ in range(5)]

    async def work(number: int) -> None:
        turn = turns.one()
        await turn.take()
        await turn.take()  # whoever has it keeps it
        order.append(number)
        await gates[number].wait()
        turn.give()
        turn.give()

    tasks = [asyncio.create_task(work(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert order == [0, 1]
    gates[1].set()
    await tasks[1]
    gates[2].set()
    await tasks[2]
    assert order == [0, 1, 2, 3]
    for gate in gates:
        gate.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_who_is_cancelled_while_he_waits_has_no_turn() -> None:
    turns = Turns(1)
    first, second = turns.one(), turns.one()
    await first.take()
    waiting = asyncio.create_task(second.take())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    second.give()
    first.give()
    await asyncio.wait_for(second.take(), 10)


async def test_without_a_bound_nobody_waits() -> None:
    turns = Turns()
    for turn in [turns.one() for _ in range(100)]:
        assert not turn.is_shared
        await turn.take()


async def test_queries_that_take_turns_answer_as_each_alone_also_when_one_fails(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = PlainQuery.step, [MemoryError("too much")] * 2

    def step(self: PlainQuery, batches: Sequence[Batch]) -> Step:
        if self.plan.name == "q3" and failures:
            raise failures.pop()
        return real(self, batches)

    monkeypatch.setattr(PlainQuery, "step", step)
    monkeypatch.setattr("millstream.worker.worker.usable_cores", lambda: 1)
    app = App("plant")
    app.stream("readings", topics="readings/{device}", key="device")
    for number in range(8):
        app.query(f"q{number}", f"SELECT n FROM readings WHERE CAST(n AS BIGINT) % 8 = {number}")
    worker = await plant.start(app)
    for start in range(0, 80, 16):
        await plant.publish(*((f"readings/{n % 5}", {"n": n}) for n in range(start, start + 16)))
        await plant.caught_up("q0")
    for number in range(8):
        await plant.caught_up(f"q{number}")
        found = sorted(event.data["n"] for event in await plant.read(f"q{number}"))
        assert found == list(range(number, 80, 8))
        counts = await plant.counts(f"q{number}")
        assert (counts["processed"], counts["filtered"]) == (10, 70)
    assert not failures
    await plant.stop(worker)
