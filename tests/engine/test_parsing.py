"""Queries that share what is parsed answer as each of them alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.depth import examples

from millstream.app import App
from millstream.engine import PlainQuery, WindowPlan, parsings, processor_of
from millstream.engine.careful import Careful
from millstream.engine.duck import FEW_ROWS
from millstream.event import Batch, Event, placed, to_columns

QUERIES = (
    "SELECT n FROM readings WHERE CAST(n AS BIGINT) % 3 = 1",
    "SELECT device, celsius, celsius * 2 AS twice FROM readings WHERE CAST(celsius AS DOUBLE) > 20",
    "SELECT CAST(n AS BIGINT) + 1 AS m, place.room AS room FROM readings TIMESTAMP BY ts",
    "SELECT n, extra FROM readings WHERE CAST(celsius AS DOUBLE) < 50",
    "SELECT CAST(price AS DECIMAL(9, 2)) * CAST(n AS BIGINT) AS cost FROM readings",
    "SELECT *, CAST(n AS BIGINT) AS again FROM readings WHERE CAST(ok AS BOOLEAN)",
    """SELECT device, count(*) AS n, avg(CAST(celsius AS DOUBLE)) AS mean, System.Timestamp() AS at
       FROM readings TIMESTAMP BY ts GROUP BY device, TumblingWindow(second, 10)""",
    """SELECT device, CAST(ok AS BOOLEAN) AS ok, median(CAST(n AS BIGINT)) AS middle, list(CAST(n AS BIGINT)) AS every
       FROM readings TIMESTAMP BY ts WHERE CAST(celsius AS DOUBLE) < 50
       GROUP BY device, CAST(ok AS BOOLEAN), HoppingWindow(second, 20, 5)""",
    """SELECT device, max(CAST(n AS BIGINT)) AS most FROM readings TIMESTAMP BY ts
       GROUP BY device, SlidingWindow(second, 5)""",
    """SELECT CAST(ok AS BOOLEAN) AS ok, count(*) AS n, sum(CAST(n AS BIGINT)) AS total FROM readings TIMESTAMP BY ts
       WHERE CAST(celsius AS DOUBLE) < 50 GROUP BY CAST(ok AS BOOLEAN), TumblingWindow(second, 10)""",
)


def plans(*texts: str) -> list[WindowPlan]:
    app = App("plant")
    app.stream("readings", topics="readings/{device}", key="device")
    for number, text in enumerate(texts):
        app.query(f"q{number}", text)
    return list(app.plan().values())


PLANS = plans(*QUERIES)
SHARED = parsings(PLANS)
PAIRS = [(processor_of(plan), processor_of(plan, SHARED.get(plan.name))) for plan in PLANS]

TIMES = [f"1970-01-01T00:00:{second:02}Z" for second in (1, 4, 9, 17, 33)]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.integers(0, 60),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["12", "x", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", *TIMES, "1e3", "99999999.99"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["room", "Room"]), st.integers() | st.text(max_size=3), max_size=2),
)
names = st.sampled_from(["n", "N", "celsius", "ts", "place", "extra", "price", "ok"])
good = st.dictionaries(names, scalars, max_size=6).map(lambda data: json.dumps(data).encode())
payloads = st.one_of(good, good, good, st.sampled_from([b"", b"{", b"[1]", b"\xff", b'{"n": 1,}', b'{"n": 1, "n": 2}']))


def batches(texts: Sequence[bytes]) -> list[Batch]:
    """Two partitions; the events go round until they are many enough to be worth it."""
    found = []
    for partition in range(2):
        its = [texts[n % len(texts)] for n in range(partition, 2 * FEW_ROWS, 2)]
        events = to_columns(
            Event(topic=f"readings/{n % 3}", key=f"{n % 3}", payload=text) for n, text in enumerate(its)
        )
        rows = placed(events, list(range(len(its))), [1_000_000] * len(its))
        found.append(Batch("readings", partition, rows, len(its)))
    return found


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(payloads, min_size=1, max_size=40))
def test_shared_as_alone(texts: list[bytes]) -> None:
    steps = batches([*texts, b"{}"])
    for alone, shared in PAIRS:
        for processor in (alone, shared):
            for partition in range(2):
                processor.restore(partition, {})
        assert shared.step(steps) == alone.step(steps)
        assert shared.step(steps) == alone.step(steps)


def test_those_share_who_agree_on_names_and_types() -> None:
    assert set(SHARED) == {f"q{number}" for number in (0, 1, 2, 4, 5, 6, 7, 8, 9)}  # in q3 `n` is what it is
    assert len(set(map(id, SHARED.values()))) == 1


@pytest.mark.parametrize(
    "other",
    [
        "SELECT CAST(n AS DOUBLE) AS n FROM readings",
        "SELECT CAST(N AS BIGINT) AS n FROM readings",
        "SELECT CAST(n.m AS BIGINT) AS n FROM readings",
        "SELECT CAST(n AS BIGINT) AS n, CAST(x AS HUGEINT) AS x FROM readings",
        "SELECT device FROM readings",
        "SELECT device, CAST(n AS BIGINT) AS n, LAG(device) OVER (LIMIT DURATION(hour, 1)) AS b FROM readings",
    ],
)
def test_others_parse_alone(other: str) -> None:
    assert parsings(plans("SELECT CAST(n AS BIGINT) AS n FROM readings", other)) == {}


def test_one_whose_steps_are_cut_at_marks_parses_alone() -> None:
    one, other = plans(QUERIES[0], QUERIES[9])
    assert set(parsings([one, other])) == {"q0", "q1"}
    assert parsings([one, replace(other, early=1_000_000)]) == {}


def test_what_is_parsed_once_is_found_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    (one, other) = plans(QUERIES[0], "SELECT CAST(n AS BIGINT) AS n FROM readings")
    shared = parsings([one, other])
    parsing = shared["q0"]
    assert parsing is shared["q1"]
    steps, runs = batches([b'{"n": 1}']), list[int]()
    real = parsing._statements.run

    def run(function: Callable[[Careful, pa.Table], pa.Table], inputs: pa.Table) -> list[pa.Table]:
        runs.append(len(inputs))
        return real(function, inputs)

    monkeypatch.setattr(parsing._statements, "run", run)
    for plan in (one, other):
        PlainQuery(plan, parsing=parsing).step(steps)
    assert runs == [2 * FEW_ROWS]
    for _ in range(6):
        PlainQuery(one, parsing=parsing).step(batches([b'{"n": 1}']))
    assert len(runs) == 7
    assert len(parsing._kept) == 4
