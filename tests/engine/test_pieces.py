import threading

import pyarrow as pa
import pytest

from millstream.engine.pieces import Pieces

PIECES = [pa.table({"n": [number]}) for number in range(4)]
SECONDS = 60  # for what never happens


def test_those_that_there_are_do_the_work_while_another_one_is_made() -> None:
    worked = threading.Event()

    def make() -> str:
        assert worked.wait(SECONDS)
        return "second"

    pieces = Pieces("first", make, threads=2)
    assert pieces.each(lambda one, piece: (one, piece["n"][0].as_py()), PIECES) == [("first", n) for n in range(4)]
    worked.set()

    both = threading.Barrier(2)

    def work(one: str, piece: pa.Table) -> str:
        both.wait(SECONDS)  # until another one is at it, too
        return one

    assert set(pieces.each(work, PIECES[:2])) == {"first", "second"}


def test_what_could_not_be_made_is_told_once_and_tried_again() -> None:
    tries: list[int] = []
    made = threading.Event()

    def make() -> str:
        tries.append(len(tries))
        if len(tries) == 1:
            raise MemoryError("no room")
        made.set()
        return "second"

    pieces = Pieces("first", make, threads=2)
    told = 0
    while not made.is_set():
        try:
            assert set(pieces.each(lambda one, _: one, PIECES)) <= {"first", "second"}
        except MemoryError:
            told += 1
    assert (told, tries) == (1, [0, 1])


def test_a_call_that_fails_leaves_what_it_had_to_the_next_one() -> None:
    pieces = Pieces("first", lambda: "second", threads=2)

    def fail(one: str, piece: pa.Table) -> str:
        raise ValueError(one)

    for _ in range(5):
        with pytest.raises(ValueError):
            pieces.each(fail, PIECES)
    assert len(pieces.each(lambda one, _: one, PIECES)) == 4
