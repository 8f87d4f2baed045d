"""What becomes of single events: processed, rejected, late, clamped."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.windows import START, Record, Sent, Store, Ticked, at, cut, data_of, reading, run

from millstream.clock import SECOND
from millstream.engine import WindowedQuery
from millstream.engine.decode import Decoder
from millstream.engine.duck import Duck
from millstream.engine.inputs import Inputs, slots_of
from millstream.engine.keys import Keys
from millstream.engine.partials import Partials
from millstream.engine.plan import Aggregate, Column, Field, WindowPlan
from millstream.engine.window import Window
from millstream.event import EVENT_SCHEMA, Batch

MakeQuery = Callable[..., WindowedQuery]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "the payload is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"21.5 C", "the payload is not JSON: Extra data: line 1 column 6 (char 5)"),
        (b'{"v": 1', "the payload is not JSON: Expecting ',' delimiter: line 1 column 8 (char 7)"),
        (b"\xff{}", "the payload is not UTF-8: byte 0 is 0xff"),
        (b'{"ts": "\xe9"}', "the payload is not UTF-8: byte 8 is 0xe9"),
        (b"[1]", "the payload is JSON, but not an object"),
        (b"null", "the payload is JSON, but not an object"),
        (b"{}", 'the event has no time: "ts" is missing in the payload, or is no time'),
        (b'{"ts": "soon"}', 'the event has no time: "ts" is missing in the payload, or is no time'),
        (b'{"ts": "infinity"}', 'the event has no time: "ts" is missing in the payload, or is no time'),
        (b'{"ts": "0044-03-15 (BC) 12:00:00"}', 'the event has no time: "ts" is missing in the payload, or is no time'),
    ],
)
def test_bad_payload_is_rejected_with_a_reason_and_stops_nothing(query: MakeQuery, payload: bytes, reason: str) -> None:
    log = [reading("c", 1), Sent("c", 1, payload), reading("c", 2), reading("c", 11)]
    (step,) = run(query("count(*) AS n"), cut(log, []))
    assert [(r.batch, r.row, r.reason) for r in step.rejected] == [(0, 1, reason)]
    assert step.counts == {"processed": 3, "filtered": 0, "late": 0, "rejected": 1}
    assert data_of(step.outputs) == [{"n": 2}]


def test_rejection_names_batch_and_row(query: MakeQuery) -> None:
    log = [Sent("c", 0, b"{}", 2), reading("c", 1), Sent("d", 1, b"x", 5), Sent("c", 2, b"y")]
    (step,) = run(query("count(*) AS n"), cut(log, []), partitions=(0, 2, 5))
    assert [(r.batch, r.row) for r in step.rejected] == [(0, 1), (1, 0), (2, 0)]  # partitions 0, 2, 5


def test_space_around_an_object_is_json(query: MakeQuery) -> None:
    body = f' \r\n\t{{"ts":"{at(1)}"}} \n'.encode()
    (step,) = run(query("count(*) AS n"), cut([Sent("c", 1, body), reading("c", 11)], []))
    assert data_of(step.outputs) == [{"n": 1}]


def test_late_event_goes_on_as_it_came_with_where_it_was(query: MakeQuery) -> None:
    late = Sent("c", 12, b'{"ts":"%s", "x": 1}' % at(9).encode(), 0, "site/a/c/telemetry", {"trace": "7"}, "id-1", "t")
    (step,) = run(query("count(*) AS n"), cut([reading("c", 1), reading("c", 11), late], []))
    assert step.late is not None and step.late.schema == EVENT_SCHEMA
    (event,) = step.late.to_pylist()
    assert (event["topic"], event["key"], event["id"], event["type"]) == ("q.late", "c", "id-1", "t")
    assert event["data"] == late.payload
    assert event["headers"] == [
        ("trace", "7"),
        ("late-topic", "site/a/c/telemetry"),
        ("late-position", "telemetry:0:2"),
        ("late-window-end", "2026-01-01T00:00:10Z"),
    ]
    assert step.counts == {"processed": 2, "filtered": 0, "late": 1, "rejected": 0}


def test_one_key_does_not_make_another_late(query: MakeQuery) -> None:
    (step,) = run(query("device"), cut([reading("c", 100), reading("d", 1, 101)], []))
    assert step.late is None


def test_clock_that_is_ahead_is_clamped(query: MakeQuery) -> None:
    log = [reading("c", 1_000_000, 1), reading("c", 301.5, 2)]
    (step,) = run(query("System.Timestamp() AS t"), cut([*log, Ticked(1000)], []))
    assert step.notes["clamped"] == 1
    assert data_of(step.outputs) == [{"t": at(310)}]  # 1 s + 5 min, and the other beside it


def test_silent_key_closes_by_a_tick_when_it_is_due(query: MakeQuery) -> None:
    made = query("device, count(*) AS n")
    first, early, due = run(made, cut([reading("c", 4, 6.25), Ticked(22), Ticked(23)], [1, 1]))
    # the key's clock is 2.25 s behind: its window's end and 10 s are over when the log's clock says 22.25
    assert first.due == {("telemetry", 0): START + 23 * SECOND}
    assert (early.outputs, early.due) == (None, {})
    assert data_of(due.outputs) == [{"device": "c", "n": 1}]
    assert due.due == {("telemetry", 0): None}
    assert list(due.save) == [0]


def test_tick_closes_no_window_that_is_not_open(query: MakeQuery) -> None:
    """A device that was cut off brings what it has buffered: only the window that was given up is late."""
    log: list[Record] = [reading("c", 1), Ticked(3600), *(reading("c", s, 3600) for s in (9, 11, 12, 3599))]
    steps = run(query("count(*) AS n, System.Timestamp() AS t"), cut(log, [2]))
    assert [data_of(step.outputs) for step in steps] == [[{"n": 1, "t": at(10)}], [{"n": 2, "t": at(20)}]]
    assert steps[1].counts == {"processed": 3, "filtered": 0, "late": 1, "rejected": 0}


def test_step_without_events_is_fine(query: MakeQuery) -> None:
    (step,) = run(query("device"), cut([Ticked(1)], []))
    assert (step.outputs, step.late, step.rejected, dict(step.save)) == (None, None, [], {})


def test_many_events_give_what_few_give(query: MakeQuery) -> None:
    log = [reading(f"{n % 7}", (n + 1) / 50, v=n % 13, line=f"{n % 3}") for n in range(3000)]
    text = "device, line, count(*) AS n, sum(v) AS s, min(v) AS low, System.Timestamp() AS t"
    found = []
    for lengths in ([], [100] * 30, [999, 1, 1500]):
        steps = run(query(text, groups="device, line"), cut(log, lengths))
        found.append(sorted(str(r) for step in steps for r in data_of(step.outputs)))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 5 * 7 * 3


def test_many_threads_give_what_one_gives(query: MakeQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rejected and late events among them, and times without a zone, which every thread takes for UTC."""
    monkeypatch.setattr("millstream.engine.pieces._PIECE_ROWS", 16)
    monkeypatch.setattr("millstream.engine.inputs._FEW_ROWS", 16)
    monkeypatch.setattr("millstream.engine.folding._FINISH_ROWS", 4)
    log: list[Record] = [reading(f"{n % 7}", (n + 1) / 10, v=n % 13) for n in range(400)]
    log[90] = Sent("1", 9, b"bad")
    log[91] = Sent("2", 9, b'{"v": }')
    log[250] = reading("3", 1, 25)
    log[300] = Sent("4", 30, b'{"ts": "2026-01-01 00:00:29.5", "v": 100}', topic="site/a/4/telemetry")
    plan = query("device, count(*) AS n, sum(v) AS s, max(v) AS top").plan
    one, many = (run(WindowedQuery(plan, threads=threads), cut(log, [200])) for threads in (1, 3))
    assert [step.counts for step in many] == [step.counts for step in one]
    assert [step.rejected for step in many] == [step.rejected for step in one]
    assert [step.late for step in many] == [step.late for step in one]
    assert [data_of(step.outputs) for step in many] == [data_of(step.outputs) for step in one]
    assert {name: sum(s.counts[name] for s in many) for name in ("rejected", "late")} == {"rejected": 2, "late": 1}
    assert max(result["top"] for step in many for result in data_of(step.outputs)) == 100


def test_sliced_batches_are_read_at_their_place(query: MakeQuery) -> None:
    log = [
        reading("c", 1, v=1),
        Sent("c", 1, b"[bad]"),
        reading("c", 2, v=2),
        Sent("c", 2, b"bad"),
        reading("c", 11, v=4),
    ]
    ((batch,),) = cut(log, [])
    made = query("sum(v) AS x")
    made.restore(0, {})
    parts = [type(batch)(batch.stream, 0, batch.events.slice(*place), 0) for place in ((1, 1), (2, 3))]
    steps = [made.step([part]) for part in parts]
    assert [[(r.batch, r.row) for r in step.rejected] for step in steps] == [[(0, 0)], [(0, 1)]]
    assert data_of(steps[1].outputs) == [{"x": 2.0}]


def test_query_reaches_nothing_outside() -> None:
    duck = Duck().lock()
    for text in ("SELECT * FROM read_csv('/etc/hostname')", "SELECT * FROM glob('/*')", "SELECT getenv('HOME')"):
        with pytest.raises(Exception, match=r"disabled by configuration|does not exist"):
            duck.statement(text).run()


def test_prepared_statement_reaches_nothing_outside_either() -> None:
    """Not even one that was prepared before the lock."""
    duck = Duck()
    read = duck.statement("SELECT * FROM read_text('/etc/hostname')")
    assert read.run().num_rows == 1
    duck.lock()
    with pytest.raises(Exception, match="disabled by configuration"):
        read.run()


PLAN = WindowPlan(
    "q", "", "telemetry", "out", (), None, (Window(SECOND, SECOND),), (Column("x", "a0", "DOUBLE"),),
    (Aggregate("max", ('"v"',), ("DOUBLE",), "DOUBLE"),),
    (Field("v", ("v",), "DOUBLE"), Field("ts", ("ts",), "TIMESTAMP")), time='"ts"',
)  # fmt: skip
INPUTS = Inputs(PLAN)
DECODER = Decoder(Duck(), PLAN, Partials(PLAN), INPUTS.schema)
GOOD = f'{{"ts":"{at(1)}","v":-1.5e3,"a":[1,{{"é":null}}],"b":"\\u00e9\\n"}}'.encode()


def rejected(batches: list[Batch]) -> list[int]:
    rows: list[int] = DECODER.fold(INPUTS.gather(batches, slots_of(batches, Keys()))).rejected.tolist()
    return rows


mutations = st.tuples(st.integers(0, 3), st.integers(0, len(GOOD)), st.binary(min_size=1, max_size=2))


@settings(max_examples=200, deadline=None)
@given(st.lists(mutations, max_size=3))
def test_hope_and_care_decode_the_same(changes: list[tuple[int, int, bytes]]) -> None:
    """A payload that `json_valid` refuses is one that decoding fails on, and no other; and what passes is UTF-8."""
    payload = GOOD
    for kind, place, other in changes:
        cut_at = place + (kind in (1, 2))
        payload = payload[:place] + (other if kind in (0, 1) else b"") + (payload[cut_at:] if kind < 3 else b"")
    batches = cut([Sent("c", 1, payload)], [])[0]
    inputs = INPUTS.gather(batches, slots_of(batches, Keys()))
    DECODER._fold._careful_steps = 0
    hopeful = DECODER.fold(inputs)
    DECODER._fold._careful_steps = 1
    careful = DECODER.fold(inputs)
    assert (hopeful.windows, hopeful.rejected.tolist()) == (careful.windows, careful.rejected.tolist())
    if not len(careful.rejected):
        payload.decode()


def test_bad_payloads_cost_care_for_a_while_only() -> None:
    bad, good = (cut([Sent("c", 1, payload)], [])[0] for payload in (b'{"v": x}', GOOD))
    DECODER._fold._careful_steps = 0
    assert rejected(bad) == [0]
    assert DECODER._fold._careful_steps > 1
    for _ in range(DECODER._fold._careful_steps):
        assert rejected(good) == []
    assert DECODER._fold._careful_steps == 0


def test_columns_of_outputs_are_those_of_events(query: MakeQuery) -> None:
    (step,) = run(query("device"), cut([reading("c", 1), reading("c", 11)], []))
    assert isinstance(step.outputs, pa.RecordBatch) and step.outputs.schema == EVENT_SCHEMA


def test_failed_commit_is_as_if_the_step_had_not_been(query: MakeQuery) -> None:
    made, store = query("count(*) AS n"), Store()
    first, second = cut([reading("c", 1), reading("c", 2), reading("c", 11)], [1])
    made.restore(0, {})
    store.commit(made.step(first))
    made.step(second)
    made.forget(0)
    made.restore(0, store.chunks[0])
    assert data_of(made.step(second).outputs) == [{"n": 2}]


def test_only_bad_payloads_change_nothing(query: MakeQuery) -> None:
    made = query("device")
    (step,) = run(made, cut([Sent("c", 1, b"x"), Sent("d", 1, b"y")], []))
    assert step.counts == {"processed": 0, "filtered": 0, "late": 0, "rejected": 2}
    assert (dict(step.save), step.due) == ({}, {("telemetry", 0): None})
