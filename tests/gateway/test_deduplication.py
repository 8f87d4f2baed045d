"""The memory of ids: its window, its bound, and what it keeps in the log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millstream.clock import SECOND
from millstream.gateway.ingest.deduplication import Deduplication, digest

WINDOW = 60 * SECOND


class Saved:
    """The chunks of a group's state, as the log would keep them."""

    def __init__(self, limit: int = 1_000) -> None:
        self.limit = limit
        self.chunks: dict[str, bytes] = {}
        self.seen = Deduplication(WINDOW, limit)

    def remember(self, ids: list[str], now: int) -> list[bool]:
        found = self.seen.remember([digest("t", each) for each in ids], now)
        self.chunks.update(found.saves)
        for name in found.drops:
            del self.chunks[name]
        return found.first

    def restart(self) -> None:
        self.seen = Deduplication(WINDOW, self.limit)
        self.seen.restore(self.chunks)


steps = st.lists(
    st.tuples(st.lists(st.sampled_from([f"id-{n}" for n in range(8)]), max_size=5), st.integers(0, 40), st.booleans()),
    max_size=30,
)


@given(steps)
def test_within_the_window_an_id_is_new_once_also_over_restarts(steps: list[tuple[list[str], int, bool]]) -> None:
    saved = Saved()
    last: dict[str, int] = {}
    now = 0
    for ids, seconds, restart in steps:
        now += seconds * SECOND
        if restart:
            saved.restart()
        for each, first in zip(ids, saved.remember(ids, now), strict=True):
            age = now - last[each] if each in last else None
            if age is None:
                assert first
            elif age < WINDOW:
                assert not first
            elif age >= WINDOW * 17 // 16:
                assert first, "forgotten soon after its time"
            if first:
                last[each] = now


def test_topics_have_ids_of_their_own() -> None:
    assert digest("a", "1") != digest("b", "1")
    assert digest("a", "1") == digest("a", "1")


def test_beyond_the_bound_the_oldest_are_forgotten() -> None:
    saved = Saved(limit=1_000)
    for batch in range(20):
        assert all(saved.remember([f"{batch}-{n}" for n in range(300)], batch))
        assert len(saved.seen) <= 1_000
    assert saved.remember(["19-5", "0-5"], 20) == [False, True]


def test_a_trickle_of_ids_makes_few_chunks_and_a_flood_makes_large_ones() -> None:
    saved = Saved(limit=1_000_000)
    for n in range(2_000):
        saved.remember([str(n)], n * 1_000)
    assert len(saved.chunks) <= 2_000 // 256 + 1
    saved.remember([f"flood {n}" for n in range(100_000)], 3 * SECOND)
    assert max(map(len, saved.chunks.values())) <= 512 * 1024
    assert len(saved.chunks) <= 13


def test_chunks_out_of_the_window_are_dropped() -> None:
    saved = Saved()
    saved.remember(["a"], 0)
    saved.remember(["b"], 2 * WINDOW)
    assert len(saved.chunks) == 1
    saved.restart()
    assert saved.remember(["a", "b"], 2 * WINDOW) == [True, False]
