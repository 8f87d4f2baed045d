"""Order per key: never two events of a key at a time, and each key's events in the order in which they came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.support.streams import make_batch

from millstream.event import Event
from millstream.worker.lanes import Lanes, Take
from millstream.worker.segment import Item, Segment, key_of


def segment(keys: str, first: int = 0, partition: int = 0) -> Segment:
    """A segment with an event for each letter, which is its key."""
    events = [Event(topic="t", key=key) for key in keys]
    return Segment(make_batch(events, range(first, first + len(keys)), partition=partition))


def keys(take: Take | None) -> str:
    return "" if take is None else "".join(key_of(item) for item in take.items)


def offsets(take: Take | None) -> list[int]:
    return [] if take is None else [part.offsets[index] for part, index in take.items]


def given_lanes(text: str) -> Lanes:
    lanes = Lanes()
    lanes.add(segment(text))
    return lanes


def test_events_of_a_busy_key_wait_and_others_pass() -> None:
    lanes = given_lanes("aabac")
    first, second, third = lanes.take(1), lanes.take(1), lanes.take(1)
    assert [offsets(take) for take in (first, second, third, lanes.take(1))] == [[0], [2], [4], []]
    assert first is not None
    lanes.finish(first)
    assert offsets(lanes.take(9)) == [1, 3]


def test_one_take_may_hold_many_events_of_a_key() -> None:
    lanes = given_lanes("aaba")
    assert offsets(lanes.take(3)) == [0, 1, 2]
    assert lanes.take(3) is None


def test_event_that_has_to_be_tried_again_blocks_its_key_only() -> None:
    lanes = given_lanes("abab")
    take = lanes.take(2)
    assert take is not None
    failed = take.items[0]
    lanes.finish(take, again=[failed])
    assert offsets(lanes.take(9)) == [3]
    lanes.retry(failed)
    assert offsets(lanes.take(9)) == [0, 2]


def test_events_that_were_not_begun_are_next_in_their_keys() -> None:
    lanes = given_lanes("aabb")
    take = lanes.take(3)
    assert take is not None
    assert keys(take) == "aab"
    lanes.add(segment("ab", 4))
    lanes.finish(take, left=take.items[1:])
    again = lanes.take(9)
    assert [offset for offset in offsets(again) if offset in (1, 4)] == [1, 4]
    assert [offset for offset in offsets(again) if offset in (2, 3, 5)] == [2, 3, 5]


def test_dropped_events_are_forgotten_and_their_keys_free() -> None:
    lanes = Lanes()
    gone, stays = segment("aabcd", partition=0), segment("eef", partition=1)
    lanes.add(gone)
    lanes.add(stays)
    held, failed = lanes.take(1), lanes.take(1)
    assert held is not None
    assert failed is not None
    lanes.finish(failed, again=failed.items)
    gone.closed = True
    lanes.drop()
    assert offsets(lanes.take(9)) == [0, 1, 2]  # of partition 1
    lanes.retry(failed.items[0])
    assert lanes.take(9) is None
    lanes.finish(held)
    lanes.add(segment("ab", 9))  # the partition came back
    assert offsets(lanes.take(9)) == [9, 10]


class _Model:
    """Drives lanes at random, and checks the promise at every step."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self.added: list[Item] = []
        self.done: list[Item] = []
        self.takes: list[Take] = []
        self.waiting: list[Item] = []

    def add(self, text: str) -> None:
        new = segment(text, len(self.added))
        self.added += [(new, index) for index in range(len(text))]
        self.lanes.add(new)

    def take(self, limit: int) -> bool:
        take = self.lanes.take(limit)
        if take is None:
            return False
        assert 1 <= len(take.items) <= limit
        held = {key for other in self.takes for key in other.keys} | {key_of(item) for item in self.waiting}
        assert not held & set(take.keys), "a key is busy twice"
        self.takes.append(take)
        return True

    def finish(self, number: int, fails: set[int], reached: int) -> None:
        """Handle the first events of a take, some of which fail; later ones of a key that failed are left."""
        take = self.takes.pop(number % len(self.takes))
        again: list[Item] = []
        left: list[Item] = []
        for place, item in enumerate(take.items):
            if place >= max(reached, 1) or key_of(item) in {key_of(other) for other in again}:
                left.append(item)
            elif place in fails:
                again.append(item)
            else:
                self.done.append(item)
        self.waiting += again
        self.lanes.finish(take, again=again, left=left)

    def retry(self, number: int) -> None:
        self.lanes.retry(self.waiting.pop(number % len(self.waiting)))

    def finish_everything(self) -> None:
        while self.takes or self.waiting or self.take(3):
            while self.waiting:
                self.retry(0)
            while self.takes:
                self.finish(0, set(), 3)

    def check(self) -> None:
        def by_key(items: list[Item]) -> dict[str, list[int]]:
            found: dict[str, list[int]] = {}
            for part, index in items:
                found.setdefault(part.keys[index], []).append(part.offsets[index])
            return found

        assert by_key(self.done) == by_key(self.added)


_STEPS = st.one_of(
    st.tuples(st.just("add"), st.text("abc", min_size=1, max_size=6)),
    st.tuples(st.just("take"), st.integers(1, 4)),
    st.tuples(st.just("finish"), st.integers(0, 3), st.sets(st.integers(0, 3)), st.integers(0, 4)),
    st.tuples(st.just("retry"), st.integers(0, 3)),
)


@given(st.lists(_STEPS, max_size=40))
def test_every_event_is_done_once_and_in_order_whatever_fails(steps: list[tuple[object, ...]]) -> None:
    model = _Model()
    for name, *arguments in steps:
        if (name == "finish" and not model.takes) or (name == "retry" and not model.waiting):
            continue
        getattr(model, str(name))(*arguments)
    model.finish_everything()
    model.check()
