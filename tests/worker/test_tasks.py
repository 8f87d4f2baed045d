"""Ending coroutines without losing what they came to."""

from __future__ import annotations

import asyncio
import threading

import pytest

from millstream.worker.tasks import Signal, first_of, unless
from millstream.worker.threads import Threads


async def _gives(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def _waits() -> int:
    await asyncio.Event().wait()
    return 0


async def test_result_is_given_when_no_signal_comes() -> None:
    assert await unless(_gives(3), Signal()) == 3


async def test_signal_ends_what_waits() -> None:
    signal = Signal()
    asyncio.get_running_loop().call_soon(signal.set)
    assert await unless(_waits(), signal) is None


async def test_signal_that_is_set_already_ends_it_at_once() -> None:
    signal = Signal()
    signal.set()
    assert await unless(_waits(), signal) is None


async def test_a_signal_may_be_set_again_while_the_coroutine_ends() -> None:
    signal, ending, may_end = Signal(), asyncio.Event(), asyncio.Event()

    async def ends_slowly() -> int:
        try:
            return await _waits()
        finally:
            ending.set()
            await may_end.wait()

    task = asyncio.ensure_future(unless(ends_slowly(), signal))
    await asyncio.sleep(0)
    signal.set()
    await ending.wait()
    signal.set()
    may_end.set()
    assert await task is None


async def test_errors_and_timeouts_of_its_own_go_on() -> None:
    async def fails() -> int:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await unless(fails(), Signal())


async def test_cancellation_from_outside_goes_on() -> None:
    task = asyncio.ensure_future(unless(_waits(), Signal()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_first_of_ends_the_others_and_tells_the_error() -> None:
    ended = asyncio.Event()

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        await first_of(other(), fails())
    assert ended.is_set()


async def test_threads_run_at_a_time_as_many_as_there_are() -> None:
    threads, together = Threads(2, "test"), threading.Barrier(2)
    try:
        async with asyncio.timeout(20):
            await asyncio.gather(threads.run(together.wait), threads.run(together.wait))
    finally:
        threads.close()


async def test_threads_give_results_and_errors() -> None:
    threads = Threads(1, "test")
    try:
        assert await threads.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await threads.run(divmod, 7, 0)
    finally:
        threads.close()


async def test_nobody_waits_for_a_thread_whose_caller_was_cancelled() -> None:
    threads, let_go = Threads(1, "test"), threading.Event()
    task = asyncio.ensure_future(threads.run(let_go.wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    let_go.set()
    assert await threads.run(int, "3") == 3
    threads.close()
