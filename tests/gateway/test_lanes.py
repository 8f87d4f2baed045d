"""What a lane knows of its messages, against a plain list of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millstream.gateway.sessions.queue import Lane

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3), st.integers(0, 100)),
        st.tuples(st.just("forget"), st.integers(0, 60), st.just(0)),
    )
)


@given(steps, st.integers(0, 60), st.integers(0, 60))
def test_counts_and_sizes_are_those_of_a_list(done: list[tuple[str, int, int]], start: int, end: int) -> None:
    lane = Lane("a/#")
    expected: list[tuple[int, int]] = []
    last = 0
    for what, number, size in done:
        if what == "append":
            last += number
            lane.append(last, size)
            expected.append((last, size))
        else:
            lane.forget(number)
            expected = [each for each in expected if each[0] >= number]
    assert list(lane.offsets) == [offset for offset, _ in expected]
    assert lane.size(start) == sum(size for offset, size in expected if offset >= start)
    assert lane.count(start, end) == sum(start <= offset < end for offset, _ in expected)
    assert list(lane.after(start, 3)) == [offset for offset, _ in expected if offset >= start][:3]
