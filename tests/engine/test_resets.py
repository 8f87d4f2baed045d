"""A key that begins anew: for it, it is as if nothing had come before; for the others, as if nothing had happened."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.depth import examples
from tests.support.windows import Record, Store, Ticked, cut, data_of, reading

from millstream.engine import Processor, processor_of
from millstream.event import Batch
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}
NAMES = {0: ["a", "b", "aa"], 1: ["c"]}
TIMED = "FROM telemetry TIMESTAMP BY ts"
WINDOWED = f"SELECT device, count(*) AS n, list(v) AS v, System.Timestamp() AS t {TIMED} GROUP BY device, "
QUERIES = [
    WINDOWED + "TumblingWindow(second, 10)",
    WINDOWED + "HoppingWindow(second, 10, 5)",
    WINDOWED + "SlidingWindow(second, 7)",
    WINDOWED + "SessionWindow(second, 5, 20)",
    WINDOWED + "CountWindow(4, 2)",
    WINDOWED + "line, CountWindow(3)",
    f"SELECT device, v, LAG(v) OVER (LIMIT DURATION(minute, 1)) AS before {TIMED}",
    f"SELECT device, v, LAST(v) OVER (PARTITION BY device, line LIMIT DURATION(minute, 1) WHEN v > 2) AS b {TIMED}",
    f"SELECT device, sum(v - LAG(v) OVER (LIMIT DURATION(minute, 1))) AS rise {TIMED} "
    "GROUP BY device, TumblingWindow(second, 10)",
]


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """Records of both partitions in the order of the log, some events out of order, and ticks."""
    seconds, log = 0.0, list[Record]()
    for number in range(draw(st.integers(1, 30))):
        seconds += draw(st.sampled_from([0, 1, 2, 6, 30]))
        partition = draw(st.sampled_from([0, 0, 0, 1]))
        if draw(st.integers(0, 5)) == 0:
            log.append(Ticked(seconds, partition))
            continue
        key, line = draw(st.sampled_from(NAMES[partition])), draw(st.sampled_from("xy"))
        sent = reading(
            key, max(0.0, seconds - draw(st.sampled_from([0, 0, 0, 3, 15]))), seconds, device=key, v=number, line=line
        )
        log.append(sent if partition == 0 else _in(sent, partition))
    return log


def _in(sent: Any, partition: int) -> Any:
    return type(sent)(sent.key, sent.seconds, sent.payload, partition, sent.topic)


@cache
def _made(text: str, number: int) -> Processor:
    return processor_of(plan_query("q", text, STREAMS, into="out"))


def made(text: str, store: Store | None = None, *, number: int = 0) -> Processor:
    """A processor with what was saved. Of the same text and number it is the one that was made first."""
    processor = _made(text, number)
    for partition in NAMES:
        processor.restore(partition, {} if store is None else store.chunks.get(partition, {}))
    return processor


def results(processor: Processor, steps: Sequence[Sequence[Batch]], store: Store | None = None) -> list[dict[str, Any]]:
    found, store = [], store or Store()
    for batches in steps:
        step = processor.step(batches)
        store.commit(step)
        found += data_of(step.outputs)
    return found


def of_key(found: Sequence[dict[str, Any]], *, key: str, others: bool = False) -> list[dict[str, Any]]:
    return sorted(
        (one for one in found if (one["device"] == key) is not others), key=lambda one: (one["device"], str(one))
    )


@pytest.mark.parametrize("text", QUERIES)
@settings(max_examples=examples(45), deadline=None)
@given(logs(), st.integers(0, 30), st.lists(st.integers(1, 6), max_size=4), st.booleans())
def test_as_if_nothing_had_come_before(
    text: str, log: list[Record], place: int, lengths: list[int], crash: bool
) -> None:
    place = min(place, len(log))
    steps = cut(log, [place, *lengths])
    before, after = (steps[:1], steps[1:]) if place else ([], steps)
    processor, store = made(text), Store()
    early = results(processor, before, store)
    store.commit(processor.reset(0, "a"))
    if crash:
        processor = made(text, store)
    late = results(processor, after, store)
    kept = [processor.kept(partition) for partition in NAMES]
    assert [made(text, store).kept(partition) for partition in NAMES] == kept
    whole = results(made(text), steps)
    mine = [record for record in log[place:] if isinstance(record, Ticked) or record.key == "a"]
    assert of_key(late, key="a") == of_key(results(made(text), cut(mine, [])), key="a")
    assert of_key(early + late, key="a", others=True) == of_key(whole, key="a", others=True)


def test_what_waits_for_a_partner_is_let_go() -> None:
    text = (
        "SELECT a.device, a.v, b.v AS w FROM telemetry a TIMESTAMP BY ts JOIN telemetry b TIMESTAMP BY ts "
        "ON a.device = b.device AND DATEDIFF(second, a, b) BETWEEN 1 AND 10"
    )
    processor, store = made(text), Store()
    first = [reading("a", 0, device="a", v=1), reading("b", 0, device="b", v=2)]
    assert results(processor, cut(first, []), store) == []
    store.commit(processor.reset(0, "a"))
    restored = made(text, store, number=1)
    then = [reading("a", 3, device="a", v=3), reading("b", 3, device="b", v=4), reading("a", 5, device="a", v=5)]
    for one in (processor, restored):
        found = results(one, cut(then, [1]))
        assert [(pair["device"], pair["v"], pair["w"]) for pair in found] == [("b", 2, 4), ("a", 3, 5)]


def test_a_key_of_which_nothing_is_kept_has_nothing_to_save() -> None:
    step = made(QUERIES[0]).reset(0, "nobody")
    assert not step.save
    assert not step.drop
