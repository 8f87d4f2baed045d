"""What a join of events with events gives, case by case."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from tests.support.windows import START, Record, Sent, Store, Ticked, at, cut, data_of, reading, run

from millstream.clock import SECOND
from millstream.engine import JoinQuery, Processor, processor_of
from millstream.errors import QueryError
from millstream.event import Batch
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {
    "telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device"),
    "asked": StreamSpec("asked", ("site/{site}/{device}/telemetry",), key="device"),
    "told": StreamSpec("told", ("site/{site}/{machine}/telemetry",), key="machine"),
}
JOIN = """SELECT a.n, b.n AS m, System.Timestamp() AS t FROM telemetry a TIMESTAMP BY ts {} telemetry b TIMESTAMP BY ts
          ON a.device = b.device AND DATEDIFF(second, a, b) BETWEEN 1 AND 10"""
INNER, LEFT = JOIN.format("JOIN"), JOIN.format("LEFT JOIN")


def query(text: str, **options: Any) -> Processor:
    return processor_of(plan_query("q", text, STREAMS, into="out", **options))


def results(text: str, *log: Record, lengths: tuple[int, ...] = (), **options: Any) -> list[Any]:
    return [row for step in run(query(text, **options), cut(log, lengths)) for row in data_of(step.outputs)]


def test_pair_comes_when_the_later_event_comes_whichever_it_is() -> None:
    log = [reading("c", 5, n=1), reading("c", 3, 6, n=2)]
    assert results(INNER, *log, lengths=(1, 1), grace=9 * SECOND) == [{"n": 2, "m": 1, "t": at(5)}]


def test_bounds_are_exact_and_belong_to_it() -> None:
    log = [reading("c", 0.5, n=1), reading("c", 1.4, n=2), reading("c", 1.5, n=3), reading("c", 10.5, n=4)]
    log += [reading("c", 10.6, n=5)]
    backwards = [reading("c", one.seconds, 20, n=json.loads(one.payload)["n"]) for one in reversed(log)]
    for events, lengths in ((log, ()), (log, (1, 1, 1, 1)), (backwards, (1, 1, 1, 1))):
        found = results(INNER, *events, lengths=lengths, grace=20 * SECOND)
        assert sorted((row["n"], row["m"]) for row in found if row["n"] == 1) == [(1, 3), (1, 4)]


def test_pair_has_the_time_of_the_later_event_and_its_id_both_places() -> None:
    (step,) = run(query(INNER), cut([reading("c", 1, n=1), reading("d", 1, n=9), reading("c", 4, n=2)], []))
    assert step.outputs is not None
    (row,) = step.outputs.to_pylist()
    assert (row["key"], row["id"], row["type"]) == ("c", "q:telemetry:0:0:telemetry:2", "q")
    assert data_of(step.outputs) == [{"n": 1, "m": 2, "t": at(4)}]


def test_left_event_that_nothing_came_for_is_given_when_nothing_can_come() -> None:
    log = [reading("c", 1, n=1), reading("c", 11, n=2), reading("c", 30, n=3)]
    steps = run(query(LEFT), cut(log, [1, 1]))
    assert [data_of(step.outputs) for step in steps] == [
        [],
        [{"n": 1, "m": 2, "t": at(11)}],
        [{"n": 2, "m": None, "t": at(21)}],
    ]


def test_silent_key_gives_its_left_events_by_tick() -> None:
    log: list[Record] = [reading("c", 1, n=1), reading("d", 1, 5, n=2), Ticked(20), Ticked(21), Ticked(25)]
    steps = run(query(LEFT), cut(log, [2, 1, 1]))
    assert steps[0].due == {("telemetry", 0): START + 21 * SECOND}  # arrival, the bound, and 10 seconds
    assert [[row["n"] for row in data_of(step.outputs)] for step in steps] == [[], [], [1], [2]]
    assert steps[2].due == {("telemetry", 0): START + 25 * SECOND}
    assert steps[3].due == {("telemetry", 0): None}


def test_event_is_late_when_its_time_is_closed() -> None:
    log = [reading("c", 20, n=1), reading("c", 15, n=2), reading("c", 14.9, n=3), reading("d", 1, n=4)]
    (step,) = run(query(INNER, grace=5 * SECOND), cut(log, []))
    assert step.counts == {"processed": 3, "filtered": 0, "late": 1, "rejected": 0}
    assert step.late is not None
    (late,) = step.late.to_pylist()
    assert dict(late["headers"])["late-window-end"] == "2026-01-01T00:00:14.999999Z"
    assert data_of(step.outputs) == [{"n": 2, "m": 1, "t": at(20)}]


def test_what_left_events_have_met_is_known_after_a_restart() -> None:
    store, made = Store(), query(LEFT)
    found = []
    made.restore(0, {})
    for batches in cut([reading("c", 1, n=1), reading("c", 4, n=2), reading("c", 50, n=3)], [1, 1]):
        step = made.step(batches)
        store.commit(step)
        made.restore(0, store.chunks[0])
        found += data_of(step.outputs)
    assert [(row["n"], row["m"]) for row in found] == [(1, 2), (2, None)]


def test_what_ends_before_an_event_comes_out_before_its_pairs() -> None:
    log = [reading("c", 1, n=1), reading("c", 1.5, n=2), reading("c", 20, n=3), reading("c", 25, n=4)]
    once = [(row["n"], row["m"]) for row in results(LEFT, *log)]
    assert once == [(1, None), (2, None), (3, 4)]
    assert [(row["n"], row["m"]) for row in results(LEFT, *log, lengths=(1, 1, 1))] == once
    text = LEFT.replace("1 AND 10", "0 AND 2")
    log = [reading("c", 1, n=1), reading("c", 4, n=2), reading("c", 4, n=3)]
    once = [(row["n"], row["m"]) for row in results(text, *log)]
    assert once == [(1, 1), (2, 2), (2, 3), (3, 2), (3, 3)]


def test_fields_keep_what_they_were_in_pairs() -> None:
    text = """SELECT a.x, b.o.deep AS deep, a.w + b.w AS both, b.s || '!' AS said FROM telemetry a JOIN telemetry b
              ON a._key = b._key AND DATEDIFF(day, a, b) BETWEEN 0 AND 1 WHERE a.w = 1 AND b.w = 2"""
    log = [reading("c", 1, w=1, x=[1, {"y": None}]), reading("c", 2, w=2, o={"deep": "in"}, s="so")]
    assert results(text, *log, lengths=(1,)) == [{"x": [1, {"y": None}], "deep": "in", "both": 3.0, "said": "so!"}]


def test_toll_booths_of_stream_analytics_documentation() -> None:
    """Its example of a JOIN, over one stream of both booths."""
    text = """
        WITH Input1 AS (SELECT * FROM toll TIMESTAMP BY coalesce(EntryTime, ExitTime) WHERE EntryTime IS NOT NULL),
             Input2 AS (SELECT * FROM toll TIMESTAMP BY coalesce(EntryTime, ExitTime) WHERE ExitTime IS NOT NULL)
        SELECT I1.TollId, I1.EntryTime, I2.ExitTime, I1.LicensePlate,
               DATEDIFF(minute, I1.EntryTime, I2.ExitTime) AS DurationInMinutes
        FROM Input1 I1
        JOIN Input2 I2 ON ((I1.LicensePlate = I2.LicensePlate) AND (I1.TollId = I2.TollId))
        AND DATEDIFF(minute, I1, I2) BETWEEN 0 AND 15"""
    streams = {"toll": StreamSpec("toll", ("toll/{LicensePlate}",), key="LicensePlate")}
    made = processor_of(plan_query("q", text, streams, into="out"))
    booth = [(1, "JNB 7001", 10, 12), (1, "YXZ 1001", 11, 11), (3, "ABC 1004", 13, 20), (2, "XYZ 1003", 13, 40)]
    sent = [("EntryTime", plate, toll, entry) for toll, plate, entry, _ in booth]
    sent += [("ExitTime", plate, toll, out) for toll, plate, _, out in booth]
    log = [
        Sent(plate, 60 * minute, json.dumps({field: at(60 * minute), "TollId": toll}).encode(), 0, f"toll/{plate}")
        for field, plate, toll, minute in sorted(sent, key=lambda one: one[3])
    ]
    (step,) = run(made, cut(log, [], "toll"))
    found = [(row["TollId"], row["LicensePlate"], row["DurationInMinutes"]) for row in data_of(step.outputs)]
    assert found == [(1, "YXZ 1001", 0), (1, "JNB 7001", 2), (3, "ABC 1004", 7)]
    assert data_of(step.outputs)[1]["EntryTime"] == at(600)


def test_side_of_which_nothing_is_kept_still_counts() -> None:
    text = """WITH x AS (SELECT device, n FROM telemetry), y AS (SELECT device FROM telemetry)
              SELECT x.n FROM x JOIN y ON x.device = y.device AND DATEDIFF(second, x, y) BETWEEN 1 AND 9"""
    assert results(text, reading("c", 1, n=1), reading("c", 2, n=2)) == [{"n": 1}]


def test_condition_on_the_left_side_in_on_of_a_left_join_only_says_what_matches() -> None:
    log = [reading("c", 1, n=1), reading("c", 3, n=2), reading("c", 90, n=3)]
    on = [(row["n"], row["m"]) for row in results(LEFT + " AND a.n > 1 AND b.n > 1", *log)]
    assert on == [(1, None), (2, None)]
    where = results(LEFT + " WHERE a.n = 1 AND b.n IS NULL", *log)
    assert where == []
    assert [row["n"] for row in results(LEFT + " WHERE b.n IS NULL", *log)] == [2]


def test_state_of_another_join_is_refused() -> None:
    (step,) = run(query(INNER), cut([reading("c", 1, n=1)], []))
    with pytest.raises(QueryError, match="new name"):
        query(INNER.replace("10", "11")).restore(0, step.save[0])
    query(INNER.replace("a.n,", "a.n AS number,")).restore(0, step.save[0])  # the same values are kept


def test_many_steps_keep_only_what_can_still_meet() -> None:
    store, made = Store(), query(LEFT)
    made.restore(0, {})
    for batches in cut([reading("c", n, n=n) for n in range(300)], [1] * 300):
        store.commit(made.step(batches))
    assert sum(map(len, store.chunks[0].values())) < 150_000
    assert isinstance(made, JoinQuery)
    made.restore(0, store.chunks[0])
    waiting = made.waiting(0)
    assert waiting is not None
    assert [(row["waits"], row["a.n"]) for row in data_of(waiting)] == [("left", n) for n in range(289, 300)]


TWO = """SELECT a.n, b.n AS m, System.Timestamp() AS t FROM asked a TIMESTAMP BY ts {} told b TIMESTAMP BY at
         ON a.device = b.machine AND DATEDIFF(second, a, b) BETWEEN 0 AND 10"""


def answer(key: str, seconds: float, arrival: float, n: int) -> Sent:
    """An event of a device whose clock is in another field."""
    return Sent(key, arrival, json.dumps({"at": at(seconds), "n": n}).encode(), topic=f"site/a/{key}/telemetry")


def both(asked: list[Record], told: list[Record]) -> list[Batch]:
    """A step of two streams."""
    return [batch for name, log in (("asked", asked), ("told", told)) if log for batch in cut(log, [], name)[0]]


def test_each_stream_has_a_time_and_a_clock_of_its_own() -> None:
    made = query(TWO.format("JOIN"))
    made.restore(0, {})
    step = made.step(
        both([reading("c", 5, n=1), reading("c", 60, n=2)], [answer("c", 12, 20, 3), answer("c", 9, 21, 4)])
    )
    assert data_of(step.outputs) == [{"n": 1, "m": 3, "t": at(12)}]
    assert step.counts == {"processed": 3, "filtered": 0, "late": 1, "rejected": 0}  # the fourth is late on its side
    assert step.watermark == START + 12 * SECOND  # the lower one of both


def test_stream_that_lags_is_waited_for_while_it_speaks() -> None:
    made = query(TWO.format("LEFT JOIN"))
    made.restore(0, {})
    assert made.step(both([reading("c", 100, n=1)], [answer("c", 1, 100, 0)])).outputs is None
    for second in range(100, 160, 10):
        assert made.step(both([], [answer("c", second - 60, second, 0)])).outputs is None
    step = made.step(both([], [answer("c", 105, 165, 7)]))
    assert data_of(step.outputs) == [{"n": 1, "m": 7, "t": at(105)}]


def test_stream_that_is_silent_is_waited_for_until_a_tick_of_it() -> None:
    made = query(TWO.format("LEFT JOIN"))
    made.restore(0, {})
    step = made.step(both([reading("c", 1, n=1), reading("c", 3.5, n=2)], []))
    assert step.due == {("told", 0): START + 21 * SECOND, ("asked", 0): None}
    assert made.step(both([reading("c", 30, n=3)], [])).outputs is None  # how late it is there, nothing has told yet
    step = made.step(both([], [Ticked(21)]))
    assert data_of(step.outputs) == [{"n": 1, "m": None, "t": at(11)}]
    assert step.due == {("told", 0): START + 24 * SECOND}
    step = made.step(both([], [Ticked(24), answer("c", 4, 24, 9)]))  # it comes too late for the second one
    assert data_of(step.outputs) == [{"n": 2, "m": None, "t": at(13.5)}]


def test_time_that_only_ticks_have_told_is_known_after_a_restart() -> None:
    made, store = query(TWO.format("LEFT JOIN")), Store()
    made.restore(0, {})
    (told,), (asked,) = cut([Ticked(1), Ticked(60)], [], "told"), cut([reading("c", 1, n=1)], [], "asked")
    store.commit(made.step(told))
    made.forget(0)
    made.restore(0, store.chunks.get(0, {}))
    assert len(data_of(made.step(asked).outputs)) == 1


def test_key_that_was_silent_for_more_than_a_day_begins_anew_and_is_forgotten_by_the_state() -> None:
    store, made, day = Store(), query(TWO.format("JOIN")), 86_400
    made.restore(0, {})
    store.commit(made.step(both([reading("c", 100, n=1)], [answer("c", 100, 100, 1)])))
    sizes = []
    for number in range(200):
        now = day + 200 + number
        batches = both([reading(f"d{number}", now, n=number)], [answer(f"d{number}", now, now, 2)])
        store.commit(made.step([*batches]))
        sizes.append(sum(map(len, store.chunks[0].values())))
    again = query(TWO.format("JOIN"))
    again.restore(0, store.chunks[0])
    for processor in (made, again):
        step = processor.step(both([reading("c", 50, 2 * day, n=5)], [answer("c", 51, 2 * day, 6)]))
        assert (step.counts["late"], data_of(step.outputs)) == (0, [{"n": 5, "m": 6, "t": at(51)}])


def test_keys_that_are_silent_for_ever_are_not_kept() -> None:
    store, made, day = Store(), query(TWO.format("LEFT JOIN")), 86_400
    made.restore(0, {})
    sizes = []
    for number in range(30):
        names = [hashlib.sha256(f"{number} {one}".encode()).hexdigest() for one in range(400)]
        asked: list[Record] = [reading(name, number * day, n=1) for name in names]
        told: list[Record] = [answer(name, number * day, number * day, 2) for name in names]
        store.commit(made.step(both(asked, told)))
        store.commit(made.step(both([Ticked(number * day + 60)], [Ticked(number * day + 60)])))
        sizes.append(sum(map(len, store.chunks[0].values())))
    assert max(sizes[15:]) <= max(sizes[:15])
