"""Events of a join that wait in blocks, of which some are on disk: results are the same, and what is held is what is
reported."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.test_joins import STREAMS, check, check_two, lagging, planned, planned_of_two
from tests.support.depth import examples
from tests.support.joins import NAMES, dense, logs
from tests.support.windows import Record, Store, Ticked, cut, data_of, reading

from millstream.engine import JoinQuery, processor_of, waiting
from millstream.engine.blocks import PREFIXES
from millstream.engine.chunks import ChunkLog
from millstream.engine.plan import WindowPlan
from millstream.engine.scratch import Room, Scratch
from millstream.errors import QueryError
from millstream.sql import plan_query

MEMORY = [0, 3000]
BOUNDS = [(0, 10), (-4, 4), (0, 0), (2, 2)]


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_RECENT_BYTES", "_LEAST_BYTES", "_PIECE_BYTES"):
            patch.setattr(waiting, name, 100)
        patch.setattr(ChunkLog, "snapshot_bytes", 0)
        yield


def made(plan: WindowPlan, memory: int) -> tuple[JoinQuery, Room]:
    assert plan.join is not None
    room = Room(Scratch(memory))
    return JoinQuery(plan, plan.join, threads=1, room=room), room


@cache
def query(
    kind: str, bound: tuple[int, int], optional: bool, grace: int, memory: int, number: int = 0
) -> tuple[JoinQuery, Room]:
    """`number`: that of one of several."""
    two = kind == "two"
    return made(planned_of_two(bound, optional, grace) if two else planned(kind, bound, optional, grace), memory)


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=st.one_of(logs(), dense()),
    lengths=st.one_of(st.lists(st.integers(1, 12), max_size=12), st.lists(st.integers(1, 3), min_size=4, max_size=12)),
    failures=st.sets(st.integers(0, 12)),
    bound=st.sampled_from(BOUNDS),
    optional=st.booleans(),
    grace=st.sampled_from([0, 2]),
    memory=st.sampled_from(MEMORY),
)
def test_results_are_those_of_the_definition_wherever_events_wait(
    log: list[Record],
    lengths: list[int],
    failures: set[int],
    bound: tuple[int, int],
    optional: bool,
    grace: int,
    memory: int,
) -> None:
    processor, room = query("self", bound, optional, grace, memory)
    check(processor, log, lengths, failures, bound, optional, grace)
    for partition in NAMES:
        processor.forget(partition)
    assert (room.memory, room.disk) == (0, 0)


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    asked=st.one_of(logs(), dense(), lagging()),
    told=st.one_of(logs(), dense(), lagging()),
    lengths=st.tuples(*[st.lists(st.integers(1, 8), max_size=12)] * 2),
    turns=st.lists(st.sampled_from(["asked", "told", "both"]), max_size=24),
    failures=st.sets(st.integers(0, 24)),
    moves=st.lists(st.sampled_from([None, None, 0, 1]), max_size=24),
    bound=st.sampled_from(BOUNDS),
    optional=st.booleans(),
    grace=st.sampled_from([0, 2]),
    memory=st.sampled_from(MEMORY),
)
def test_results_of_two_streams_are_those_of_the_definition_wherever_events_wait(
    asked: list[Record],
    told: list[Record],
    lengths: tuple[list[int], list[int]],
    turns: list[str],
    failures: set[int],
    moves: list[int | None],
    bound: tuple[int, int],
    optional: bool,
    grace: int,
    memory: int,
) -> None:
    """With failed commits, and partitions that go from one worker to another one and back."""
    (one, its), (other, others) = (query("two", bound, optional, grace, memory, number) for number in (0, 1))
    check_two((one, other), asked, told, lengths, turns, failures, moves, bound, optional, grace)
    for partition in NAMES:
        one.forget(partition)
        other.forget(partition)
    assert (its.memory, its.disk, others.memory, others.disk) == (0, 0, 0, 0)


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=st.one_of(logs(), dense()),
    lengths=st.lists(st.integers(1, 12), max_size=12),
    bound=st.sampled_from([(0, 10), (0, 3600)]),
    optional=st.booleans(),
    memory=st.sampled_from(MEMORY),
    restarts=st.sets(st.integers(0, 12)),
    resets=st.dictionaries(st.integers(0, 12), st.sampled_from([(p, key) for p in NAMES for key in NAMES[p]])),
)
def test_what_is_held_is_what_is_reported_and_nothing_when_nothing_waits(
    log: list[Record],
    lengths: list[int],
    bound: tuple[int, int],
    optional: bool,
    memory: int,
    restarts: set[int],
    resets: dict[int, tuple[int, str]],
) -> None:
    processor, room = query("self", bound, optional, 0, memory)
    store = Store()
    last = [Ticked(10_000, partition) for partition in NAMES]
    for number, batches in enumerate(cut([*log, *last], lengths)):
        if number in restarts:
            for partition in NAMES:
                processor.restore(partition, store.chunks.get(partition, {}))
        if number in resets:
            store.commit(processor.reset(*resets[number]))
        store.commit(processor.step(batches))
        assert (room.memory, room.disk) == held(processor)
    assert (room.memory, room.disk) == (0, 0)
    assert not any(name.startswith(PREFIXES) for chunks in store.chunks.values() for name in chunks)
    for partition in NAMES:
        processor.forget(partition)


def held(processor: JoinQuery) -> tuple[int, int]:
    """What a look at all that there is says."""
    memory = disk = 0
    for side in processor._state.sides:
        memory += side._stock.recent.nbytes + sum(column.nbytes for column in side._columns)
        for block in side._stock.blocks:
            in_memory = isinstance(block.held._place, pa.Table)
            memory += block.held.size if in_memory else 0
            disk += 0 if in_memory else block.held.size
    return memory, disk


def test_events_on_disk_are_saved_once_and_found_again_after_a_restart() -> None:
    processor, room = made(planned("self", (0, 3600), True, 0), 0)
    store = Store()
    saved: dict[str, int] = {}
    asks = [reading("a", n, v=n, kind="x") for n in range(60)]
    answers = [reading("a", 100 + n, v=100, kind="y") for n in range(2)]
    steps = cut([*asks, *answers], [3] * 20)
    pairs = []
    for number, batches in enumerate(steps):
        if number % 7 == 6:
            processor.restore(0, store.chunks[0])
        step = processor.step(batches)
        store.commit(step)
        for name in step.save[0]:
            saved[name] = saved.get(name, 0) + 1
        pairs += [(found["v"], found["w"]) for found in data_of(step.outputs)]
    assert room.disk > 0
    blocks = [name for name in store.chunks[0] if name.startswith(PREFIXES)]
    assert len(blocks) >= 10
    assert {saved[name] for name in blocks} == {1}
    assert pairs == [(n, 100) for _ in answers for n in range(60)]


def test_what_has_met_before_a_snapshot_or_behind_it_does_not_come_out_alone_after_a_restart() -> None:
    processor, _ = made(planned("self", (0, 10), True, 0), 0)
    store = Store()
    asks = [reading("a", 1 + n / 10, v=n, kind="x") for n in range(8)]
    first, second = reading("a", 2, v=5, kind="y"), reading("a", 3, v=3, kind="y")
    more = [reading("b", 3 + n / 10, v=n, kind="x") for n in range(8)]
    steps = cut([*asks, first, *more, second, Ticked(1000)], [8, 1, 4, 4, 1])
    found = []
    for batches in steps:
        processor.restore(0, store.chunks.get(0, {}))
        step = processor.step(batches)
        store.commit(step)
        found += [(one["device"], one["v"], one["w"]) for one in data_of(step.outputs)]
    alone = [("a", n, None) for n in (6, 7)] + [("b", n, None) for n in range(8)]
    assert found == [*(("a", n, 5) for n in range(6)), *(("a", n, 3) for n in range(4)), *alone]


def test_a_key_that_was_reset_is_not_found_in_blocks() -> None:
    processor, _ = made(planned("self", (0, 3600), True, 0), 0)
    store = Store()
    events = [reading(key, n, v=n, kind="x") for n in range(20) for key in "ab"]
    for batches in cut(events, [10] * 3):
        store.commit(processor.step(batches))
    store.commit(processor.reset(0, "a"))
    for _ in range(2):
        processor.restore(0, store.chunks[0])
        (batches,) = cut([reading("a", 30, v=100, kind="y"), reading("b", 30, v=100, kind="y")], [])
        step = processor.step(batches)
    assert [one["device"] for one in data_of(step.outputs)] == ["b"] * 20


def test_a_state_with_blocks_is_not_that_of_another_query() -> None:
    processor, _ = made(planned("self", (0, 3600), True, 0), 0)
    store = Store()
    for batches in cut([reading("a", n, v=n, kind="x") for n in range(20)], [3] * 6):
        store.commit(processor.step(batches))
    assert any(name.startswith(PREFIXES) for name in store.chunks[0])
    text = "SELECT device, count(*) AS n FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(second, 10)"
    with pytest.raises(QueryError, match="the saved state of query 'q' was made with another"):
        processor_of(plan_query("q", text, STREAMS, into="out")).restore(0, store.chunks[0])
