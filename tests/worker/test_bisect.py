"""Finding the events that make a batch fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.streams import make_batch

from millstream.event import Event
from millstream.worker.bisect import Found, bisect
from millstream.worker.segment import Item, Segment


def items_of(keys: str) -> list[Item]:
    part = Segment(make_batch([Event(topic="t", key=key) for key in keys]))
    return [(part, index) for index in range(len(keys))]


def search(
    items: list[Item], fails: Callable[[list[int]], bool], *, thorough: bool = False
) -> tuple[Found, list[list[int]]]:
    """What bisecting finds, and the calls that it made."""
    calls: list[list[int]] = []
    search = bisect(items, thorough=thorough)
    piece = next(search)
    while True:
        indices = [index for _, index in piece]
        calls.append(indices)
        try:
            piece = search.send(ValueError(str(indices)) if fails(indices) else None)
        except StopIteration as stop:
            return stop.value, calls


def test_batch_that_succeeds_is_called_once() -> None:
    found, calls = search(items_of("abcd"), lambda indices: False)
    assert calls == [[0, 1, 2, 3]]
    assert [index for _, index in found.done] == [0, 1, 2, 3]
    assert found.failures == []


def test_bad_event_is_found_and_the_others_are_handled() -> None:
    found, calls = search(items_of("abcd"), lambda indices: 2 in indices)
    assert calls == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]
    assert [index for _, index in found.done] == [0, 1, 3]
    (failure,) = found.failures
    assert [index for _, index in failure.items] == [2]
    assert str(failure.error) == "[2]"


def test_later_events_of_the_key_wait_for_the_bad_one() -> None:
    found, calls = search(items_of("abab"), lambda indices: 0 in indices)
    assert [index for _, index in found.done] == [1, 3]
    assert [2] not in calls


def test_handler_that_fails_altogether_is_not_asked_for_every_event() -> None:
    count = 4096
    found, calls = search(items_of("".join(chr(0x4E00 + n) for n in range(count))), lambda indices: True)
    assert len(calls) < 4 * 20
    assert found.done == []
    assert sum(len(failure.items) for failure in found.failures) == count


def test_last_try_finds_every_bad_event_even_then() -> None:
    found, _ = search(items_of("".join(chr(0x4E00 + n) for n in range(64))), lambda indices: True, thorough=True)
    assert [len(failure.items) for failure in found.failures] == [1] * 64


@given(st.text("abcdef", min_size=1, max_size=40), st.data(), st.booleans())
def test_every_event_is_handled_once_in_order_or_fails_or_waits(keys: str, data: st.DataObject, thorough: bool) -> None:
    bad = data.draw(st.sets(st.integers(0, len(keys) - 1), max_size=4))
    found, _ = search(items_of(keys), lambda indices: bool(bad & set(indices)), thorough=thorough)
    done = [index for _, index in found.done]
    failed = [index for failure in found.failures for _, index in failure.items]
    assert done == sorted(done)
    assert set(failed) <= bad
    assert not bad & set(done)
    for index in set(range(len(keys))) - set(done) - set(failed):
        assert any(other < index and keys[other] == keys[index] for other in failed)


@pytest.mark.parametrize("bad", [0, 4095])
def test_one_bad_event_is_found_wherever_it_stands(bad: int) -> None:
    items = items_of("".join(chr(0x4E00 + n) for n in range(4096)))
    found, _ = search(items, lambda indices: bad in indices)
    assert [index for failure in found.failures for _, index in failure.items] == [bad]
    assert len(found.done) == 4095
