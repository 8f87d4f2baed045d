"""How state is saved: small deltas, snapshots when they have grown, chunks of a bounded size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from tests.support.windows import START, Record, Store, Ticked, cut, data_of, reading, run

from millstream.clock import SECOND
from millstream.engine import WindowedQuery
from millstream.errors import QueryError
from millstream.log.contract import MAX_CHUNK_BYTES

MakeQuery = Callable[..., WindowedQuery]


def size(store: Store) -> int:
    return sum(map(len, store.chunks.get(0, {}).values()))


def test_small_step_saves_little_however_large_the_state(query: MakeQuery) -> None:
    log = [*(reading(f"{n:05}", 1, v=n) for n in range(5000)), reading("00007", 2, v=1)]
    _, small = run(query("max(v) AS x"), cut(log, [5000]))
    assert sum(map(len, small.save[0].values())) < 1000


def test_deltas_become_a_snapshot_before_they_outgrow_it(query: MakeQuery) -> None:
    log = [reading(f"{n % 50}", 1 + n / 100, v=n) for n in range(900)]
    store, largest, snapshots = Store(), 0, 0
    for step in run(query("max(v) AS x"), cut(log, [1] * 900)):
        store.commit(step)
        largest = max(largest, size(store))
        snapshots += bool(step.drop)
    assert snapshots > 2
    assert largest < 80_000
    made = query("max(v) AS x")
    made.restore(0, store.chunks[0])
    (batches,) = cut([Ticked(100)], [])
    assert sorted(result["x"] for result in data_of(made.step(batches).outputs)) == list(range(850, 900))


def test_large_state_is_cut_into_chunks(query: MakeQuery) -> None:
    notes = [hashlib.sha512(str(n).encode()).hexdigest() for n in range(12_000)]  # do not compress well
    log = [reading(f"{n:05}", 1, note=note) for n, note in enumerate(notes)]
    made = query("device, max(note::VARCHAR) AS x")
    (step,) = run(made, cut(log, []))
    chunks = step.save[0]
    assert len(chunks) > 1
    assert max(map(len, chunks.values())) == MAX_CHUNK_BYTES
    made.forget(0)
    made.restore(0, chunks)
    (batches,) = cut([Ticked(100)], [])
    results = data_of(made.step(batches).outputs)
    assert (len(results), results[7]) == (12_000, {"device": "00007", "x": notes[7]})


def test_state_of_another_query_is_refused(query: MakeQuery) -> None:
    (step,) = run(query("max(v) AS x"), cut([reading("c", 1, v=1)], []))
    for other in (query("min(v) AS x"), query("max(v) AS x", window="TumblingWindow(second, 20)")):
        with pytest.raises(QueryError, match="give the changed query a new name"):
            other.restore(0, step.save[0])


def test_changed_select_list_and_having_go_on_with_the_state(query: MakeQuery) -> None:
    (step,) = run(query("max(v) AS x"), cut([reading("c", 1, v=1)], []))
    made = query("device, max(v) + 1 AS y", "TIMESTAMP BY ts HAVING max(v) > 0")
    made.restore(0, step.save[0])
    (batches,) = cut([Ticked(100)], [])
    assert data_of(made.step(batches).outputs) == [{"device": "c", "y": 2.0}]


def test_windows_stay_closed_when_the_grace_grows(query: MakeQuery) -> None:
    select = "count(*) AS n"
    (step,) = run(query(select), cut([reading("c", 1), reading("c", 11)], []))
    assert data_of(step.outputs) == [{"n": 1}]
    made = query(select, grace=60 * SECOND)
    made.restore(0, step.save[0])
    (batches,) = cut([reading("c", 2), reading("c", 12), Ticked(100)], [])
    step = made.step(batches)
    assert (step.counts["late"], data_of(step.outputs)) == (1, [{"n": 2}])


def test_partitions_come_and_go_by_themselves(query: MakeQuery) -> None:
    made, store = query("device, count(*) AS n"), Store()
    log = [reading(key, second) for second in (1, 2) for key in "abcd"]
    placed = [type(record)(record.key, record.seconds, record.payload, "ab".find(record.key) % 3) for record in log]
    for step in run(made, cut(placed, []), partitions=(0, 1, 2)):
        store.commit(step)
    made.forget(1)
    made.restore(1, {})
    made.forget(0)
    made.restore(0, store.chunks[0])
    (batches,) = cut([Ticked(100, partition) for partition in (0, 1, 2)], [])
    step = made.step(batches)
    assert data_of(step.outputs) == [{"device": key, "n": 2} for key in "acd"]
    assert {partition: due for (_, partition), due in step.due.items()} == {0: None, 1: None, 2: None}


def test_panes_of_a_long_window_are_merged_now_and_then(query: MakeQuery) -> None:
    made = query("count(*) AS n, sum(v) AS s", window="TumblingWindow(day, 1)")
    log = [reading("c", 1 + n / 100, v=1) for n in range(6000)]
    run(made, cut(log, [100] * 60))
    assert len(made._state.panes) < 4200
    (batches,) = cut([Ticked(200_000)], [])
    assert data_of(made.step(batches).outputs) == [{"n": 6000, "s": 6000.0}]


def test_tick_is_asked_for_again_after_a_restore(query: MakeQuery) -> None:
    made = query("device")
    (step,) = run(made, cut([reading("c", 1)], []))
    made.restore(0, step.save[0])
    (batches,) = cut([reading("c", 1)], [])
    assert made.step(batches).due == {("telemetry", 0): START + 20 * SECOND}


DAY = 86_400


def test_silent_keys_go_at_midnight(query: MakeQuery) -> None:
    """A day after their last event, when no window of theirs is open; from memory, and from what is saved."""
    made, store = query("count(*) AS n"), Store()
    early = [reading(f"{n:05}", 1, 1) for n in range(2000)]
    log: list[Record] = [*early, Ticked(100), reading("c", DAY + 5), reading("c", 2 * DAY + 5), Ticked(2 * DAY + 60)]
    made.restore(0, {})
    sizes = []
    for batches in cut(log, [2001, 1, 1]):
        store.commit(made.step(batches))
        sizes.append((size(store), len(made._state.keys)))
    assert [keys for _, keys in sizes] == [2000, 2001, 1, 1]
    assert sizes[2][0] < sizes[1][0] / 10
    other = query("count(*) AS n")
    other.restore(0, store.chunks[0])
    assert len(other._state.keys) == 1


def test_key_that_is_forgotten_and_returns_with_an_old_event_is_new(query: MakeQuery) -> None:
    log: list[Record] = [
        reading("c", 5),
        Ticked(60),
        reading("d", 3 * DAY),
        reading("c", 6, 3 * DAY + 1, v=2),
        Ticked(4 * DAY),
    ]
    for lengths in ([], [1, 1, 1, 1]):
        steps = run(query("device, count(*) AS n"), cut(log, lengths))
        assert [result["n"] for step in steps for result in data_of(step.outputs) if result["device"] == "c"] == [1, 1]
        assert all(step.late is None for step in steps)


def test_open_windows_keep_their_key_however_long(query: MakeQuery) -> None:
    made = query("device, count(*) AS n", window="TumblingWindow(day, 7)")
    log: list[Record] = [reading("c", 5), reading("d", 3 * DAY), reading("c", 6, 3 * DAY + 1), Ticked(30 * DAY)]
    steps = run(made, cut(log, []))
    assert {result["device"]: result["n"] for step in steps for result in data_of(step.outputs)} == {"c": 2, "d": 1}
