"""Rows that are kept apart from panes, in blocks of which some are on disk: results are the same, and what is held is
what is reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine import test_regrouped
from tests.engine.test_against_oracle import IDLE, NAMES, STREAMS, WINDOWS, check, logs, silences
from tests.engine.test_regrouped import in_order, plain, written
from tests.support.depth import examples
from tests.support.regrouping import Definition
from tests.support.windows import Record, Store, Ticked, cut

from millstream.clock import SECOND
from millstream.engine import RegroupedQuery, WindowedQuery, kept, wanted
from millstream.engine.scratch import Room, Scratch
from millstream.sql import plan_query

QUERY = """SELECT device, len(list(v)) AS n, list_sum(list(v::DOUBLE)) AS total, list_min(list(v::DOUBLE)) AS low,
                  max(v::DOUBLE) AS top, System.Timestamp() AS window_end, System.Window().Id AS kind
           FROM telemetry TIMESTAMP BY ts WHERE ok::BOOLEAN GROUP BY device, {window}"""
STILL = [window for window, kinds in WINDOWS.items() if not any(kind.moves for kind in kinds)]
MEMORY = [0, 1000, 1 << 20]


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_TAIL_BYTES", "_LEAST_BYTES", "_PIECE_BYTES"):
            patch.setattr(kept, name, 40)
        patch.setattr(kept, "_LANES", 2)
        yield


@cache
def query(window: str, grace: int, memory: int) -> tuple[WindowedQuery, Room, Scratch]:
    plan = plan_query("q", QUERY.format(window=window), STREAMS, into="out", grace=grace * SECOND)
    scratch = Scratch(memory)
    room = Room(scratch)
    return WindowedQuery(replace(plan, idle=IDLE), threads=1, room=room), room, scratch


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=st.one_of(logs(), silences()),
    lengths=st.lists(st.integers(1, 12), max_size=12),
    failures=st.sets(st.integers(0, 12)),
    window=st.sampled_from(STILL),
    grace=st.sampled_from([0, 2]),
    memory=st.sampled_from(MEMORY),
)
def test_results_are_those_of_the_definition_wherever_rows_are(
    log: list[Record], lengths: list[int], failures: set[int], window: str, grace: int, memory: int
) -> None:
    processor, room, scratch = query(window, grace, memory)
    check(log, lengths, failures, processor, WINDOWS[window], grace)
    for partition in NAMES:
        processor.forget(partition)
    assert (room.memory, room.disk, scratch.memory, scratch.disk) == (0, 0, 0, 0)


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=logs(),
    lengths=st.lists(st.integers(1, 12), max_size=12),
    window=st.sampled_from(STILL),
    memory=st.sampled_from(MEMORY),
    restarts=st.sets(st.integers(0, 12)),
)
def test_what_is_held_is_what_is_reported_and_nothing_when_all_windows_are_closed(
    log: list[Record], lengths: list[int], window: str, memory: int, restarts: set[int]
) -> None:
    processor, room, scratch = query(window, 0, memory)
    store = Store()
    last = [Ticked(10_000, partition) for partition in NAMES]
    for number, batches in enumerate(cut([*log, *last], lengths)):
        if number in restarts:
            for partition in NAMES:
                processor.restore(partition, store.chunks.get(partition, {}))
        store.commit(processor.step(batches))
        assert (room.memory, room.disk) == held(processor)
        assert (room.memory, room.disk) == (scratch.memory, scratch.disk)
    assert (room.memory, room.disk) == (0, 0)
    assert not any(name.startswith(kept.PREFIX) for chunks in store.chunks.values() for name in chunks)
    for partition in NAMES:
        processor.forget(partition)


@cache
def regrouped(window: str, grace: int, number: int, early: int, memory: int) -> tuple[RegroupedQuery, Room]:
    text = test_regrouped.QUERY.format(window=window)
    plan = plan_query("q", text, test_regrouped.STREAMS, into="out", grace=grace, early=early)
    room = Room(Scratch(memory))
    return RegroupedQuery(plan, threads=1, room=room), room


@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(
    data=st.data(),
    turns=test_regrouped.turns,
    window=st.sampled_from([window for window, kinds in test_regrouped.WINDOWS.items() if not kinds[0].moves]),
    grace=st.sampled_from([0, 2 * SECOND]),
    early=st.sampled_from([0, 4 * SECOND]),
    memory=st.sampled_from(MEMORY),
)
def test_results_of_groups_by_another_key_are_those_of_the_definition_wherever_rows_are(
    data: st.DataObject, turns: list[tuple[str, int, int]], window: str, grace: int, early: int, memory: int
) -> None:
    """Early ones too. When all windows are closed, nothing is held."""
    rooms = [regrouped(window, grace, number, early, memory)[1] for number in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_regrouped, "query", lambda *arguments: regrouped(*arguments, memory)[0])
        rig, definitions = test_regrouped.play(data, turns, window, grace, early)
    told = Definition.early_results(test_regrouped.WINDOWS[window], definitions, early) if early else []
    assert in_order(plain(rig.early)) == in_order(written(told))
    assert [(room.memory, room.disk) for room in rooms] == [(0, 0), (0, 0)]
    assert not any(name.startswith(kept.PREFIX) for chunks in rig.chunks.values() for name in chunks)


def test_groups_that_are_equal_are_in_the_same_lane_and_others_are_not() -> None:
    texts, numbers = ["a", "b", "a", None, None, "c"], [0.0, 1.5, -0.0, float("nan"), float("nan"), 2.0]
    days = [[1], [2], [1], [], [], [3]]
    lanes = wanted.lanes(pa.table({"g0": texts, "g1": numbers, "g2": days}), 256).tolist()
    assert (lanes[0], lanes[3]) == (lanes[2], lanes[4])
    assert len({lanes[place] for place in (0, 1, 3, 5)}) == 4
    assert lanes == [31, 225, 31, 176, 176, 221]  # as blocks that were saved have them


def held(processor: WindowedQuery) -> tuple[int, int]:
    """What a look at all that there is says."""
    assert processor._state._rows is not None
    memory = disk = 0
    for its in processor._state._rows._partitions.values():
        memory += sum(table.nbytes for table in its.tail)
        for block in its.blocks:
            in_memory = isinstance(block.held._place, pa.Table)
            memory += block.held.size if in_memory else 0
            disk += 0 if in_memory else block.held.size
    return memory, disk
