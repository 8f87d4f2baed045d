"""Cores are given to whom they are meant for."""

from __future__ import annotations

import os

import pytest
from benchmarks.machine import pinned

CORES = sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(len(CORES) < 2, reason="this machine has one core")
def test_a_generator_has_its_own_core_while_the_server_has_another() -> None:
    with pinned(CORES[0]):
        with pinned(CORES[1]):
            assert os.sched_getaffinity(0) == {CORES[1]}
        assert os.sched_getaffinity(0) == {CORES[0]}
    assert os.sched_getaffinity(0) == set(CORES)


def test_a_core_that_is_not_there_changes_nothing() -> None:
    with pinned(max(CORES) + 1):
        assert os.sched_getaffinity(0) == set(CORES)
