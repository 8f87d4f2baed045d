"""How often garbage is looked for, and where."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from millstream.runtime.memory import collect_rarely


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_young_garbage_is_looked_for_less_often_and_old_garbage_as_often() -> None:
    before = gc.get_threshold()
    collect_rarely()
    assert gc.get_threshold()[0] > 4 * before[0]
    assert gc.get_threshold()[1:] == before[1:]


class Node:
    def __init__(self) -> None:
        self.itself = self


def test_what_was_there_is_passed_over_and_what_comes_is_freed() -> None:
    earlier = weakref.ref(Node())
    kept = Node()
    collect_rarely()
    assert earlier() is None
    assert not any(one is kept for one in gc.get_objects())
    later = weakref.ref(Node())
    gc.collect()
    assert later() is None
