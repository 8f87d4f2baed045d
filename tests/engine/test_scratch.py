"""The room for tables: parts of a file that are taken and free, and errors of the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.depth import examples

from millstream.engine.scratch import Held, Room, Scratch
from millstream.errors import ScratchError


def table(number: int, rows: int) -> pa.Table:
    return pa.table({"n": [number] * rows, "text": [str(number) * 10] * rows})


@settings(max_examples=examples(150), deadline=None)
@given(
    memory=st.sampled_from([0, 10_000, 100_000]),
    acts=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3000), st.integers(0, 20)), max_size=30),
)
def test_what_is_held_is_what_was_put_there_and_balances(memory: int, acts: list[tuple[int, int, int]]) -> None:
    """Two queries hold tables and let them go, in any order."""
    scratch = Scratch(memory)
    rooms = (Room(scratch), Room(scratch))
    held: list[tuple[int, Held, pa.Table]] = []
    for number, (room, rows, place) in enumerate(acts):
        held.append((room, rooms[room].hold(table(number, rows)), table(number, rows)))
        if place < len(held):
            held.pop(place)[1].let_go()
        assert all(one.table.equals(expected) for _, one, expected in held)
        assert scratch.memory <= memory
        assert (scratch.memory, scratch.disk) == (sum(r.memory for r in rooms), sum(r.disk for r in rooms))
        for which in (0, 1):
            assert rooms[which].memory + rooms[which].disk == sum(one.size for its, one, _ in held if its == which)
    for _, one, _ in held:
        one.let_go()
        one.let_go()  # which changes nothing
    assert (scratch.memory, scratch.disk, rooms[0].memory, rooms[0].disk) == (0, 0, 0, 0)
    assert scratch._file is None or os.fstat(scratch._file.number).st_size == 0


def test_file_has_no_name_and_free_parts_are_taken_again(tmp_path: Path) -> None:
    room = Room(Scratch(0, tmp_path))
    first, second = room.hold(table(1, 5000)), room.hold(table(2, 100))
    assert list(tmp_path.iterdir()) == []
    first.let_go()
    again = [room.hold(table(3, 100)), room.hold(table(4, 100))]
    assert second._place._offset > max(one._place._offset for one in again)  # type: ignore[union-attr]


def test_full_disk_is_told_with_the_mend_and_takes_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    room = Room(scratch := Scratch(0, tmp_path))

    def full(file: int, length: int, real: Callable[[int, int], None] = os.truncate) -> None:
        if length:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, length)

    with monkeypatch.context() as patch:
        patch.setattr("os.truncate", full)
        with pytest.raises(ScratchError, match=r"no room for it in .*No space left.*state_memory"):
            room.hold(table(2, 5000))
    assert room.disk == scratch.disk == 0
    assert room.hold(table(2, 5000)).table.equals(table(2, 5000))


def test_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScratchError, match=f"no room for it in {tmp_path}/nowhere"):
        Room(Scratch(0, tmp_path / "nowhere")).hold(table(1, 1))
