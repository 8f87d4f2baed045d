"""Panes of overlapping windows, one by one against the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.windows import ends

from millstream.engine import fixed
from millstream.engine.duck import Duck
from millstream.engine.fixed import FixedSpans, first_text, last_text
from millstream.engine.window import Window


@st.composite
def windows(draw: st.DrawFn) -> Window:
    hop = draw(st.integers(1, 12))
    return Window(hop + draw(st.integers(0, 30)), hop, draw(st.integers(0, hop - 1)))


@given(windows(), st.integers(-100, 100))
def test_sql_finds_the_first_and_the_last_window(window: Window, time: int) -> None:
    duck = Duck()
    found = duck.statement(f"SELECT {first_text(window, str(time))} AS f, {last_text(window, f'({time})')} AS l").run()
    duck.close()
    assert found.to_pylist() == [{"f": min(ends(window, time)), "l": max(ends(window, time))}]


@given(
    kinds=st.lists(windows(), min_size=1, max_size=3),
    events=st.lists(st.tuples(st.integers(0, 2), st.integers(-60, 60)), max_size=12),
    horizons=st.lists(st.integers(-80, 80), min_size=12, max_size=12),
    rows=st.sampled_from([1, 3, 1000]),
)
def test_every_window_gets_its_panes_once(
    kinds: list[Window], events: list[tuple[int, int]], horizons: list[int], rows: int
) -> None:
    made = FixedSpans(kinds)
    placed = [(n, kind % len(kinds), time) for n, (kind, time) in enumerate(events)]
    horizon = np.array(horizons[: len(events)], np.int64)
    columns = {"n": [n for n, _, _ in placed]}
    columns["end"] = [min(ends(kinds[kind], time)) for _, kind, time in placed]
    if not made.tumbles:
        columns["last"] = [max(ends(kinds[kind], time)) for _, kind, time in placed]
        columns["w"] = [kind for _, kind, _ in placed]
    panes = pa.table({name: pa.array(column, pa.int64()) for name, column in columns.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixed, "_PIECE_ROWS", rows)
        pieces = [] if made.tumbles else list(made.closed(panes, horizon, horizon))
    if not made.tumbles:
        closed = [(row["n"], row["end"]) for piece in pieces for row in piece.to_pylist()]
        expected = [(n, e) for n, kind, t in placed for e in ends(kinds[kind], t) if e <= horizons[n]]
        assert sorted(closed) == sorted(expected)
        bounds = [(piece.column("end").to_pylist()) for piece in pieces]
        assert all(max(one) < min(next_) for one, next_ in itertools.pairwise(bounds))
    rest = made.rest(panes, horizon).to_pylist()
    open_ = {n: [e for e in ends(kinds[kind], t) if e > horizons[n]] for n, kind, t in placed}
    assert {row["n"]: row["end"] for row in rest} == {n: min(mine) for n, mine in open_.items() if mine}
