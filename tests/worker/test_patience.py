"""How often an event is tried, and when a key is hopeless."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.support.streams import make_batch

from millstream.app import Retry
from millstream.event import Event
from millstream.worker.patience import Patience, Verdict
from millstream.worker.segment import Item, Segment

RETRY = Retry(attempts=3, delay=timedelta(seconds=1))


def items(keys: str) -> list[Item]:
    part = Segment(make_batch([Event(topic="t", key=key) for key in keys]))
    return [(part, index) for index in range(len(keys))]


def give_up(patience: Patience, item: Item) -> None:
    while patience.failed(item, final=False).seconds is not None:
        pass


def test_event_is_tried_as_often_as_the_handler_says() -> None:
    patience, (event,) = Patience(RETRY), items("a")
    assert [patience.failed(event, final=False) for _ in range(3)] == [
        Verdict(1, 1.0),
        Verdict(2, 2.0),
        Verdict(3, None),
    ]


def test_what_cannot_be_helped_is_given_up_at_once_and_is_not_its_keys_fault() -> None:
    patience, (event, second, *others) = Patience(RETRY), items("aabbbb")
    assert patience.failed(event, final=True) == Verdict(1, None)
    patience.succeeded(others)
    assert patience.failed(second, final=False) == Verdict(1, 1.0)


def test_further_events_of_a_key_that_was_given_up_are_tried_once_while_others_succeed() -> None:
    patience, (first, second, third, *others) = Patience(RETRY), items("aaabbbbbb")
    patience.failed(first, final=False)
    patience.succeeded(others)
    give_up(patience, first)
    assert patience.is_last_try([second])
    assert patience.failed(second, final=False) == Verdict(1, None)
    assert patience.failed(third, final=False) == Verdict(1, None)


def test_key_whose_event_succeeds_has_its_tries_again() -> None:
    patience, (first, second, third, *others) = Patience(RETRY), items("aaabbbbbb")
    give_up(patience, first)
    patience.succeeded(others)
    patience.succeeded([second])
    assert not patience.is_last_try([third])
    assert patience.failed(third, final=False) == Verdict(1, 1.0)


def test_no_key_is_hopeless_while_the_handler_fails_altogether() -> None:
    patience, (first, second, other, *still_under_way) = Patience(RETRY), items("aabcc")
    patience.succeeded(still_under_way)
    patience.failed(first, final=False)
    give_up(patience, other)
    give_up(patience, first)
    assert not patience.is_last_try([second])
    assert patience.failed(second, final=False) == Verdict(1, 1.0)


@pytest.mark.parametrize("attempts", [1, 2])
def test_last_try_is_known_before(attempts: int) -> None:
    patience, (event, other) = Patience(Retry(attempts=attempts)), items("ab")
    assert patience.is_last_try([event, other]) == (attempts == 1)
    patience.failed(event, final=False)
    assert patience.is_last_try([event, other])


def test_attempts_of_a_partition_that_is_gone_are_forgotten() -> None:
    patience, (event,) = Patience(RETRY), items("a")
    patience.failed(event, final=False)
    event[0].closed = True
    patience.drop()
    assert patience.attempts == []


def test_memory_of_failing_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.worker.patience._FAILING_KEYS", 2)
    patience, events = Patience(Retry(attempts=1)), items("abcd")
    for event in events[:3]:
        give_up(patience, event)
    assert len(patience._runs) == 2
