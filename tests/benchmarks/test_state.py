"""What the benchmark of state measures is the same with and without the disk."""

from __future__ import annotations

from benchmarks import state


def test_rows_are_on_disk_only_where_memory_is_short_and_results_are_as_many() -> None:
    large, small = (state.measure("median(v) AS middle", 100, 200_000, memory) for memory in (1 << 20, 0))
    assert large.results == small.results == 100
    assert (large.disk, large.memory > 0) == (0, True)
    assert small.disk > 0
    assert large.most >= large.first > 0
